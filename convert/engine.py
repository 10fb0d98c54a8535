"""The integer reference: runs a graph timestep by timestep. The Lava processes are made of the same two parts.

`Injector` decides which sample and timestep each slot of the batch holds (an exit frees its slot at once);
`Stage` computes some ops for the slots' samples. Rows are the occupied slots only, so nothing idle is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from convert import credit
from convert.ir import COUNTERS, INPUT, MUTE, SKIP, DeployError, Graph, Inputs
from convert.record import Record

Signals = dict[str, np.ndarray]


def delayed(source: str) -> str:
    """Name under which a source's output of the timestep before travels."""
    return f"delayed:{source}"


@dataclass
class Beat:
    """One timestep of the occupied slots: `rows` are slot numbers, `sample` and `t` (from 1) what they hold; all [A]."""

    rows: np.ndarray
    sample: np.ndarray
    t: np.ndarray
    signals: Signals


class Stage:
    """Computes the ops `names` of a graph in order, for up to `width` samples at a time; keeps their state."""

    def __init__(self, graph: Graph, names: list[str], width: int) -> None:
        self.names = names
        self.ops = {n: graph.ops[n] for n in names}
        self.state = {n: op.state(width) for n, op in self.ops.items()}
        self.rows = np.arange(width)
        self.counts: dict[str, np.ndarray] = {}
        self.tap: Callable[[str, dict, np.ndarray], None] | None = None  # sees each op's inputs (audit)
        self._wiring = {}
        for n in names:
            slots = graph.sources(n)
            listed = {s.rstrip("*?") for s in graph.ops[n].slots if "*" in s}
            self._wiring[n] = {
                slot: (slot in listed, [delayed(e.source) if e.delay else e.source for e in edges]) for slot, edges in slots.items()
            }
        self._fanout = {n: sum(getattr(graph.ops[e.target], "copies", 1) for e in graph.consumers(n)) for n in names}

    def _fit(self, rows: np.ndarray) -> None:
        """Drop the state of slots that will not be used again."""
        if len(rows) == len(self.rows):
            return
        keep = np.isin(self.rows, rows)
        self.state = {n: {k: v[keep] for k, v in state.items()} for n, state in self.state.items()}
        self.rows = self.rows[keep]

    def step(self, beat: Beat) -> None:
        """Add each op's output [A, ...] to the beat's signals and its events, int64 [A, counters], to `counts`."""
        self._fit(beat.rows)
        first = beat.t == 1
        for name in self.names:
            state = self.state[name]
            if first.any():
                for array in state.values():
                    array[first] = 0
            inputs = {}
            for slot, (listed, sources) in self._wiring[name].items():
                inputs[slot] = tuple(beat.signals[s] for s in sources) if listed else beat.signals[sources[0]]
            open_rows = np.flatnonzero(inputs["open"][:, 0] != SKIP) if "open" in inputs else None
            if open_rows is None or len(open_rows) == len(beat.t):
                beat.signals[name], self.counts[name] = self._compute(name, state, inputs, beat.t)
            else:
                self._compute_open(name, inputs, beat, open_rows)

    def _compute(self, name: str, state: dict[str, np.ndarray], inputs: Inputs, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Output and events of one op."""
        if self.tap is not None:
            self.tap(name, inputs, t)
        op = self.ops[name]
        out = op.step(state, inputs, t)
        if "open" in inputs:
            out[inputs["open"][:, 0] == MUTE] = 0
        events = op.events(inputs, out, t)
        counts = np.zeros((len(out), len(COUNTERS)), np.int64)
        for counter, values in events.items():
            counts[:, COUNTERS.index(counter)] = values
        counts[:, COUNTERS.index("message")] = events["spike_out"] * self._fanout[name]
        return out, counts

    def _compute_open(self, name: str, inputs: Inputs, beat: Beat, rows: np.ndarray) -> None:
        """The op for the samples whose timestep is not masked; for the others nothing is computed and the state stays."""
        out = beat.signals[name] = np.zeros((len(beat.t), *self.ops[name].out_shape), np.int32)
        counts = self.counts[name] = np.zeros((len(beat.t), len(COUNTERS)), np.int64)
        if not len(rows):
            return
        part = {s: tuple(a[rows] for a in v) if isinstance(v, tuple) else v[rows] for s, v in inputs.items()}
        state = {k: v[rows] for k, v in self.state[name].items()}
        out[rows], counts[rows] = self._compute(name, state, part, beat.t[rows])
        for k, v in state.items():
            self.state[name][k][rows] = v


class Injector:
    """Feeds samples into `width` slots. `inputs` is int [N, *shape], sent once, or [N, T, *shape], sent step by step."""

    def __init__(self, graph: Graph, inputs: np.ndarray, width: int) -> None:
        self.graph, self.inputs = graph, inputs
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
        self.sample = np.arange(min(width, len(inputs)))
        self.rows = np.arange(len(self.sample))
        self.t = np.ones(len(self.sample), np.int64)
        self.next = len(self.sample)

    def beat(self, feedback: Signals | None = None) -> Beat:
        """What the slots see now; `feedback` holds the delayed sources' last outputs, rows as in the beat before."""
        first = self.t == 1
        if self.stepwise:
            x = self.inputs[self.sample, self.t - 1].astype(np.int32)
        else:
            x = np.zeros((len(self.sample), *self.graph.input_shape), np.int32)
            x[first] = self.inputs[self.sample[first]]
        signals = {INPUT: x}
        for source in self.graph.delayed_sources():
            start = self.graph.ops[source].initial(len(self.sample))
            if feedback is None:
                signals[delayed(source)] = start
            else:
                last = feedback[source]
                signals[delayed(source)] = np.where(first.reshape(-1, *[1] * (last.ndim - 1)), start, last)
        return Beat(self.rows, self.sample, self.t, signals)

    def advance(self, done: np.ndarray) -> np.ndarray:
        """Move on: samples that are done give their slot to the next one. Returns which rows go on, bool [A]."""
        self.t = np.where(done, 1, self.t + 1)
        new = np.flatnonzero(done)
        ids = self.next + np.arange(len(new))
        self.next = min(self.next + len(new), len(self.inputs))
        self.sample = self.sample.copy()
        self.sample[new] = ids
        stay = self.sample < len(self.inputs)
        self.sample, self.t, self.rows = self.sample[stay], self.t[stay], self.rows[stay]
        return stay

    @property
    def finished(self) -> bool:
        return len(self.sample) == 0


class Recorder:
    """Collects what stages and exit gate report, from any driver, into a `Record`."""

    def __init__(self, graph: Graph, samples: int, spikes: bool | Collection[str]) -> None:
        self.graph, self.names = graph, list(graph.ops)
        self.gates, first = credit.gates(graph), credit.start(graph)
        self.start = delayed(first) if first else None
        readout = graph.only("readout")
        last = self.names[-1]
        tokens = graph.ops[readout[0]].weight.shape[1] if readout else 1  # type: ignore[attr-defined]
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
        graded = [n for n, op in graph.ops.items() if not (op.payload.binary or op.gates_tokens)]
        self.values = {n: np.zeros((samples, t), np.int64) for n in graded}

    def counted(self, sample: np.ndarray, t: np.ndarray, counts: dict[str, np.ndarray]) -> None:
        for name, values in counts.items():
            self.counts[sample, t - 1, self.names.index(name)] = values

    def signals(self, sample: np.ndarray, t: np.ndarray, signals: Signals) -> None:
        """Take alive masks, logits and spikes from whichever signals are given."""
        steps = [(k, slice(None) if (t == k).all() else t == k) for k in np.unique(t)]
        for name, value in signals.items():
            if name in self.graph.ops:
                self._active(name, value, steps)
            if name in self.values:
                self.values[name][sample, t - 1] = np.abs(value.reshape(len(value), -1)).sum(1, dtype=np.int64)
            if name in self.spikes:
                self.spikes[name][sample, t - 1] = value
            if name in self.gates:
                self.alive[sample, t - 1, self.gates.index(name) + 1] = value > 0
            if name == self.start:
                self.alive[sample, t - 1, 0] = value > 0
            if name == self.logits_of:
                flat = value.reshape(len(value), -1)
                self.logits[sample] = flat if self.graph.ops[name].kind == "readout" else self.logits[sample] + flat
        if self.start is None:
            self.alive[sample, t - 1, 0] = True

    def _active(self, name: str, value: np.ndarray, steps: list) -> None:
        """Add which neurons sent something; `steps` are (timestep, its rows)."""
        if name not in self.activity:
            self.activity[name] = np.zeros((self.graph.timesteps, *value.shape[1:]), np.int32)
        sent = value != 0
        for k, rows in steps:
            self.activity[name][k - 1] += sent[rows].sum(0, dtype=np.int32)

    def ended(self, sample: np.ndarray, t: np.ndarray, done: np.ndarray) -> None:
        self.exit_step[sample[done]] = t[done]

    def record(self, labels: np.ndarray | None = None, **meta) -> Record:
        kinds = [op.kind for op in self.graph.ops.values()]
        return Record(
            self.names, kinds, self.counts, self.exit_step, self.logits, self.gates, self.alive, self.spikes, labels, meta,
            credit.entering(self.graph), self.activity, {n: self.values[n] for n in self.activity if n in self.values},
        )


def done_of(graph: Graph, signals: Signals, t: np.ndarray) -> np.ndarray:
    """Which rows are finished, bool [A]: the exit gate's word, or the last timestep where there is no gate."""
    gates = graph.only("exit_gate")
    return signals[gates[0]][:, 0] > 0 if gates else t >= graph.timesteps


def warm_up(graph: Graph) -> None:
    """Compute one timestep of nothing, so that the compiled kernels are loaded before processes are forked: else each loads its own."""
    x = np.full((1, *graph.input_shape), min(max(0, graph.input_payload.low), graph.input_payload.high), np.int32)
    Stage(graph, list(graph.ops), 1).step(Injector(graph, x, 1).beat())


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
    injector = Injector(graph, inputs, batch)
    stage = Stage(graph, list(graph.ops), len(injector.sample))
    recorder = Recorder(graph, len(inputs), spikes)
    feedback: Signals | None = None
    while not injector.finished:
        beat = injector.beat(feedback)
        stage.step(beat)
        recorder.counted(beat.sample, beat.t, stage.counts)
        recorder.signals(beat.sample, beat.t, beat.signals)
        done = done_of(graph, beat.signals, beat.t)
        recorder.ended(beat.sample, beat.t, done)
        if progress is not None and done.any():
            progress(int(done.sum()))
        stay = injector.advance(done)
        feedback = {s: beat.signals[s][stay] for s in graph.delayed_sources()}
    return recorder.record(labels)
