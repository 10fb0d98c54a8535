"""A net to work with from Python: its files, its images, runs on any target, comparison, energy and placement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spikegate.api.paths import as_path
from spikegate.deploy.bundle import Bundle, load_images, open_export

if TYPE_CHECKING:
    from spikegate.deploy.agreement import Agreement
    from spikegate.engine.record import Record
    from spikegate.formats.event_host import EventHost
    from spikegate.formats.host import Host
    from spikegate.graph.ir import Graph
    from spikegate.hw_sim.chip.hardware import Hardware
    from spikegate.hw_sim.energy.pricing import Energy

TargetName = Literal["int", "lava", "torch"]
MappingName = Literal["op", "block", "chip"]
TimingName = Literal["algorithmic", "loihi"]
ScheduleName = Literal["auto", "pipelined", "wait"]


def load(net: str | Path | None = None) -> Net:
    """Open an exported net: ``"zoo:<name>"``, an export folder, the run that holds one, or None for the newest under runs/.

    Raises
    ------
    DeployError
        No such net, or files that are missing or damaged.
    """
    return Net(open_export(None if net is None else as_path("net", net)))


class Net:
    """An exported net. Made by `load`; nothing is written to disk by any method.

    Attributes
    ----------
    folder : where model.net, embedding.onnx and manifest.json lie
    graph : the integer ops and their edges, as they run on chip
    manifest : what the export says of itself: name, model, data set, class labels, ...
    host : the embedding that runs on the host; ``host.encode(images)`` gives the integers that enter the chip
    """

    folder: Path
    graph: Graph
    manifest: dict[str, Any]
    host: Host | EventHost

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.folder, self.graph, self.manifest, self.host = bundle.folder, bundle.graph, bundle.manifest, bundle.host

    def __repr__(self) -> str:
        m = self.manifest
        return f"<Net {m['name']}: {m['model']} on {m['dataset']}, {len(self.graph.ops)} ops, {self.graph.timesteps} timesteps>"

    def images(self, split: Literal["test", "validation", "train"] = "test", n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first `n` images of a part of the net's data set, uint8 [N, channels, height, width], and labels, int64 [N];
        of event recordings their frames, uint8 [N, T, 2, height, width].

        `n` None: all; of test those that come with the net, if any do.

        Raises
        ------
        DeployError
            Data that is not at hand, or more images than there are.
        """
        whole = None if split == "test" else split
        found = load_images(self._bundle, whole if n is None else f"{split}:{n}")
        return found.x, found.y

    def run(self, images: np.ndarray, *, labels: np.ndarray | None = None, target: TargetName = "int", mapping: MappingName | None = None,
            timing: TimingName = "algorithmic", schedule: ScheduleName = "auto", halting: bool = True, spikes: bool = False,
            batch: int | None = None) -> Record:
        """Run images, uint8 [N, channels, height, width] (or frames of events [N, T, 2, height, width]), and record what happens.

        Parameters
        ----------
        labels : int [N]; with them ``record.accuracy`` is known
        target : "int", the integer reference; "lava", processes of Lava's CPU simulator (equal); "torch", the trained net
        mapping : what one Lava process holds: "op" one op, "block" the ops between two gates (gates and exit are processes of their
            own), "chip" the net, gates inside; None: block, or op with timing "loihi"
        timing, schedule : as of ``spikegate run``
        halting : False removes token gates, merging, masks and early exits
        spikes : keep every op's output in ``record.spikes``
        batch : samples in flight; changes nothing but speed

        Raises
        ------
        DeployError
            Images or options that do not fit the net, a target that is not installed, a process that failed.
        """
        from spikegate.deploy.inference import infer
        from spikegate.deploy.timing import timing_of

        at = timing_of(self.graph, timing, schedule, mapping)
        return infer(self._bundle, images, labels, target=target, at=at, halt="on" if halting else "off", spikes=spikes, batch=batch)

    def compare(self, images: np.ndarray, *, targets: Sequence[TargetName] = ("int", "lava"), mapping: MappingName | None = None,
                timing: TimingName = "algorithmic", schedule: ScheduleName = "auto", batch: int | None = None) -> Agreement:
        """Run images, uint8 [N, channels, height, width], on several targets and compare every spike, mask, logit and event counter.

        The result says ``equal``, ``spikes`` (how many were compared) and ``divergence``: the first neuron that differs, or None.

        Raises
        ------
        DeployError
            As of `run`, and targets that leave nothing to compare.
        """
        from spikegate.deploy.agreement import agreement, parse_targets
        from spikegate.deploy.timing import timing_of

        names = parse_targets(",".join(targets), 2 if timing == "algorithmic" else 1)
        return agreement(self._bundle, images, names, at=timing_of(self.graph, timing, schedule, mapping), batch=batch)

    def energy(self, record: Record, *, costs: Sequence[str | Path] = ("paper45", "loihi1-davies")) -> dict[str, Energy]:
        """Price the events of a record by cost tables, named or YAML files: table name -> energy per inference in pJ.

        An estimate for Loihi 1 and 2 as published, or for 45 nm CMOS: exact event counts times published prices. Nothing ran on a chip.

        Raises
        ------
        DeployError
            A bad cost table, or the record of another net or without events.
        """
        from spikegate.errors import DeployError
        from spikegate.hw_sim.energy.cost_tables import load_tables
        from spikegate.hw_sim.energy.ledger import NetInfo, book
        from spikegate.hw_sim.energy.pricing import price_ledger

        self._check(record)
        tables = load_tables([str(c) for c in costs])
        if not tables:
            raise DeployError("costs", "names no cost table", "give one or more, as costs=['paper45']")
        ledger = book(record, NetInfo.from_manifest(self.manifest))
        return {table.name: price_ledger(ledger, table) for table in tables}

    def place(self, record: Record | None = None, *, chip: str | Path = "loihi2", costs: Sequence[str | Path] = ("loihi2-pilotnet",),
              schedule: ScheduleName = "auto") -> Hardware:
        """Put the net on the cores of a chip profile ("loihi1", "loihi2" or a YAML file): an estimate, nothing ran on a chip.

        The result says ``fits``, ``mapping.cores``, ``mapping.chips``, ``violations``; with a `record` of this net also ``times`` (ns)
        and ``energies`` (pJ).

        Raises
        ------
        DeployError
            A bad chip profile or cost table, a schedule that this net cannot have, the record of another net.
        """
        from spikegate.hw_sim.chip.hardware import on_chip
        from spikegate.hw_sim.chip.profile import load_chip
        from spikegate.hw_sim.chip.workload import unrun, workload_of
        from spikegate.hw_sim.energy.cost_tables import load_tables

        if record is not None:
            self._check(record)
        work = unrun(self.graph) if record is None else workload_of(self.graph, record)
        tables = load_tables([str(c) for c in costs])
        return on_chip(work, load_chip(str(chip)), tables, schedule=schedule, host_macs=int(self.manifest["host_macs"]))

    def _check(self, record: Record) -> None:
        """A record with events of this net, with or without its gates."""
        from spikegate.errors import DeployError

        unknown = [name for name in record.ops if name not in self.manifest["dense_ops"]]
        if unknown:
            raise DeployError("record", f"is of another net: op {unknown[0]} is unknown to {self.manifest['name']}", "run this net first")
        if not record.meta.get("counts", True):
            raise DeployError("record", "has no events", "run with target='int' or 'lava'")
