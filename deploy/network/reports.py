"""Reports of a process to the parent: events, alive masks, logits, exits and, on request, spikes; many timesteps in one message."""

from __future__ import annotations

import contextlib
import fcntl
import pickle
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from spikegate.deploy.network.message_log import Log, Messages
from spikegate.engine.integer import Chunk, Recorder, Signals
from spikegate.engine.record import Record
from spikegate.engine.record_counts import narrow
from spikegate.graph.ir import DeployError, Graph

HOLD_S = 0.1  # reports are buffered for so long, to send many at once
HOLD_BYTES = 1 << 20
PIPE_BYTES = 1 << 20


def enlarge(pipe: Connection) -> None:
    """Enlarge a pipe's buffer so that a report fits and its process need not wait for the reader; where the system can (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Reporter:
    """The sending side, in a process that computes the ops `names`."""

    def __init__(self, graph: Graph, names: list[str], pipe: Connection) -> None:
        self.graph, self.names, self.pipe = graph, names, pipe
        self.log: Log | None = None
        self._chunks: list[tuple[np.ndarray, np.ndarray, np.ndarray | None, Signals, np.ndarray | None]] = []
        self._bytes, self._sent = 0, 0.0

    def add(self, chunk: Chunk, events: np.ndarray | None, signals: Signals, done: np.ndarray | None) -> None:
        """Report a chunk: events [ops, counters, rows], outputs [A, *shape], which samples are done (where it is decided)."""
        self._chunks.append((chunk.sample, chunk.t, events, signals, done))  # not the chunk: its signals' memory is used again
        self._bytes += sum(v.nbytes for v in signals.values())
        if self._bytes > HOLD_BYTES or time.monotonic() - self._sent > HOLD_S:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        if not self._chunks:
            return
        samples, timesteps, counts, signals, dones = zip(*self._chunks)
        outputs: dict[str, Any] = {}
        for name in signals[0]:
            value = np.concatenate([s[name] for s in signals])
            op = self.graph.ops.get(name)
            outputs[name] = np.packbits(value) if op is not None and op.payload.binary else value
        events = narrow(np.concatenate(counts, 2)) if self.names else None
        done = None if dones[0] is None else np.concatenate(dones)
        sample, t = np.concatenate(samples), np.concatenate(timesteps)
        sent = [] if self.log is None else self.log.take()
        self.pipe.send_bytes(pickle.dumps((sample, t, len(samples), events, outputs, done, sent), protocol=5))
        self._chunks, self._bytes, self._sent = [], 0, time.monotonic()

    def fail(self, where: str, problem: str, hint: str) -> None:
        """Report an error to the parent, as the fields of a DeployError."""
        self.pipe.send_bytes(pickle.dumps((where, problem, hint)))


def read(graph: Graph, names: list[str], message: bytes, recorder: Recorder, messages: Messages) -> tuple[int, int, np.ndarray]:
    """Enter a process's message into the record, and those that it traced into `messages`.

    Returns
    -------
    chunks of the network, (sample, timestep) pairs, done [pairs] (all False where it is not decided)

    Raises
    ------
    DeployError
        The one that the process raised.
    """
    value = pickle.loads(message)
    if isinstance(value[0], str):
        raise DeployError(*value)
    sample, t, chunks, events, outputs, done, sent = value
    messages.sent += sent
    signals: Signals = {}
    for name, coded in outputs.items():
        op = graph.ops.get(name)
        if op is not None and op.payload.binary:
            shape = (len(sample), *op.out_shape)
            coded = np.unpackbits(coded, count=int(np.prod(shape))).reshape(shape)
        signals[name] = coded
    if events is not None:
        recorder.counted(sample, t, [recorder.names.index(n) for n in names], events)
    recorder.signals(sample, t, signals)
    if done is None:
        return chunks, len(sample), np.zeros(len(sample), bool)
    recorder.ended(sample, t, done)
    return chunks, len(sample), done


class Collector:
    """The parent's side of a run: enters the processes' reports into a record, and knows when it is complete."""

    def __init__(self, graph: Graph, ops: dict[str, list[str]], samples: int, spikes: bool) -> None:
        self.graph, self.ops, self.samples = graph, ops, samples
        self.recorder, self.messages = Recorder(graph, samples, spikes), Messages()
        self.pairs = dict.fromkeys(ops, 0)  # (sample, timestep) pairs from each process
        self.ended = 0

    def read(self, name: str, message: bytes) -> tuple[int, int]:
        """Enter a message of process `name`; returns (timesteps of the network, samples that ended with it)."""
        chunks, pairs, done = read(self.graph, self.ops[name], message, self.recorder, self.messages)
        self.pairs[name] += pairs
        ended = int(done.sum())
        self.ended += ended
        return chunks, ended

    @property
    def finished(self) -> bool:
        return self.ended >= self.samples and len(set(self.pairs.values())) == 1

    def record(self, labels: np.ndarray | None) -> Record:
        return self.recorder.record(labels)
