"""One timestep of a process, without Lava: receive messages, let a `Stage` compute, send, report to the parent."""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from spikegate.deploy.network.mapping import DONE, INJECTOR, Plan, feedback_layout
from spikegate.deploy.network.message_log import Log
from spikegate.deploy.network.messages import END, FIRST, FLUSH, GROUP, SPIKES, Layout, join
from spikegate.deploy.network.reports import Reporter
from spikegate.deploy.network.watchdog import COMPUTE, IDLE, RECV, SEND, STOPPED, Pulse
from spikegate.engine.injector import Injector, free_running
from spikegate.engine.integer import Chunk, Signals, Stage, ending
from spikegate.engine.memory import keep_memory
from spikegate.graph import credit
from spikegate.graph.ir import DeployError, Graph, delayed

AHEAD = 2  # chunks of a group in flight where no timestep depends on the one before
BACK = "back"  # the port that brings the decision to the injector
Send = Callable[[int, np.ndarray], None]  # number of the port, message
SendBack = Callable[[np.ndarray], None]
Receive = Callable[[int], np.ndarray]


class Leaf:
    """Common to both roles: pulse, report pipe, errors. Made in the parent, used in its own OS process after the fork."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection) -> None:
        self.graph, self.plan, self.slots, self.pulse = graph, plan, slots, pulse
        self.log: Log | None = None  # of the messages sent, where they are traced
        self.reporter = Reporter(graph, plan.ops, pipe)
        self.where: str | None = None
        self.index = {n: i for i, n in enumerate(graph.ops)}
        readout, start = graph.only("readout"), credit.start(graph)
        self.credit = delayed(start) if start else ""
        self.always = {*credit.gates(graph), readout[0] if readout else list(graph.ops)[-1]}  # always reported: alive masks, logits

    def start(self) -> None:
        """First thing in the new process."""
        keep_memory()
        threadpool_limits(1)  # there are as many processes as cores
        self.pulse.started()

    def trace(self) -> None:
        """From now on note every message."""
        self.log = self.reporter.log = Log()

    def emit(self, send: Send, messages: list[np.ndarray]) -> None:
        """Send a message through each port, in their order."""
        for k, (port, message) in enumerate(zip(self.plan.ports, messages)):
            send(k, message)
            if self.log is not None:
                self.log.add(self.plan.name, f"out_{k}", port.receivers, port.layout, message)

    def emit_empty(self, send: Send, flags: int) -> None:
        """Send a message without samples through each port."""
        for k, port in enumerate(self.plan.ports):
            send(k, port.layout.empty(flags))

    def next_job(self, jobs: Connection, send: Send) -> Any:
        """The parent's next job; None, which is passed on, once it ends the network."""
        self.pulse.enter(IDLE)
        job = jobs.recv()
        if job is None:
            self.emit_empty(send, END)
            self.pulse.enter(STOPPED)
        else:
            self.pulse.enter(COMPUTE, -1)
        return job

    def wanted(self, signals: Signals, spikes: bool) -> Signals:
        """Copies of this process's signals for the parent: all, or those that are always reported."""
        return {n: signals[n].copy() for n in self.plan.ops if spikes or n in self.always}

    def _enter(self, name: str) -> None:
        """Called by a `Stage` before it runs an op."""
        self.where = name
        self.pulse.enter(COMPUTE, self.index[name])

    def guarded(self, step: Callable[[], bool]) -> bool:
        """One timestep; an error is reported to the parent with the op's name, then this process ends."""
        try:
            return step()
        except DeployError as e:
            self.reporter.fail(e.where, e.problem, e.hint)
        except Exception as e:
            trace = traceback.format_exc()
            at = f"op {self.where} failed: " if self.where else ""
            self.reporter.fail(f"process {self.plan.name}", f"{at}{type(e).__name__}: {e}", f"the place in the code:\n{trace}")
        os._exit(1)


class StageLeaf(Leaf):
    """Runs some ops of the graph; keeps a `Stage` for each group of samples."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, layouts: list[Layout]) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.layouts = layouts
        self.feedback = feedback_layout(graph, plan.name, slots, plan.span)
        self.stages: dict[int, Stage] = {}
        self.spikes = False
        self.done_in = ending(graph)

    def step(self, receive: Receive, send: Send, send_back: SendBack) -> bool:
        """One chunk; False once the network ends."""
        messages = []
        for k in range(len(self.layouts)):
            self.pulse.enter(RECV, k)
            messages.append(receive(k))
        self.pulse.enter(COMPUTE, -1)
        flags, chunk = join(self.plan.name, self.layouts, messages)
        if flags & END:
            self.emit_empty(send, END)
            self.pulse.enter(STOPPED)
            return False
        if flags & FLUSH:
            self.emit_empty(send, FLUSH)
            self.reporter.flush()
            self.pulse.finished()
            return True
        if flags & FIRST:
            self.stages.clear()
            if self.log is not None:
                self.log.begin()
            self.spikes = bool(flags & SPIKES)
        stage = self.stages.get(flags >> GROUP)
        if stage is None:
            stage = self.stages[flags >> GROUP] = Stage(self.graph, self.plan.ops, self.slots, self.plan.span)
            stage.watch, stage.cell, stage.lasting = self._enter, self.pulse.cell, False
        stage.step(chunk)
        self.where = None
        done = self.done_in(chunk.signals, chunk.t) if self.plan.exits else None
        messages = [port.layout.pack(flags, chunk) for port in self.plan.ports]
        self.pulse.enter(SEND)
        if done is not None:
            chunk.signals[DONE] = done
            answer = self.feedback.pack(flags, chunk)
            send_back(answer)
            if self.log is not None:
                self.log.add(self.plan.name, BACK, [INJECTOR], self.feedback, answer)
        self.emit(send, messages)
        self.reporter.add(chunk, stage.events, self.wanted(chunk.signals, self.spikes), done)
        self.pulse.finished()
        return True


class InjectorLeaf(Leaf):
    """Injects samples into the slots of several groups, one group after the other; waits for the parent's next samples after each run.

    While one group waits for its decision, the others are computed, which keeps the processes busy. Where a timestep decides
    nothing, a group continues at once, and the decision is only checked.
    """

    def __init__(
        self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, jobs: Connection, groups: int
    ) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.jobs, self.groups = jobs, groups
        self.free = free_running(graph)
        self.most = groups * (AHEAD if self.free else 1)
        self.feedback = feedback_layout(graph, plan.senders[0], slots, plan.span)
        self.running = False
        self.ready: deque[tuple[int, Injector, Signals | None]] = deque()  # groups whose next chunk can go out
        self.sent: deque[tuple[int, Injector, Chunk]] = deque()  # groups that wait for a decision, in the order of their messages

    def step(self, receive: Receive, send: Send) -> bool:
        """One message; False once the parent ends the network. Decisions are awaited only when no group can go on without one."""
        flags = 0
        if not self.running:
            job = self.next_job(self.jobs, send)
            if job is None:
                return False
            flags = self._begin(*job)
        while self.sent and (not self.ready or len(self.sent) == self.most):
            group, injector, last = self.sent.popleft()
            self.pulse.enter(RECV)
            message = receive(0)
            self.pulse.enter(COMPUTE, -1)
            done, feedback = self._decision(last, message)
            if not self.free:
                self._advance(group, injector, done, feedback)
        if not self.ready:
            self.running = False
            self.pulse.enter(SEND)
            self.emit_empty(send, FLUSH)
            self.reporter.flush()
            self.pulse.finished()
            return True
        group, injector, back = self.ready.popleft()
        chunk = injector.chunk(back)
        messages = [port.layout.pack(flags | group << GROUP, chunk) for port in self.plan.ports]
        self.sent.append((group, injector, chunk))
        self.pulse.enter(SEND)
        self.emit(send, messages)
        start = {self.credit: chunk.signals[self.credit]} if self.credit in chunk.signals else {}
        self.reporter.add(chunk, None, start, None)
        if self.free:
            self._advance(group, injector, chunk.t >= self.graph.timesteps, {})
        self.pulse.finished()
        return True

    def _begin(self, inputs: np.ndarray, spikes: bool) -> int:
        """Distribute the samples over the groups; returns the flags of the first message."""
        queue = iter(range(len(inputs)))
        width = min(self.slots, -(-len(inputs) // self.groups))
        injectors = [Injector(self.graph, inputs, width, self.plan.span, queue) for _ in range(self.groups)]
        self.ready.extend((g, injector, None) for g, injector in enumerate(injectors) if not injector.finished)
        self.running = True
        if self.log is not None:
            self.log.begin()
        return FIRST | (SPIKES if spikes else 0)

    def _decision(self, last: Chunk, message: np.ndarray) -> tuple[np.ndarray, Signals]:
        """Which rows of a chunk are done, bool [A * span], and the feedback for the next one."""
        _, answer = self.feedback.unpack(message)
        if not np.array_equal(answer.sample, last.sample) or not np.array_equal(answer.t, last.t):
            raise DeployError(
                "process injector", "the decision that came back is of another timestep", "report this with the graph: the fault is here"
            )
        return answer.signals.pop(DONE) > 0, answer.signals

    def _advance(self, group: int, injector: Injector, done: np.ndarray, feedback: Signals) -> None:
        """A group's next chunk is ready to go out, if there is one."""
        stay = injector.advance(done)
        if not injector.finished:
            self.ready.append((group, injector, {name: value[stay] for name, value in feedback.items()}))
