"""Assigns results of chip time to their timesteps."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any

import numpy as np

from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.integer import Chunk, Recorder, Signals, done_of
from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS

WORK = [COUNTERS.index(c) for c in ("synop", "attention_ac", "gate_update")]  # as Record.chip_events


class Reindexed:
    """Takes each unit's results in its own order of timesteps, from any driver, and makes a `Record` of them.

    In a pipeline a shallow op is timesteps ahead of the exit gate. So its results are held until the gate has decided on their
    timestep; what was under way when the sample ended counts as ``void`` and stays out of the record.
    """

    def __init__(self, schedule: Schedule, samples: int, spikes: bool | Collection[str]) -> None:
        graph = schedule.graph
        self.schedule, self.recorder = schedule, Recorder(graph, samples, spikes)
        gates = graph.only("exit_gate")
        self.decider = schedule.reporter[gates[0] if gates else list(graph.ops)[-1]]
        self.first_gate = self.recorder.gates[0] if self.recorder.gates else ""
        self.decided = np.zeros(samples, np.int64)
        self.waiting: dict[str, deque[tuple[int, Chunk, dict[str, np.ndarray], Signals]]] = {n: deque() for n in schedule.units}
        self.begun = np.full(samples, np.iinfo(np.int64).max)
        self.ended = np.zeros(samples, np.int64)
        self.void_timesteps, self.void_events, self.steps = 0, 0, 0

    def add(self, unit: str, step: int, chunk: Chunk, counts: dict[str, np.ndarray], signals: Signals) -> int:
        """Enter what a unit did in a chip step (from 1). Returns how many samples have ended with it."""
        own = {n: v for n, v in signals.items() if n in counts}
        start = self.recorder.start
        if start is not None and unit == self.first_gate:
            own[start] = signals[start]
        self.waiting[unit].append((step, chunk, counts, own))
        self.steps = max(self.steps, step)
        if unit != self.decider:
            self._enter_decided(unit)
            return 0
        done = done_of(self.schedule.graph, signals, chunk.t) & (self.recorder.exit_step[chunk.sample] == 0)
        self.decided[chunk.sample] = chunk.t
        self.recorder.ended(chunk.sample, chunk.t, done)
        for name in self.waiting:
            self._enter_decided(name)
        return int(done.sum())

    def _enter_decided(self, unit: str) -> None:
        """Enter the results whose timestep the exit gate has decided on, in order."""
        queue = self.waiting[unit]
        while queue:
            step, chunk, counts, signals = queue[0]
            exits = self.recorder.exit_step[chunk.sample]
            if ((exits == 0) & (self.decided[chunk.sample] < chunk.t)).any():
                return
            queue.popleft()
            void = (exits > 0) & (chunk.t > exits)
            if void.any():
                self.void_events += int(sum(c[void][:, WORK].sum() for c in counts.values()))
                self.void_timesteps += int(void.sum()) if unit == self.decider else 0
                keep = ~void
                chunk = Chunk(chunk.rows[keep], chunk.sample[keep], chunk.t[keep], {})
                counts, signals = ({n: v[keep] for n, v in d.items()} for d in (counts, signals))
            if len(chunk.t):
                if counts:
                    ops = [self.recorder.names.index(n) for n in counts]
                    self.recorder.counted(chunk.sample, chunk.t, ops, np.stack([c.T for c in counts.values()]))
                self.recorder.signals(chunk.sample, chunk.t, signals)
                np.minimum.at(self.begun, chunk.sample, step)
                np.maximum.at(self.ended, chunk.sample, step)

    def record(self, labels: np.ndarray | None = None) -> Record:
        """The record, with what chip time adds in ``meta``."""
        facts: dict[str, Any] = {
            **self.schedule.facts(), "chip_steps": np.maximum(self.ended - self.begun + 1, 0).tolist() if len(self.ended) else [],
            "total_chip_steps": self.steps, "void_timesteps": self.void_timesteps, "void_events": self.void_events,
        }
        return self.recorder.record(labels, **facts)
