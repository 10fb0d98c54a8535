"""Reports of a process to the parent in chip time: each unit's timesteps, events and outputs, many chip steps in one message."""

from __future__ import annotations

import pickle
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from spikegate.deploy.network.message_log import Log, Messages
from spikegate.deploy.network.reports import HOLD_BYTES, HOLD_S
from spikegate.engine.chip_time.chip_run import Report
from spikegate.engine.chip_time.reindex import Reindexed
from spikegate.engine.chip_time.schedule import Schedule
from spikegate.engine.integer import Chunk, Signals
from spikegate.engine.record import Record
from spikegate.graph.ir import DeployError, Graph


class ChipReporter:
    """The sending side."""

    def __init__(self, graph: Graph, pipe: Connection) -> None:
        self.graph, self.pipe = graph, pipe
        self.log: Log | None = None
        self._held: list[tuple] = []
        self._bytes, self._sent = 0, 0.0

    def add(self, report: Report, signals: Signals) -> None:
        """Report what a unit did, with those of its signals that the parent wants."""
        chunk = report.chunk
        coded: dict[str, Any] = {}
        for name, value in signals.items():
            op = self.graph.ops.get(name)
            coded[name] = np.packbits(value) if op is not None and op.payload.binary else value
        self._held.append((report.unit, report.step, chunk.rows, chunk.sample, chunk.t, report.counts, coded))
        self._bytes += sum(v.nbytes for v in coded.values())
        if self._bytes > HOLD_BYTES or time.monotonic() - self._sent > HOLD_S:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        sent = [] if self.log is None else self.log.take()
        if self._held or sent:
            self.pipe.send_bytes(pickle.dumps([self._held, sent], protocol=5))
        self._held, self._bytes, self._sent = [], 0, time.monotonic()

    def over(self, steps: int) -> None:
        """The run has ended after so many chip steps."""
        self.flush()
        self.pipe.send_bytes(pickle.dumps(steps))


class ChipCollector:
    """The parent's side; see `reports.Collector`."""

    def __init__(self, schedule: Schedule, processes: list[str], samples: int, spikes: bool) -> None:
        self.graph = schedule.graph
        self.results, self.messages = Reindexed(schedule, samples, spikes), Messages()
        self.running = set(processes)

    def read(self, name: str, message: bytes) -> tuple[int, int]:
        """Enter a message of process `name`; returns (chip steps of the run, once it is over; samples that ended with it)."""
        value = pickle.loads(message)
        if isinstance(value, tuple):
            raise DeployError(*value)
        if isinstance(value, int):
            self.running.discard(name)
            return value, 0
        ended, (held, sent) = 0, value
        self.messages.sent += sent
        for unit, step, rows, sample, t, counts, coded in held:
            signals: Signals = {}
            for n, v in coded.items():
                op = self.graph.ops.get(n)
                if op is not None and op.payload.binary:
                    shape = (len(sample), *op.out_shape)
                    v = np.unpackbits(v, count=int(np.prod(shape))).reshape(shape)
                signals[n] = v
            ended += self.results.add(unit, step, Chunk(rows, sample, t, {}), counts, signals)
        return 0, ended

    @property
    def finished(self) -> bool:
        return not self.running

    def record(self, labels: np.ndarray | None) -> Record:
        return self.results.record(labels)
