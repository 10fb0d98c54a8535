"""Which sample and timestep each slot of a batch holds: an exit gives its slot to the next sample at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from spikegate.engine.stage import Chunk, Signals
from spikegate.graph.ir import INPUT, DeployError, Graph, delayed

CHUNK_VALUES = 1 << 17  # values of the widest signal in one chunk: what the cores' caches hold
NO_SAMPLE = -1


def free_running(graph: Graph) -> bool:
    """Whether no timestep depends on a decision of the one before: then many timesteps can be computed at a time."""
    exits = [graph.ops[n] for n in graph.only("exit_gate")]
    waits = any(e.policy != "fixed_window" or "alive" in graph.sources(n) for n, e in zip(graph.only("exit_gate"), exits))  # type: ignore[attr-defined]
    return not graph.delayed_sources() and not waits


def span_of(graph: Graph, slots: int) -> int:
    """Timesteps that a chunk of so many slots takes at a time: 1 where a timestep decides about the next, else what fits `CHUNK_VALUES`."""
    if not free_running(graph):
        return 1
    widest = max(int(np.prod(graph.shape_of(n))) for n in [INPUT, *graph.ops])
    return max(1, min(graph.timesteps, CHUNK_VALUES // (widest * slots)))


class Slots:
    """Up to `width` samples at their timesteps, `span` of them in a chunk. Subclasses provide the samples (`taken`, `values`)."""

    def __init__(self, graph: Graph, width: int, span: int = 1) -> None:
        self.graph, self.span = graph, span
        self.feedback = [(s, delayed(s), graph.ops[s]) for s in graph.delayed_sources()]
        self.sample = np.array(self.taken(width), np.int64)
        self.rows = np.arange(len(self.sample))
        self.t = np.ones(len(self.sample), np.int64)

    def taken(self, most: int) -> list[int]:
        """Numbers of the next samples, fewer than `most` only if there are no more."""
        raise TypeError(f"{type(self).__name__} has no samples")

    def values(self, sample: np.ndarray, t: np.ndarray) -> np.ndarray:
        """What the net receives at timestep t of each sample, int32 [rows, *input_shape], an array of its own."""
        raise TypeError(f"{type(self).__name__} has no samples")

    def chunk(self, feedback: Signals | None = None) -> Chunk:
        """The next timesteps of the slots; `feedback` holds the delayed sources' last outputs, rows as in the previous chunk."""
        sample, t, span = self.sample, self.t, 1
        if self.span > 1:  # all slots are at the same timestep, because no sample ends early
            span = min(self.span, self.graph.timesteps + 1 - int(t[0]))
            sample, t = np.repeat(sample, span), (t[:, None] + np.arange(span)).ravel()
        signals = {INPUT: self.values(sample, t)}
        first = t == 1
        begins = self.feedback and first.any()
        for source, name, op in self.feedback:
            if feedback is None:
                signals[name] = op.initial(len(self.sample))
                continue
            signals[name] = last = feedback[source]
            if begins:
                signals[name] = np.where(first.reshape(-1, *[1] * (last.ndim - 1)), op.initial(len(first)), last)
        return Chunk(self.rows, sample, t, signals, span)

    def advance(self, done: np.ndarray) -> np.ndarray:
        """Next timesteps: the slots of samples that are `done` [A * span] take the next sample. Returns which rows continue, bool [A]."""
        span = len(done) // len(self.t)
        done = done[span - 1 :: span]
        self.t = np.where(done, 1, self.t + span)
        new = np.flatnonzero(done)
        ids = self.taken(len(new))
        self.sample = self.sample.copy()
        self.sample[new] = ids + [NO_SAMPLE] * (len(new) - len(ids))
        stay: np.ndarray = self.sample != NO_SAMPLE
        self.sample, self.t, self.rows = self.sample[stay], self.t[stay], self.rows[stay]
        return stay

    @property
    def finished(self) -> bool:
        return len(self.sample) == 0


class Injector(Slots):
    """Slots for the samples of an array, int [N, *shape], sent once, or [N, T, *shape], sent step by step.

    Several injectors may share one `queue` of sample numbers; each takes the next one when a slot is free.

    Raises
    ------
    DeployError
        For inputs that the net does not take.
    """

    def __init__(self, graph: Graph, inputs: np.ndarray, width: int, span: int = 1, queue: Iterator[int] | None = None) -> None:
        self.inputs = inputs
        self.queue = iter(range(len(inputs))) if queue is None else queue
        self.stepwise = fit(graph, inputs)
        super().__init__(graph, width, span)

    def taken(self, most: int) -> list[int]:
        return list(islice(self.queue, most))

    def values(self, sample: np.ndarray, t: np.ndarray) -> np.ndarray:
        if self.stepwise:
            given: np.ndarray = self.inputs[sample, t - 1]
            return given.astype(np.int32)
        x, first = np.zeros((len(sample), *self.graph.input_shape), np.int32), t == 1
        x[first] = self.inputs[sample[first]]
        return x


def fit(graph: Graph, inputs: np.ndarray) -> bool:
    """Whether inputs have an axis of timesteps; a DeployError for those that the net does not take."""
    shape = tuple(inputs.shape)
    stepwise = shape[1:] == (graph.timesteps, *graph.input_shape)
    if not stepwise and shape[1:] != tuple(graph.input_shape):
        raise DeployError(
            "input",
            f"has shape {list(shape)}, the net takes [samples, {', '.join(map(str, graph.input_shape))}]",
            "pass the host embedding's output, or spikes with a timestep axis after the first",
        )
    if not np.issubdtype(inputs.dtype, np.integer):
        raise DeployError("input", f"is {inputs.dtype}, not integer", "the chip takes integers: quantise on the host")
    low, high = graph.input_payload.low, graph.input_payload.high
    if inputs.size and (inputs.min() < low or inputs.max() > high):
        raise DeployError(
            "input", f"values span [{inputs.min()}, {inputs.max()}], the net takes [{low}, {high}]", "use the exported embedding"
        )
    return stepwise
