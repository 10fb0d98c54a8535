"""The integer reference: runs a graph timestep by timestep. The Lava processes are made of the same two parts.

`Injector` decides which sample and timestep each slot of the batch holds (an exit frees its slot at once);
`Stage` computes some ops for the slots' samples. Rows are the occupied slots only, so nothing idle is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice

import numpy as np

from convert.ir import INPUT, DeployError, Graph, delayed
from convert.record import Record
from convert.recorder import Held
from convert.recorder import Recorder as Recorder
from convert.stage import Beat as Beat
from convert.stage import Signals as Signals
from convert.stage import Stage as Stage

BEAT_VALUES = 1 << 17  # values of the widest signal in one beat: what the cores' caches hold


def free_running(graph: Graph) -> bool:
    """Whether nothing that happens in a timestep decides about the next: then many timesteps can be computed at a time."""
    exits = [graph.ops[n] for n in graph.only("exit_gate")]
    waits = any(e.policy != "fixed_window" or "alive" in graph.sources(n) for n, e in zip(graph.only("exit_gate"), exits))  # type: ignore[attr-defined]
    return not graph.delayed_sources() and not waits


def span_of(graph: Graph, slots: int) -> int:
    """Timesteps that a beat of so many slots takes at a time: 1 where one decides about the next, else what fits `BEAT_VALUES`."""
    if not free_running(graph):
        return 1
    widest = max(int(np.prod(graph.shape_of(n))) for n in [INPUT, *graph.ops])
    return max(1, min(graph.timesteps, BEAT_VALUES // (widest * slots)))


class Injector:
    """Feeds samples into `width` slots. `inputs` is int [N, *shape], sent once, or [N, T, *shape], sent step by step.

    Several injectors may share one `queue` of sample numbers; each takes the next one when a slot is free.
    """

    def __init__(self, graph: Graph, inputs: np.ndarray, width: int, span: int = 1, queue: Iterator[int] | None = None) -> None:
        self.graph, self.inputs, self.span = graph, inputs, span
        self.queue = iter(range(len(inputs))) if queue is None else queue
        shape = tuple(inputs.shape)
        self.stepwise = shape[1:] == (graph.timesteps, *graph.input_shape)
        if not self.stepwise and shape[1:] != tuple(graph.input_shape):
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
        self.feedback = [(s, delayed(s), graph.ops[s]) for s in graph.delayed_sources()]
        self.sample = np.fromiter(islice(self.queue, width), np.int64)
        self.rows = np.arange(len(self.sample))
        self.t = np.ones(len(self.sample), np.int64)

    def beat(self, feedback: Signals | None = None) -> Beat:
        """What the slots see now; `feedback` holds the delayed sources' last outputs, rows as in the beat before."""
        sample, t, span = self.sample, self.t, 1
        if self.span > 1:  # all slots are at the same timestep, because no sample ends early
            span = min(self.span, self.graph.timesteps + 1 - int(t[0]))
            sample, t = np.repeat(sample, span), (t[:, None] + np.arange(span)).ravel()
        first = t == 1
        if self.stepwise:
            x = self.inputs[sample, t - 1].astype(np.int32)
        else:
            x = np.zeros((len(sample), *self.graph.input_shape), np.int32)
            x[first] = self.inputs[sample[first]]
        signals = {INPUT: x}
        begins = self.feedback and first.any()
        for source, name, op in self.feedback:
            if feedback is None:
                signals[name] = op.initial(len(self.sample))
                continue
            signals[name] = last = feedback[source]
            if begins:
                signals[name] = np.where(first.reshape(-1, *[1] * (last.ndim - 1)), op.initial(len(first)), last)
        return Beat(self.rows, sample, t, signals, span)

    def advance(self, done: np.ndarray) -> np.ndarray:
        """Move on: samples that are `done` [A * span] give their slot to the next one. Returns which rows go on, bool [A]."""
        span = len(done) // len(self.t)
        done = done[span - 1 :: span]
        self.t = np.where(done, 1, self.t + span)
        new = np.flatnonzero(done)
        ids = list(islice(self.queue, len(new)))
        self.sample = self.sample.copy()
        self.sample[new] = ids + [len(self.inputs)] * (len(new) - len(ids))
        stay = self.sample < len(self.inputs)
        self.sample, self.t, self.rows = self.sample[stay], self.t[stay], self.rows[stay]
        return stay

    @property
    def finished(self) -> bool:
        return len(self.sample) == 0


def warm(graph: Graph) -> None:
    """Compile the kernels that the graph needs, or load them from their cache: processes forked later inherit them."""
    quiet = min(max(0, graph.input_payload.low), graph.input_payload.high)
    injector = Injector(graph, np.full((1, *graph.input_shape), quiet, np.int32), 1)
    Stage(graph, list(graph.ops), 1).step(injector.beat())


def ending(graph: Graph) -> Callable[[Signals, np.ndarray], np.ndarray]:
    """`done_of` for many beats of one graph: its gate is looked up once."""
    gate = next(iter(graph.only("exit_gate")), None)
    return lambda signals, t: t >= graph.timesteps if gate is None else signals[gate][:, 0] > 0


def done_of(graph: Graph, signals: Signals, t: np.ndarray) -> np.ndarray:
    """Which rows are finished, bool [A]: the exit gate's word, or the last timestep where there is no gate."""
    return ending(graph)(signals, t)


def run(
    graph: Graph,
    inputs: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    batch: int = 64,
    spikes: bool | Collection[str] = False,
    progress: Callable[[int], None] | None = None,
) -> Record:
    """Run all samples on the integer reference.

    Parameters
    ----------
    inputs : int [N, *graph.input_shape], or [N, T, *graph.input_shape]
    labels : int [N], optional
    batch : samples in flight; changes nothing but speed
    spikes : keep every op's output (N * T * neurons * 4 bytes), or that of the ops named
    progress : called with the number of samples that just ended

    Raises
    ------
    DeployError
        For inputs that do not fit the net.
    """
    injector = Injector(graph, inputs, batch, span_of(graph, min(batch, len(inputs))))
    stage = Stage(graph, list(graph.ops), len(injector.sample), injector.span)
    recorder = Recorder(graph, len(inputs), spikes)
    stage.sent, stage.activity = recorder.active, recorder.all_activity()
    held, done_in = Held(recorder), ending(graph)
    feedback: Signals | None = None
    while not injector.finished:
        beat = injector.beat(feedback)
        stage.step(beat)
        done = done_in(beat.signals, beat.t)
        held.add(beat.sample, beat.t, stage.events, beat.signals, done)
        if progress is not None and done.any():
            progress(int(done.sum()))
        stay = injector.advance(done)
        feedback = {s: beat.signals[s][stay] for s, _, _ in injector.feedback}
    held.flush()
    return recorder.record(labels)
