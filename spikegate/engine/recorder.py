"""Collects a `Record` from what stages and exit gate report."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from spikegate.engine.record import Record
from spikegate.graph import credit
from spikegate.graph.ir import COUNTERS, Graph, delayed
from spikegate.kernels import counting

ROWS = 256  # rows that are buffered


class Recorder:
    """Takes reports from any driver, in any order of the ops."""

    def __init__(self, graph: Graph, samples: int, spikes: bool | Collection[str]) -> None:
        self.graph, self.names = graph, list(graph.ops)
        self.gates, first = credit.gates(graph), credit.start(graph)
        self.start = delayed(first) if first else None
        readout = graph.only("readout")
        last = self.names[-1]
        first_gate = graph.ops[self.gates[0]].out_shape[0] if self.gates else 1
        tokens = graph.ops[readout[0]].weight.shape[1] if readout else first_gate  # type: ignore[attr-defined]
        self.logits_of = readout[0] if readout else last
        classes = int(np.prod(graph.ops[self.logits_of].out_shape))
        t = graph.timesteps
        self.counts = np.zeros((samples, t, len(self.names), len(COUNTERS)), np.int64)
        self.exit_step = np.zeros(samples, np.int64)
        self.logits = np.zeros((samples, classes), np.int64)
        self.alive = np.zeros((samples, t, len(self.gates) + 1, tokens), bool)
        kept = [] if spikes is False else self.names if spikes is True else spikes
        self.spikes = {n: np.zeros((samples, t, *graph.ops[n].out_shape), np.int32) for n in kept}
        self.activity: dict[str, np.ndarray] = {}
        self._flat: dict[str, np.ndarray] = {}  # the same, one row for each timestep
        graded = [n for n, op in graph.ops.items() if not (op.payload.binary or op.gates_tokens)]
        self.values = {n: np.zeros((samples, t), np.int64) for n in graded}
        self.special = {*self.values, *self.spikes, *self.gates, self.start, self.logits_of}  # ops of which more than the activity is kept

    def counted(self, sample: np.ndarray, t: np.ndarray, ops: slice | list[int], events: np.ndarray) -> None:
        """Enter the events [ops, counters, rows] of the ops with these indices."""
        if isinstance(ops, slice):
            counting.enter(events, sample, t, self.counts[:, :, ops])
        else:
            self.counts[sample[:, None], t[:, None] - 1, ops] = events.transpose(2, 0, 1)

    def signals(self, sample: np.ndarray, t: np.ndarray, signals: dict[str, np.ndarray], activity: bool = True) -> None:
        """Enter alive masks, logits and spikes from the given signals; a sample's rows are in the order of their timesteps.

        Without `activity`, the caller enters the activity by `active`.
        """
        for name, value in signals.items():
            if activity and name in self.graph.ops:
                self.active(name, value, t)
            if name not in self.special:
                continue
            if name in self.values:
                self.values[name][sample, t - 1] = counting.magnitudes(value.reshape(len(value), -1))
            if name in self.spikes:
                self.spikes[name][sample, t - 1] = value
            if name in self.gates:
                self.alive[sample, t - 1, self.gates.index(name) + 1] = value > 0
            if name == self.start:
                self.alive[sample, t - 1, 0] = value > 0
            if name == self.logits_of:
                flat = value.reshape(len(value), -1)
                if self.graph.ops[name].kind == "readout":
                    self.logits[sample] = flat  # of a sample's rows the last one stays
                else:
                    counting.add_at(self.logits, sample, np.ascontiguousarray(flat, np.int32))
        if self.start is None:
            self.alive[sample, t - 1, 0] = True

    def all_activity(self) -> np.ndarray:
        """One array int32 for the activity of all ops, in their order, each [timesteps, neurons]; `active` adds to it, too."""
        t, sizes = self.graph.timesteps, [int(np.prod(op.out_shape)) for op in self.graph.ops.values()]
        whole = np.zeros(t * sum(sizes), np.int32)
        for name, size, at in zip(self.names, sizes, np.cumsum([0, *sizes]) * t):
            self._flat[name] = whole[at : at + t * size].reshape(t, size)
            self.activity[name] = self._flat[name].reshape(t, *self.graph.ops[name].out_shape)
        return whole

    def active(self, name: str, value: np.ndarray, t: np.ndarray) -> None:
        """Add which neurons of an op sent something."""
        into = self._flat.get(name)
        if into is None:
            self.activity[name] = np.zeros((self.graph.timesteps, *value.shape[1:]), np.int32)
            into = self._flat[name] = self.activity[name].reshape(self.graph.timesteps, -1)
        counting.active(value.reshape(len(value), -1), *counting.by_timestep(t), into.reshape(-1))

    def ended(self, sample: np.ndarray, t: np.ndarray, done: np.ndarray) -> None:
        self.exit_step[sample[done]] = t[done]

    def record(self, labels: np.ndarray | None = None, **meta: Any) -> Record:
        kinds = [op.kind for op in self.graph.ops.values()]
        return Record(
            self.names, kinds, self.counts, self.exit_step, self.logits, self.gates, self.alive, self.spikes, labels, meta,
            credit.entering(self.graph), self.activity, {n: self.values[n] for n in self.activity if n in self.values},
        )


class Held:
    """Enters the counts of each chunk; buffers its signals and enters those of several at once, which costs as much as entering one."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.most = recorder, 0 if recorder.spikes else ROWS
        kept = {*recorder.gates, recorder.start, recorder.logits_of}
        self.copied = [n for n in (*recorder.names, recorder.start) if n in kept and n is not None]
        self.clear()

    def clear(self) -> None:
        self.reports: list[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]] = []
        self.rows = 0

    def add(self, sample: np.ndarray, t: np.ndarray, events: np.ndarray, signals: dict[str, np.ndarray], done: np.ndarray) -> None:
        """A chunk: rows in the order (slot, timestep), events [ops, counters, rows], which rows are done."""
        self.recorder.counted(sample, t, slice(None), events)
        if not self.most:
            self.enter(sample, t, signals, done)
            return
        sums = {n: counting.magnitudes(signals[n].reshape(len(t), -1)) for n in self.recorder.values}
        self.reports.append((sample, t, {n: signals[n].copy() for n in self.copied}, sums, done))
        self.rows += len(t)
        if self.rows >= self.most:
            self.flush()

    def enter(self, sample: np.ndarray, t: np.ndarray, signals: dict[str, np.ndarray], done: np.ndarray) -> None:
        """Enter a chunk's signals without buffering."""
        self.recorder.signals(sample, t, signals, activity=False)
        self.recorder.ended(sample, t, done)

    def flush(self) -> None:
        """Enter what is buffered."""
        if self.reports:
            samples, times, signals, sums, dones = zip(*self.reports)
            together = {n: np.concatenate([s[n] for s in signals]) for n in self.copied}
            sample, t = np.concatenate(samples), np.concatenate(times)
            self.enter(sample, t, together, np.concatenate(dones))
            for name in self.recorder.values:
                self.recorder.values[name][sample, t - 1] = np.concatenate([s[name] for s in sums])
            self.clear()
