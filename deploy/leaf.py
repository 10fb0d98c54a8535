"""What a process does in one timestep, without Lava: take messages, let a `Stage` compute, send, report to the parent."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from convert import credit
from convert.engine import Beat, Injector, Signals, Stage, done_of
from convert.ir import DeployError, Graph, delayed
from deploy.mapping import DONE, Plan, feedback_layout
from deploy.messages import END, FIRST, FLUSH, SPIKES, Layout, join
from deploy.reports import Reporter
from deploy.watchdog import COMPUTE, IDLE, RECV, SEND, STOPPED, Pulse

Send = Callable[[np.ndarray], None]
Receive = Callable[[int], np.ndarray]


class Leaf:
    """Common to both roles: pulse, report pipe, errors. Made in the parent, used in its own OS process after the fork."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection) -> None:
        self.graph, self.plan, self.slots, self.pulse = graph, plan, slots, pulse
        self.reporter = Reporter(graph, plan.ops, pipe)
        self.parent = os.getpid()
        self.where: str | None = None
        readout, start = graph.only("readout"), credit.start(graph)
        self.credit = delayed(start) if start else ""
        self.facts = {*credit.gates(graph), readout[0] if readout else list(graph.ops)[-1]}  # reported always: alive masks, logits

    def start(self) -> None:
        """First thing in the new process."""
        self.pulse.started()
        # A terminal sends Ctrl-C to all processes; only the parent acts on it and ends the others.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        threading.Thread(target=self._follow_parent, daemon=True).start()

    def _follow_parent(self) -> None:
        while os.getppid() == self.parent:
            time.sleep(1.0)
        self.pulse.end_all()

    def guarded(self, beat: Callable[[], bool]) -> bool:
        """One timestep; an error is reported to the parent with the op's name, then this process ends."""
        try:
            return beat()
        except DeployError as e:
            self.reporter.fail(e.where, e.problem, e.hint)
        except Exception as e:
            trace = traceback.format_exc()
            at = f"op {self.where} failed: " if self.where else ""
            self.reporter.fail(f"process {self.plan.name}", f"{at}{type(e).__name__}: {e}", f"the place in the code:\n{trace}")
        os._exit(1)


class StageLeaf(Leaf):
    """Runs some ops of the graph."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, layouts: list[Layout]) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.layouts = layouts
        self.index = {n: i for i, n in enumerate(graph.ops)}
        self.feedback = feedback_layout(graph, plan.name, slots)
        self.decision = self.feedback.empty()
        self.stage: Stage | None = None
        self.spikes = False

    def beat(self, receive: Receive, send: Send, send_back: Send) -> bool:
        """One timestep; False once the network ends. The decision goes out before anything is awaited: no deadlock."""
        if self.plan.exits:
            self.pulse.enter(SEND)
            send_back(self.decision)
        messages = []
        for k in range(len(self.layouts)):
            self.pulse.enter(RECV, k)
            messages.append(receive(k))
        self.pulse.enter(COMPUTE, -1)
        flags, beat = join(self.plan.name, self.layouts, messages)
        if flags & END:
            send(self.plan.layout.empty(END))
            self.pulse.enter(STOPPED)
            return False
        if flags & FLUSH:
            send(self.plan.layout.empty(FLUSH))
            self.reporter.flush()
            self.pulse.finished()
            return True
        if flags & FIRST or self.stage is None:
            self.stage = Stage(self.graph, self.plan.ops, self.slots)
            self.stage.tap = self._enter
            self.spikes = bool(flags & SPIKES)
        self.stage.step(beat)
        self.where = None
        out = self.plan.layout.pack(flags, beat)
        done = self._decide(beat) if self.plan.exits else None
        self.pulse.enter(SEND)
        send(out)
        told = {n: beat.signals[n] for n in self.plan.ops if self.spikes or n in self.facts}
        self.reporter.add(beat, self.stage.events, told, done)
        self.pulse.finished()
        return True

    def _enter(self, name: str, inputs: dict, t: np.ndarray) -> None:
        self.where = name
        self.pulse.enter(COMPUTE, self.index[name])

    def _decide(self, beat: Beat) -> np.ndarray:
        done = done_of(self.graph, beat.signals, beat.t)
        beat.signals[DONE] = done
        self.decision = self.feedback.pack(0, beat)
        return done


class InjectorLeaf(Leaf):
    """Feeds samples into the slots; waits for the parent's next set of samples when one is finished."""

    def __init__(self, graph: Graph, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, jobs: Connection) -> None:
        super().__init__(graph, plan, slots, pulse, pipe)
        self.jobs = jobs
        self.feedback = feedback_layout(graph, plan.senders[0], slots)
        self.injector: Injector | None = None
        self.last: Beat | None = None

    def beat(self, receive: Receive, send: Send) -> bool:
        """One timestep; False once the parent ends the network. The decision on the last timestep is taken first."""
        self.pulse.enter(RECV)
        message = receive(0)
        self.pulse.enter(COMPUTE, -1)
        back = None
        if self.injector is not None and self.last is not None:
            back = self._advance(self.injector, self.last, message)
        if self.injector is not None and self.injector.finished:
            self.injector = None
            send(self.plan.layout.empty(FLUSH))
            self.reporter.flush()
            self.pulse.finished()
            return True
        flags = 0
        if self.injector is None:
            self.pulse.enter(IDLE)
            job = self.jobs.recv()
            if job is None:
                send(self.plan.layout.empty(END))
                self.pulse.enter(STOPPED)
                return False
            self.pulse.enter(COMPUTE, -1)
            inputs, spikes = job
            self.injector, back = Injector(self.graph, inputs, self.slots), None
            flags = FIRST | (SPIKES if spikes else 0)
        beat = self.last = self.injector.beat(back)
        out = self.plan.layout.pack(flags, beat)
        self.pulse.enter(SEND)
        send(out)
        told = {self.credit: beat.signals[self.credit]} if self.credit in beat.signals else {}
        self.reporter.add(beat, None, told, None)
        self.pulse.finished()
        return True

    def _advance(self, injector: Injector, last: Beat, message: np.ndarray) -> Signals:
        _, answer = self.feedback.unpack(message)
        if not np.array_equal(answer.sample, last.sample) or not np.array_equal(answer.t, last.t):
            raise DeployError(
                "process injector", "the decision that came back is of another timestep", "report this with the graph: the fault is here"
            )
        stay = injector.advance(answer.signals.pop(DONE) > 0)
        return {name: value[stay] for name, value in answer.signals.items()}
