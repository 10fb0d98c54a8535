"""One chip step of a process, without Lava: send the last outputs, receive those of others, let a `ChipStage` compute."""

from __future__ import annotations

from multiprocessing.connection import Connection

import numpy as np

from spikegate.deploy.network.chip_mapping import Frames, decision, decision_layout
from spikegate.deploy.network.chip_reports import ChipReporter
from spikegate.deploy.network.leaf import BACK, Leaf, Receive, Send, SendBack
from spikegate.deploy.network.mapping import DONE, INJECTOR, Plan
from spikegate.deploy.network.messages import END, FIRST, FLUSH, SPIKES
from spikegate.deploy.network.watchdog import COMPUTE, RECV, SEND, STOPPED, Pulse
from spikegate.engine.chip_time.chip_run import Arrivals, ChipStage, Entrance, Report, deciding
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.integer import Chunk, done_of
from spikegate.graph.ir import INPUT


class ChipLeaf(Leaf):
    """Common to both roles in chip time."""

    def __init__(self, schedule: Schedule, plan: Plan, slots: int, pulse: Pulse, pipe: Connection) -> None:
        super().__init__(schedule.graph, plan, slots, pulse, pipe)
        self.schedule = schedule
        self.chip_reporter = ChipReporter(schedule.graph, pipe)
        self.steps = 0

    def trace(self) -> None:
        super().trace()
        self.chip_reporter.log = self.log

    def _over(self) -> None:
        """End of a run."""
        self.chip_reporter.over(self.steps)
        self.steps = 0
        self.pulse.finished()


class ChipStageLeaf(ChipLeaf):
    """Runs some units."""

    def __init__(self, schedule: Schedule, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, layouts: list[Frames]) -> None:
        super().__init__(schedule, plan, slots, pulse, pipe)
        self.layouts = layouts
        self.decider = deciding(schedule)
        self.feedback = decision_layout(plan.name, slots)
        self.outgoing, self.decision = self._outputs({}), self.feedback.empty()
        self.stage: ChipStage | None = None
        self.spikes = False

    def _outputs(self, outs: Arrivals) -> list[np.ndarray]:
        """A message for each port."""
        return [port.layout.write(0, outs) for port in self.plan.ports]

    def step(self, receive: Receive, send: Send, send_back: SendBack) -> bool:
        """One chip step; False once the network ends. Everything is sent before anything is received, so nothing deadlocks."""
        self.pulse.enter(SEND)
        if self.plan.exits:
            send_back(self.decision)
            if self.log is not None:
                self.log.add(self.plan.name, BACK, [INJECTOR], self.feedback, self.decision)
        self.emit(send, self.outgoing)
        messages = []
        for k in range(len(self.layouts)):
            self.pulse.enter(RECV, k)
            messages.append(receive(k))
        self.pulse.enter(COMPUTE, -1)
        flags, arrived = self.layouts[0].read(messages[0])
        strobe = arrived.pop(INPUT, None)
        self.outgoing, self.decision = self._outputs({}), self.feedback.empty()
        if flags & END:
            self.pulse.enter(STOPPED)
            return False
        if flags & FLUSH:
            self._over()
            return True
        for layout, message in zip(self.layouts[1:], messages[1:]):
            arrived.update(layout.read(message)[1])
        if flags & FIRST or self.stage is None:
            if self.log is not None:
                self.log.begin()
            self.stage, self.spikes = ChipStage(self.schedule, self.plan.ops, self.slots), bool(flags & SPIKES)
            for stage in self.stage.stages.values():
                stage.watch = self._enter
        self._compute(self.stage, strobe, arrived)
        self.steps += 1
        self.pulse.finished()
        return True

    def _compute(self, stage: ChipStage, strobe: Chunk | None, arrived: Arrivals) -> None:
        for report in stage.step(strobe, arrived):
            self.where = None
            self._report(report)
        self.outgoing = self._outputs(stage.outs)

    def _report(self, report: Report) -> None:
        """Report events, and outputs that are always wanted or recorded; keep the decision for the next chip step."""
        chunk, own = report.chunk, report.counts
        signals = {n: chunk.signals[n] for n in own if self.spikes or n in self.always or n == self.decider}
        if self.credit in chunk.signals:
            signals[self.credit] = chunk.signals[self.credit]
        self.chip_reporter.add(report, signals)
        if report.unit == self.decider:
            self.decision = decision(self.feedback, chunk, done_of(self.graph, chunk.signals, chunk.t))


class ChipInjectorLeaf(ChipLeaf):
    """Injects timesteps as the schedule says; waits for the parent's next set of samples after each run."""

    def __init__(self, schedule: Schedule, plan: Plan, slots: int, pulse: Pulse, pipe: Connection, jobs: Connection) -> None:
        super().__init__(schedule, plan, slots, pulse, pipe)
        self.jobs = jobs
        self.feedback = decision_layout(plan.senders[0], slots)
        self.entrance: Entrance | None = None

    def step(self, receive: Receive, send: Send) -> bool:
        """One chip step; False once the parent ends the network. The last chip step's decision is taken first."""
        self.pulse.enter(RECV)
        message = receive(0)
        self.pulse.enter(COMPUTE, -1)
        frames, flags = self.plan.layout, 0
        assert isinstance(frames, Frames)
        if self.entrance is not None:
            _, decided = self.feedback.unpack(message)
            self.entrance.take_decision(decided.sample[decided.signals[DONE] > 0])
            if self.entrance.drained:
                self.entrance = None
                self.emit_empty(send, FLUSH)
                self._over()
                return True
        else:
            job = self.next_job(self.jobs, send)
            if job is None:
                return False
            inputs, spikes = job
            self.entrance = Entrance(self.schedule, inputs, self.slots)
            if self.log is not None:
                self.log.begin()
            flags = FIRST | (SPIKES if spikes else 0)
        strobe = self.entrance.strobe()
        self.pulse.enter(SEND)
        self.emit(send, [frames.write(flags, {} if strobe is None else {INPUT: strobe})])
        self.steps += 1
        self.pulse.finished()
        return True
