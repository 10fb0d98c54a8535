"""Whether targets agree: the same images through several targets, some samples at a time, and every value compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from spikegate.command import cli
from spikegate.command.runs import run_of, trained_in
from spikegate.data.shipped import parse_data
from spikegate.deploy.bundle import Bundle, load_images, open_export, spike_bytes
from spikegate.deploy.divergence import Divergence, first_divergence, tally
from spikegate.deploy.inference import PATIENCE_S, bar
from spikegate.deploy.targets import TARGETS, Target
from spikegate.deploy.timing import Timing, described, timing_of
from spikegate.files import atomic
from spikegate.graph.ir import DeployError, Graph

SAMPLES_AT_A_TIME = 256  # samples compared at a time, at most
MEMORY = 1 << 30  # bytes of spikes that one target may hold


@dataclass(frozen=True)
class Agreement:
    """What a comparison found.

    Attributes
    ----------
    targets : names; the first is what the others were compared with
    totals : op name -> int64 [values compared, spikes among them, mismatches]
    divergence : the first difference, or None
    """

    targets: list[str]
    totals: dict[str, np.ndarray]
    divergence: Divergence | None

    @property
    def equal(self) -> bool:
        return self.divergence is None

    @property
    def spikes(self) -> int:
        """Spikes compared, each counted once."""
        return int(sum(total[1] for total in self.totals.values()))

    @property
    def values(self) -> int:
        """Neuron timesteps compared."""
        return int(sum(total[0] for total in self.totals.values()))

    @property
    def ops(self) -> dict[str, dict[str, int]]:
        """Values, spikes and mismatches of each op."""
        return {op: dict(zip(("values", "spikes", "mismatches"), total.tolist())) for op, total in self.totals.items()}


def parse_targets(text: str, least: int = 2) -> list[str]:
    """``"torch,int"`` as a list of at least so many different targets."""
    names = [n.strip() for n in text.split(",")]
    unknown = [n for n in names if n not in TARGETS]
    if unknown:
        raise DeployError("--targets", f"no target {unknown[0]!r}", f"use {', '.join(TARGETS)}, separated by commas")
    if len(names) < least or len(set(names)) < len(names):
        raise DeployError("--targets", f"{text!r} leaves nothing to compare", "name two or three different ones, as in --targets int,lava")
    return names


def compare(run: Path | None = None, *, targets: str = "torch,int,lava", data: str = "test:64", data_path: Path | None = None,
            timing: str = "algorithmic", schedule: str = "auto", mapping: str | None = None, batch: int | None = None,
            protocol: str | None = None, patience: float = PATIENCE_S, as_json: bool = False, output: Path | None = None) -> bool:
    """Run and print; whether all targets agree. Parameters as the options of deploy/compare.py."""
    wanted = parse_targets(targets, 2 if timing == "algorithmic" else 1)
    parse_data(data)
    bundle = open_export(run)
    at = timing_of(bundle.graph, timing, schedule, mapping, protocol)
    opened = load_images(bundle, data, data_path)
    images = opened.x
    with bar(" = ".join(wanted), len(images)) as progress:
        agreed = agreement(bundle, images, wanted, at=at, batch=batch, patience=patience,
                           progress=lambda n: progress.advance(progress.task_ids[0], n))
    totals, names, found = agreed.totals, agreed.targets, agreed.divergence
    result = {"net": bundle.manifest["sha256"].get("model.net"), "targets": names, "images": len(images), "data": data,
              "shipped": opened.shipped, "equal": agreed.equal, "spikes": agreed.spikes, "values": agreed.values, "ops": agreed.ops,
              "divergence": None if found is None else asdict(found),
              "timing": {"timing": "algorithmic"} if at.schedule is None else at.schedule.facts()}
    if "lava" in wanted:
        result |= {"mapping": at.mapping, "gates": at.gates}
    name = "compare.json" if at.schedule is None else "compare-loihi.json"
    with atomic(output or run_of(bundle.folder) / "deploy" / name) as part:
        part.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    if as_json:
        cli.print_json(result)
        return found is None
    _print(totals, names)
    if at.schedule is not None:
        cli.console.print(described(at.schedule.facts()), soft_wrap=True)
    if found is not None:
        cli.console.print(str(found), style="red", soft_wrap=True)
        return False
    counting = [n for n in names if n != "torch"]
    where = f"; Lava in {at.named}" if "lava" in wanted else ""
    rest = "alive masks, logits and exit steps" + (f", and event counters of {' and '.join(counting)}" if len(counting) > 1 else "")
    cli.console.print(f"equal: {agreed.spikes:,} spikes compared over {agreed.values:,} neuron timesteps of {len(totals)} ops and "
                      f"{opened.described} ({' = '.join(names)}); so are {rest}{where}", soft_wrap=True)
    return True


def agreement(bundle: Bundle, images: np.ndarray, targets: Sequence[str] = ("int", "lava"), *, at: Timing | None = None,
              batch: int | None = None, patience: float = PATIENCE_S, progress: Callable[[int], None] | None = None) -> Agreement:
    """Images uint8 [N, channels, height, width] through several targets, every value compared; nothing is printed or written.

    Raises
    ------
    DeployError
        Images that do not fit the net, a target that is not installed, a process that failed.
    """
    at = at or timing_of(bundle.graph)
    embedded = bundle.host.encode(images)
    with ExitStack() as stack:
        ways = [(n, at) for n in targets]
        if at.schedule is not None:  # what is re-indexed is compared with the timing that defines the semantics
            ways = [("int", Timing(None, at.mapping, at.protocol)), *ways]
        trained = trained_in(bundle.folder)
        made = (Target(n, bundle.graph, trained, batch, patience_s=patience, **way.options) for n, way in ways)
        ready = [stack.enter_context(target) for target in made]
        totals, found = _compare(bundle.graph, ready, images, embedded, progress or (lambda n: None))
    return Agreement([target.label for target in ready], totals, found)


def _compare(graph: Graph, targets: list[Target], images: np.ndarray, embedded: np.ndarray, advance) -> tuple[
        dict[str, np.ndarray], Divergence | None]:
    """Totals by op (values and spikes once, mismatches of all pairs), up to the samples with the first divergence."""
    each = max(1, min(SAMPLES_AT_A_TIME, MEMORY // spike_bytes(graph, 1)))
    totals = {op: np.zeros(3, np.int64) for op in graph.ops}
    for start in range(0, len(images), each):
        part = slice(start, start + each)
        records = [target.run(images[part], embedded[part], spikes=True) for target in targets]
        found = []
        # Torch counts no events, so counters are compared between the others, whichever comes first.
        pairs = [(0, k) for k in range(1, len(records))] + ([(1, 2)] if len(records) == 3 and targets[0].schedule is None else [])
        for i, j in pairs:
            for op, total in tally(records[i], records[j]).items():
                totals[op] += total if (i, j) == (0, 1) else total * [0, 0, 1]  # each spike is counted once
            parted = first_divergence(records[i], records[j], (targets[i].label, targets[j].label))
            if parted is not None:
                found.append(parted.moved(start))
        if found:
            return totals, min(found, key=lambda d: (d.sample, d.timestep, list(graph.ops).index(d.op)))
        advance(len(images[part]))
    return totals, None


def _print(totals: dict[str, np.ndarray], names: list[str]) -> None:
    table = Table(title=" = ".join(names) + "?", box=None)
    table.add_column("op")
    for column in ("neuron timesteps", "spikes", "mismatches"):
        table.add_column(column, justify="right")
    for op, (values, spikes, mismatches) in totals.items():
        table.add_row(op, f"{values:,}", f"{spikes:,}", f"{mismatches:,}", style="red" if mismatches else None)
    cli.console.print(table)
