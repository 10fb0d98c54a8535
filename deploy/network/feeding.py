"""A net in a single process: the injector streams samples to it, many in a message, without waiting for decisions.

The process itself takes the next sample when a slot is free, so that neither a timestep nor an exit costs a message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from spikegate.deploy.network.leaf import Leaf, Receive, Send, SendBack
from spikegate.deploy.network.mapping import INJECTOR, Plan, Port
from spikegate.deploy.network.messages import END, FIRST, FLUSH, SPIKES, STEPWISE, Layout
from spikegate.deploy.network.watchdog import COMPUTE, RECV, SEND, STOPPED, Pulse
from spikegate.engine.injector import Slots, fit, span_of
from spikegate.engine.integer import Chunk, Stage, chunks
from spikegate.graph.ir import INPUT, Graph

BYTES, SAMPLES = 1 << 18, 256  # most in a message
PART = 256  # samples that the parent hands over at a time, so that the first are computed while it prepares the others
NextMessage = Callable[[], tuple[int, Chunk]]


def plan(graph: Graph, plans: dict[str, Plan]) -> dict[str, Plan]:
    """The same processes, with an injector that waits for no decision."""
    signal = {INPUT: (graph.input_shape, graph.input_payload)}
    one = Layout(INJECTOR, 1, signal)
    slots = max(1, min(SAMPLES, BYTES // one.nbytes))
    (stage,) = (p for n, p in plans.items() if n != INJECTOR)
    source = Plan(INJECTOR, [], [], [Port(Layout(INJECTOR, slots, signal), [stage.name])], reports=False)
    return {INJECTOR: source, stage.name: Plan(stage.name, stage.ops, [INJECTOR], exits=True)}


class SourceLeaf(Leaf):
    """Sends the parent's samples on, row by row: a sample, or a timestep of one that comes step by step."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, jobs: Connection) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.jobs, self.feedback = jobs, Layout(INJECTOR, 1, {})

    def step(self, receive: Receive, send: Send) -> bool:
        """All samples of a run; False once the parent ends the network."""
        layout = self.plan.layout
        job = self.next_job(self.jobs, send)
        if job is None:
            return False
        flags, begin, last = FIRST | (SPIKES if job[1] else 0) | (STEPWISE if fit(self.graph, job[0]) else 0), 0, False
        steps = self.graph.timesteps if flags & STEPWISE else 1
        while not last:
            inputs, _, last = job
            values = inputs.reshape(-1, *self.graph.input_shape)
            for at in range(0, len(values), layout.slots):
                self.pulse.enter(COMPUTE, -1)
                rows = np.arange(at, min(at + layout.slots, len(values)))
                message = layout.pack(flags, Chunk(rows - at, begin + rows // steps, rows % steps + 1, {INPUT: values[rows]}))
                self.pulse.enter(SEND)
                send(0, message)
                self.pulse.finished()
                flags = 0
            begin += len(inputs)
            if not last:
                job = self.next_job(self.jobs, send)
        self.pulse.enter(SEND)
        self.emit_empty(send, FLUSH)
        self.pulse.finished()
        return True


class ArrivingSlots(Slots):
    """Slots for the samples that messages bring: `first`, then those that `next_message` returns, until one has the flag FLUSH."""

    def __init__(self, graph: Graph, width: int, span: int, stepwise: bool, first: Chunk, next_message: NextMessage) -> None:
        self.steps, self.next_message, self.over = graph.timesteps if stepwise else 1, next_message, False
        self.kept = np.zeros((0, self.steps, *graph.input_shape), first.signals[INPUT].dtype)  # samples that have arrived, by place
        self.place: dict[int, int] = {}  # sample number -> place
        self.free: list[int] = []  # places without a sample
        self.ready: deque[int] = deque()  # complete samples that are in no slot yet
        self._arrived(first)
        super().__init__(graph, width, span)

    def _arrived(self, chunk: Chunk) -> None:
        numbers = chunk.sample.tolist()
        new = [s for s, t in zip(numbers, chunk.t.tolist()) if t == 1]
        more = len(new) - len(self.free)
        if more > 0:
            self.free += range(len(self.kept), len(self.kept) + more)
            self.kept = np.concatenate([self.kept, np.zeros((more, *self.kept.shape[1:]), self.kept.dtype)])
        self.place.update((s, self.free.pop()) for s in new)
        self.kept[[self.place[s] for s in numbers], chunk.t - 1] = chunk.signals[INPUT]
        self.ready.extend(s for s, t in zip(numbers, chunk.t.tolist()) if t == self.steps)

    def taken(self, most: int) -> list[int]:
        while len(self.ready) < most and not self.over:
            flags, chunk = self.next_message()
            self.over = bool(flags & FLUSH)
            self._arrived(chunk)
        return [self.ready.popleft() for _ in range(min(most, len(self.ready)))]

    def values(self, sample: np.ndarray, t: np.ndarray) -> np.ndarray:
        x, given = np.zeros((len(sample), *self.graph.input_shape), np.int32), t <= self.steps
        x[given] = self.kept[[self.place[s] for s in sample[given].tolist()], t[given] - 1]
        return x

    def advance(self, done: np.ndarray) -> np.ndarray:
        each = len(done) // len(self.sample)
        self.free += [self.place.pop(s) for s in self.sample[done[each - 1 :: each]].tolist()]
        return super().advance(done)


class WholeLeaf(Leaf):
    """Runs a whole net."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, layouts: list[Layout]) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.layouts, self.feedback = layouts, Layout(plan.name, 1, {})

    def step(self, receive: Receive, send: Send, send_back: SendBack) -> bool:
        """All samples of a run; False once the network ends."""

        def next_message() -> tuple[int, Chunk]:
            self.pulse.enter(RECV)
            message = receive(0)
            self.pulse.received()
            self.pulse.enter(COMPUTE, -1)
            if self.log is not None:  # noted here, since the injector reports nothing
                self.log.add(INJECTOR, "out_0", [self.plan.name], self.layouts[0], message)
            return self.layouts[0].unpack(message)

        if self.log is not None:
            self.log.begin()
        flags, first = next_message()
        if flags & END:
            self.pulse.enter(STOPPED)
            return False
        span = span_of(self.graph, self.slots)
        stage = Stage(self.graph, self.plan.ops, self.slots, span)
        stage.watch, stage.cell = self._enter, self.pulse.cell
        slots = ArrivingSlots(self.graph, self.slots, span, bool(flags & STEPWISE), first, next_message)
        for chunk, done in chunks(slots, stage):
            self.where = None
            outputs = self.wanted(chunk.signals, bool(flags & SPIKES))
            if self.credit in chunk.signals:
                outputs[self.credit] = chunk.signals[self.credit]
            self.reporter.add(chunk, stage.events, outputs, done)
            self.pulse.enter(COMPUTE, -1)
        self.reporter.flush()
        self.pulse.enter(RECV)
        return True
