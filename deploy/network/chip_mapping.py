"""Chip time: which units share a Lava process, which processes it receives from, and the messages of one chip step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikegate.deploy.network.mapping import DONE, INJECTOR, Plan, Port, partition
from spikegate.deploy.network.messages import Layout
from spikegate.engine.chip_time.chip_run import Arrivals, deciding
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.integer import Chunk
from spikegate.graph.ir import INPUT, Payload

NOTHING = np.zeros(0, np.uint8)


class Frames(Layout):
    """One message for each chip step: flags, then the latest output of each op that others need, with its own header.

    Ops of one process are at different timesteps, so they cannot share a header.
    """

    def __init__(self, sender: str, slots: int, signals: dict[str, tuple[tuple[int, ...], Payload]]) -> None:
        super().__init__(sender, slots, {})
        self.frames = {name: Layout(sender, slots, {name: described}) for name, described in signals.items()}
        self.head = 4 * (1 + len(signals))
        self.nbytes = self.head + sum(-(-layout.nbytes // 4) * 4 for layout in self.frames.values())

    def empty(self, flags: int = 0) -> np.ndarray:
        return self.write(flags, {})

    def write(self, flags: int, outs: Arrivals) -> np.ndarray:
        """Message with those of the outputs that have a frame; the others' frames are empty."""
        parts = [layout.pack(0, outs[name]) if name in outs else NOTHING for name, layout in self.frames.items()]
        sizes = [-(-len(part) // 4) * 4 for part in parts]
        message = np.zeros(self.head + sum(sizes), np.uint8)
        message[: self.head].view(np.int32)[:] = [flags, *map(len, parts)]
        at = self.head
        for part, size in zip(parts, sizes):
            message[at : at + len(part)] = part
            at += size
        return message

    def _parts(self, message: np.ndarray) -> Iterator[tuple[str, Layout, np.ndarray]]:
        at = self.head
        for (name, layout), size in zip(self.frames.items(), message[: self.head].view(np.int32)[1:].tolist()):
            if size:
                yield name, layout, message[at : at + size]
            at += -(-size // 4) * 4

    def read(self, message: np.ndarray) -> tuple[int, Arrivals]:
        """Flags, and the outputs of the ops that had any in this chip step."""
        found = {name: layout.unpack(part)[1] for name, layout, part in self._parts(message)}
        return int(message[:4].view(np.int32)[0]), {name: chunk for name, chunk in found.items() if len(chunk.rows)}

    def warm(self) -> None:
        for layout in self.frames.values():
            layout.warm()

    def described(self, message: np.ndarray) -> list[np.ndarray]:
        found = [table for _, layout, part in self._parts(message) for table in layout.described(part)]
        return [np.concatenate(found)] if found else []


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
    heard = {p: [q for q in units if any(home[s] == p for s in needs[q])] for p in units}
    plans = {INJECTOR: Plan(INJECTOR, [], [last], [Port(frames(INJECTOR, [INPUT]), list(units))])}
    for p, names in units.items():
        ports = [Port(frames(p, names), heard[p])] if heard[p] else []
        plans[p] = Plan(p, names, [INJECTOR, *sorted({home[s] for s in needs[p]})], ports, exits=p == last)
    return plans
