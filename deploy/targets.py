"""The ways to run the same images: "int" (the integer reference), "lava" (processes), "torch" (the trained net)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from spikegate.command.extras import needs
from spikegate.engine import integer
from spikegate.engine.chip_time import chip_run
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.memory import keep_memory
from spikegate.engine.record import Record
from spikegate.graph.ir import DeployError, Graph

TARGETS = ("torch", "int", "lava")
BATCH = {"int": 64, "lava": 8, "torch": 256}
IMPORTED = "import.json"  # convert/from_spikingjelly.py leaves it in the run folder
Progress = Callable[[int], None]


class Target:
    """Context manager: `run` images and their embedding through one target, any number of times.

    Parameters
    ----------
    name : one of `TARGETS`
    run_folder : where the trained net lies; only torch reads it
    batch : samples in flight, None for the target's default; mapping, protocol, patience_s : see `network.Network`
    schedule : None for algorithmic timing; torch knows no other
    trace : keep the messages of a run on Lava in ``network.messages``
    device : where torch computes, as `train.device`; counts : torch's signals are counted, too (comparisons need no counts)
    """

    def __init__(self, name: str, graph: Graph, run_folder: Path, batch: int | None = None, mapping: str = "block",
                 protocol: str = "async", patience_s: float | None = None, schedule: Schedule | None = None, trace: bool = False,
                 device: str | None = None, counts: bool = False) -> None:
        if name not in TARGETS:
            raise DeployError("target", f"{name!r} is unknown", f"use {', '.join(TARGETS)}")
        if batch is not None and batch < 1:
            raise DeployError("--batch", f"{batch} is no number of samples", "use 1 or more")
        if trace and name != "lava":
            raise DeployError("--trace", f"target {name} sends no messages", "use --target lava")
        if device is not None and name != "torch":
            raise DeployError("--device", f"target {name} computes on the processor", "use --target torch, or leave --device out")
        self.device, self.counts = device or "cpu", counts
        self.name, self.graph, self.run_folder, self.schedule = name, graph, run_folder, schedule
        self.label = name if schedule is None or name == "torch" else f"{name}@{schedule.name}"
        self.batch = batch or BATCH.get(name, 64)
        self.network = None
        keep_memory()
        if name == "lava":
            from spikegate.deploy.network.network import PATIENCE_S, Network

            self.network = Network(graph, mapping, self.batch, protocol, patience_s or PATIENCE_S, schedule, trace=trace)

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        if self.network is not None:
            self.network.close()

    def run(self, images: np.ndarray, embedded: np.ndarray, labels: np.ndarray | None = None, *,
            spikes: bool | Collection[str] = False, progress: Progress | None = None) -> Record:
        """Record of the images uint8 [N, channels, height, width], whose embedding is int32 [N, *graph.input_shape].

        `spikes` as of `integer.run`; Lava keeps all ops' output where it names some.
        """
        if self.network is not None:
            return self.network.run(embedded, labels, spikes=bool(spikes), progress=progress)
        if self.name == "int" and self.schedule is not None:
            return chip_run.run(self.schedule, embedded, labels, batch=self.batch, spikes=spikes, progress=progress)
        if self.name == "int":
            return integer.run(self.graph, embedded, labels, batch=self.batch, spikes=spikes, progress=progress)
        with needs("target torch"):
            return self._torch(images, embedded, labels, spikes, progress)

    def _torch(self, images: np.ndarray, embedded: np.ndarray, labels: np.ndarray | None, spikes: bool | Collection[str],
               progress: Progress | None) -> Record:
        if (self.run_folder / IMPORTED).is_file():  # its torch form is the graph's own twin
            from spikegate.convert.spikingjelly.twin import trace_graph

            if self.counts:
                raise DeployError("--target torch", "an imported net has no trained form that counts events", "use --target int")

            return trace_graph(self.graph, embedded)
        from spikegate.train.tracing import trace

        return trace(self.run_folder, images, self.graph, device=self.device, batch=self.batch, labels=labels, spikes=spikes,
                     counts=self.counts, progress=progress)
