"""One run of a report: its figures, its place on a chip, a few samples, and how exact its events are known to be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikegate.command.runs import in_zoo, named
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError
from spikegate.hw_sim.chip.hardware import Hardware, on_chip
from spikegate.hw_sim.chip.profile import Chip
from spikegate.hw_sim.chip.workload import Workload, workload_of
from spikegate.hw_sim.energy.cost_tables import CostTable
from spikegate.hw_sim.energy.measured import Measured, find_measured, find_static, same_samples
from spikegate.hw_sim.energy.summary import Estimate, Priced, estimate
from spikegate.hw_sim.page.examples import Examples, look_at, recorded, run_again
from spikegate.hw_sim.tables.chip_tables import delay_text


@dataclass(frozen=True)
class Row:
    """A net in a comparison: what to call it, and its events and energies."""

    label: str
    net: Priced


@dataclass(frozen=True, eq=False)
class RunView:
    """One run with everything that a report shows of it.

    Attributes
    ----------
    label : short name, unique in a report
    given : how the run is named on a command line
    estimate : energies of the net, the same without halting, and its static twin, as far as recorded
    twin : label of the static twin, "" if there is none
    hardware, work : on a chip; None where it is not wanted or cannot be placed
    compared : what deploy/compare.py found for this export, None if nothing is known
    imported : layers of an imported net, each with its fidelity and agreement
    """

    label: str
    given: str
    estimate: Estimate
    twin: str
    hardware: Hardware | None
    work: Workload | None
    examples: Examples
    compared: dict[str, Any] | None
    imported: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def main(self) -> Priced:
        return self.estimate.nets[self.estimate.main]

    @property
    def net(self) -> Measured:
        return self.main.measured

    @property
    def halting(self) -> bool:
        return self.net.halting

    @property
    def baseline(self) -> str:
        """Name of what the saving is measured against."""
        saving = self.estimate.saving
        if saving is None:
            return ""
        return self.twin if saving.baseline == "static" else f"{self.label}, halting off"


def label_of(net: Measured) -> str:
    """What to call a run: its name in the zoo, or its folder's."""
    return net.export.name if in_zoo(net.export) else net.run.resolve().name


def collect(runs: list[Path | None], static: Path | None, tables: list[CostTable], *, chip: Chip | None, schedule: str = "auto",
            images: int = 6, again: bool = True) -> list[RunView]:
    """Everything that a report shows of each run, in the order given.

    Parameters
    ----------
    runs : run or export folders, ``zoo:<name>``, or None for the newest export
    static : static twin of all halting runs; if None, a static run among `runs`, then one beside the run
    chip : profile to place on; None: no placement
    images : number of samples to look at
    again : run the integer reference on them, for spikes and as a check of the record

    Raises
    ------
    DeployError
        A run without export or events, the same run twice, damaged files, a twin of other images.
    """
    nets = [find_measured(r) for r in runs]
    labels: list[str] = []
    for net in nets:
        if any(net.export.resolve() == other.export.resolve() for other in nets[: len(labels)]):
            raise DeployError(str(net.run), "is named twice", "name each run once")
        name, number = label_of(net), 2
        while name in labels:
            name, number = f"{label_of(net)} ({number})", number + 1
        labels.append(name)
    if static is not None and not any(n.halting for n in nets):
        raise DeployError("--static", f"{nets[0].run} is itself static", "give the halting run as RUN, its static twin as --static")
    statics = [n for n in nets if not n.halting]
    leading = next((n for n in nets if n.halting), nets[0])
    out = []
    for net, label in zip(nets, labels):
        twin = None
        if net.halting:
            beside = (s for s in statics if s.manifest["dataset"] == net.manifest["dataset"] and same_samples(net.record, s.record))
            twin = find_static(net, static) if static is not None else next(beside, None) or find_static(net, None)
        chosen_by = leading if same_samples(leading.record, net.record) else net  # the same images for all runs, where they can be
        out.append(view_of(net, label, twin, tables, chip=chip, schedule=schedule, images=images, again=again, chosen_by=chosen_by))
    return out


def view_of(net: Measured, label: str, twin: Measured | None, tables: list[CostTable], *, chip: Chip | None, schedule: str = "auto",
            images: int = 6, again: bool = True, chosen_by: Measured | None = None) -> RunView:
    """One run; whatever is missing becomes a note. `chosen_by` is the net by whose work the images are chosen, if not this one."""
    result = estimate(net, twin, tables)
    hardware, work, notes = None, None, list(result.notes)
    examples = recorded(net, images)
    if chip is not None or again:
        graph = read_graph(net.export / "model.net")
        work = workload_of(graph, net.record)
        if chip is not None:
            try:
                hardware = on_chip(work, chip, tables, schedule=schedule, host_macs=int(net.manifest["host_macs"]))
                notes += delay_text(hardware)
            except DeployError as e:
                if e.where == "--schedule":
                    raise
                notes.append(f"Not placed on {chip.name}. {e.where}: {e.problem}.")
        if again and images:
            try:
                examples = run_again(net, graph, *look_at(chosen_by or net, images))
            except DeployError as e:
                notes.append(f"The integer reference was not run again for this page. {e.where}: {e.problem}.")
    if examples.differs:
        notes.append(f"The record does not agree with this export on {examples.compared} images ({examples.differs}): deploy it again.")
    twin_label = "" if twin is None else label_of(twin)
    return RunView(label, named(net.export), result, twin_label, hardware, work, examples, comparison(net), layers_imported(net), notes)


def comparison(net: Measured) -> dict[str, Any] | None:
    """The result that deploy/compare.py left for this very export."""
    try:
        found = json.loads((net.run / "deploy" / "compare.json").read_text())
    except (OSError, ValueError):
        return None
    key = net.manifest["sha256"].get("model.net")
    return found if isinstance(found, dict) and key is not None and found.get("net") == key else None


def layers_imported(net: Measured) -> list[dict[str, Any]]:
    """The layers of an import's report beside this net, empty for nets that were trained here."""
    for folder in (net.run, net.export):
        try:
            found = json.loads((folder / "import.json").read_text())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return [r for r in found.get("layers", []) if isinstance(r, dict) and "fidelity" in r]
    return []


def rows(views: list[RunView]) -> list[Row]:
    """Every net to compare: the runs, each also without halting where that was recorded, and static twins that are not among the runs."""
    out: list[Row] = []
    seen = {s.net.export.resolve() for s in views}
    for s in views:
        nets = s.estimate.nets
        twin = nets.get("static")
        if twin is not None and s.estimate.main != "static" and twin.measured.export.resolve() not in seen:
            seen.add(twin.measured.export.resolve())
            out.append(Row(s.twin, twin))
        if "halt_off" in nets:
            out.append(Row(f"{s.label}, halting off", nets["halt_off"]))
        out.append(Row(s.label, s.main))
    return out
