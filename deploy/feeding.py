"""A net that one process holds and in which a timestep decides about the next: that process decides by itself.

The injector sends samples ahead, many in a message, and awaits nothing. The process takes the next sample when a slot is free, so that
neither a timestep nor an exit costs a message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from convert.engine import Beat, Stage, beats
from convert.injector import Slots, fit, free_running
from convert.ir import INPUT, Graph
from deploy.leaf import Leaf, Receive, Send
from deploy.mapping import INJECTOR, Plan
from deploy.messages import END, FIRST, FLUSH, SPIKES, STEPWISE, Layout
from deploy.watchdog import COMPUTE, IDLE, RECV, SEND, STOPPED, Pulse

BYTES, SAMPLES = 1 << 17, 64  # most in a message
Hear = Callable[[], tuple[int, Beat]]


def suits(graph: Graph, plans: dict[str, Plan]) -> bool:
    """Whether one process besides the injector holds the net, and a timestep decides about the next."""
    return len(plans) == 2 and not free_running(graph)


def plan(graph: Graph, plans: dict[str, Plan]) -> dict[str, Plan]:
    """The same processes, the injector without anyone to wait for."""
    signal = {INPUT: (graph.input_shape, graph.input_payload)}
    one = Layout(INJECTOR, 1, signal)
    slots = max(1, min(SAMPLES, BYTES // one.nbytes))
    (stage,) = (p for n, p in plans.items() if n != INJECTOR)
    return {INJECTOR: Plan(INJECTOR, [], [], Layout(INJECTOR, slots, signal), reports=False), stage.name: stage}


class SourceLeaf(Leaf):
    """Sends the parent's samples on, row by row: a sample, or a timestep of one that comes step by step."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, jobs: Connection) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.jobs, self.feedback = jobs, Layout(INJECTOR, 1, {})

    def beat(self, receive: Receive, send: Send) -> bool:
        """All samples of a run; False once the parent ends the network."""
        layout = self.plan.layout
        self.pulse.enter(IDLE)
        job = self.jobs.recv()
        if job is None:
            send(layout.empty(END))
            self.pulse.enter(STOPPED)
            return False
        self.pulse.enter(COMPUTE, -1)
        inputs, spikes = job
        stepwise = fit(self.graph, inputs)
        steps = self.graph.timesteps if stepwise else 1
        values = inputs.reshape(-1, *self.graph.input_shape)
        flags = FIRST | (SPIKES if spikes else 0) | (STEPWISE if stepwise else 0)
        for begin in range(0, len(values), layout.slots):
            rows = np.arange(begin, min(begin + layout.slots, len(values)))
            beat = Beat(rows - begin, rows // steps, rows % steps + 1, {INPUT: values[rows]})
            message = layout.pack(flags, beat)
            self.pulse.enter(SEND)
            send(message)
            self.pulse.finished()
            self.pulse.enter(COMPUTE, -1)
            flags = 0
        self.pulse.enter(SEND)
        send(layout.empty(FLUSH))
        self.pulse.finished()
        return True


class Fed(Slots):
    """Slots for the samples that messages bring: `first`, then what `hear` returns, until one says that the run is over."""

    def __init__(self, graph: Graph, width: int, stepwise: bool, first: Beat, hear: Hear) -> None:
        self.steps, self.hear, self.over = graph.timesteps if stepwise else 1, hear, False
        self.kept: dict[int, list[np.ndarray]] = {}  # rows of each sample that is here
        self.ready: deque[int] = deque()  # samples that are here and in no slot
        self._arrived(first)
        super().__init__(graph, width)

    def _arrived(self, beat: Beat) -> None:
        for sample, row in zip(beat.sample.tolist(), beat.signals[INPUT]):
            rows = self.kept.setdefault(sample, [])
            rows.append(row)
            if len(rows) == self.steps:
                self.ready.append(sample)

    def taken(self, most: int) -> list[int]:
        while len(self.ready) < most and not self.over:
            flags, beat = self.hear()
            self.over = bool(flags & FLUSH)
            self._arrived(beat)
        return [self.ready.popleft() for _ in range(min(most, len(self.ready)))]

    def values(self, sample: np.ndarray, t: np.ndarray) -> np.ndarray:
        x = np.zeros((len(sample), *self.graph.input_shape), np.int32)
        for i in np.flatnonzero(t <= self.steps):
            x[i] = self.kept[int(sample[i])][t[i] - 1]
        return x

    def advance(self, done: np.ndarray) -> np.ndarray:
        for sample in self.sample[done].tolist():
            del self.kept[sample]
        return super().advance(done)


class WholeLeaf(Leaf):
    """Runs a whole net."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, layouts: list[Layout]) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.layouts, self.feedback = layouts, Layout(plan.name, 1, {})
        self.index = {n: i for i, n in enumerate(graph.ops)}

    def beat(self, receive: Receive, send: Send, send_back: Send) -> bool:
        """All samples of a run; False once the network ends."""

        def hear() -> tuple[int, Beat]:
            self.pulse.enter(RECV)
            message = receive(0)
            self.pulse.heard()
            self.pulse.enter(COMPUTE, -1)
            return self.layouts[0].unpack(message)

        flags, first = hear()
        if flags & END:
            self.pulse.enter(STOPPED)
            return False
        stage = Stage(self.graph, self.plan.ops, self.slots)
        stage.watch, stage.cell = self._enter, self.pulse.cell
        slots = Fed(self.graph, self.slots, bool(flags & STEPWISE), first, hear)
        for beat, done in beats(slots, stage):
            self.where = None
            told = self.wanted(beat.signals, bool(flags & SPIKES))
            if self.credit in beat.signals:
                told[self.credit] = beat.signals[self.credit]
            self.reporter.add(beat, stage.events, told, done)
            self.pulse.enter(COMPUTE, -1)
        self.reporter.flush()
        self.pulse.enter(RECV)
        return True

    def _enter(self, name: str) -> None:
        self.where = name
        self.pulse.enter(COMPUTE, self.index[name])
