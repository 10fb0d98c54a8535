"""Chip time: which units share a Lava process, which processes it receives from, and the messages of one chip step."""

from __future__ import annotations

import numpy as np

from spikegate.deploy.network.mapping import DONE, INJECTOR, Plan, partition
from spikegate.deploy.network.messages import Layout
from spikegate.engine.chip_time.chip_run import Arrivals, deciding
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.integer import Chunk
from spikegate.graph.ir import INPUT, Payload


class Frames(Layout):
    """One message for each chip step: flags, then the latest output of each op that others need, with its own header.

    Ops of one process are at different timesteps, so they cannot share a header.
    """

    def __init__(self, sender: str, slots: int, signals: dict[str, tuple[tuple[int, ...], Payload]]) -> None:
        super().__init__(sender, slots, {})
        self.frames: dict[str, tuple[Layout, int]] = {}
        self.nbytes = 4
        for name, described in signals.items():
            layout = Layout(sender, slots, {name: described})
            self.frames[name] = (layout, self.nbytes)
            self.nbytes += layout.nbytes

    def empty(self, flags: int = 0) -> np.ndarray:
        return self.write(flags, {})

    def write(self, flags: int, outs: Arrivals) -> np.ndarray:
        """Message with those of the outputs that have a frame; the others' frames are without samples."""
        message = np.zeros(self.nbytes, np.uint8)
        message[:4].view(np.int32)[0] = flags
        for name, (layout, at) in self.frames.items():
            message[at : at + layout.nbytes] = layout.pack(0, outs[name]) if name in outs else layout.empty()
        return message

    def read(self, message: np.ndarray) -> tuple[int, Arrivals]:
        """Flags, and the outputs of the ops that had any in this chip step."""
        found: Arrivals = {}
        for name, (layout, at) in self.frames.items():
            _, chunk = layout.unpack(message[at : at + layout.nbytes])
            if len(chunk.rows):
                found[name] = chunk
        return int(message[:4].view(np.int32)[0]), found


def decision_layout(sender: str, slots: int) -> Layout:
    """Messages from the deciding process to the injector: which samples are done."""
    return Layout(sender, slots, {DONE: ((), Payload(0, 1))})


def decision(layout: Layout, chunk: Chunk, done: np.ndarray) -> np.ndarray:
    """Which samples were found to be done in a chip step, bool [A]."""
    return layout.pack(0, Chunk(chunk.rows, chunk.sample, chunk.t, {DONE: done}))


def plan(schedule: Schedule, mapping: str, slots: int) -> dict[str, Plan]:
    """All processes, the injector first. `Plan.ops` are units; every process receives from the injector, whose strobe is their clock.

    A process sends what it computed one chip step ago before it receives, so processes may depend on each other in cycles.
    """
    graph = schedule.graph
    units = {p: [n for n in names if n in schedule.units] for p, names in partition(graph, mapping).items()}
    units = {p: names for p, names in units.items() if names}
    home = {n: p for p, names in units.items() for n in names}
    needs: dict[str, set[str]] = {p: set() for p in units}  # process -> ops of other processes that it needs
    for p, names in units.items():
        sources = {line.source for n in names for line in schedule.units[n].lines}
        needs[p] = {s for s in sources if s != INPUT and home[s] != p}

    def frames(sender: str, names: list[str]) -> Frames:
        wanted = {s for sources in needs.values() for s in sources}
        return Frames(sender, slots, {n: (graph.shape_of(n), graph.payload_of(n)) for n in names if n in wanted or n == INPUT})

    last = home[deciding(schedule)]
    plans = {INJECTOR: Plan(INJECTOR, [], [last], frames(INJECTOR, [INPUT]))}
    for p, names in units.items():
        plans[p] = Plan(p, names, [INJECTOR, *sorted({home[s] for s in needs[p]})], frames(p, names), exits=p == last)
    return plans
