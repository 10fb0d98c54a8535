"""Two records of the same samples: equal, or where they part first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, DeployError

Key = tuple[int, int, int, int]  # sample, timestep, place of the op in the graph, kind: time order, then graph order


@dataclass(frozen=True)
class Divergence:
    """The first difference: `what` differs at `op`, in which sample and timestep (from 1), where in the op, both values."""

    what: str
    op: str
    sample: int
    timestep: int
    index: tuple[int, ...]
    values: tuple[int, int]
    names: tuple[str, str]

    def moved(self, samples: int) -> Divergence:
        """The same with `samples` added to the sample's number (records of a part of the data)."""
        return replace(self, sample=self.sample + samples)

    def __str__(self) -> str:
        axes = {"logit": ("class",), "alive mask": ("token",), "exit": ()}.get(self.what)
        if axes is None:
            axes = ("position", "channel") if len(self.index) == 2 else ("neuron",) * len(self.index)
        place = "".join(f", {axis} {i}" for axis, i in zip(axes, self.index))
        if self.what == "counter":
            place = f", {COUNTERS[self.index[0]]}"
        (one, other), (x, y) = self.names, self.values
        return (f"first divergence: {self.what} at op {self.op}, timestep {self.timestep}{place}, sample {self.sample}: "
                f"{one} has {x}, {other} has {y}")


def first_divergence(a: Record, b: Record, names: tuple[str, str]) -> Divergence | None:
    """The earliest difference in sample, then time, then graph order; None where the records are equal.

    Compares spikes of every op that both recorded, up to the earlier exit of each sample, alive masks, event counters
    (unless a record says ``meta["counts"]`` False), logits and exit steps. `names` say whose records they are.

    Raises
    ------
    DeployError
        If the records are of different nets or numbers of samples.
    """
    if a.ops != b.ops or a.counts.shape != b.counts.shape:
        raise DeployError("compare", f"{names[0]} and {names[1]} ran different nets or samples", "export the run again and compare anew")
    found = min(_differences(a, b), key=lambda d: d[0], default=None)
    if found is None:
        return None
    (sample, timestep, _, _), what, op, index, values = found
    return Divergence(what, op, sample, timestep, index, values, names)


def shared(a: Record, b: Record) -> np.ndarray:
    """Timesteps that both ran, bool [N, T]."""
    return np.arange(1, a.counts.shape[1] + 1) <= np.minimum(a.exit_step, b.exit_step)[:, None]


def _differences(a: Record, b: Record) -> Iterator[tuple[Key, str, str, tuple[int, ...], tuple[int, int]]]:
    """The first difference of each array."""
    both = shared(a, b)
    last = len(a.ops)
    for k, op in enumerate(a.ops):
        if op in a.spikes and op in b.spikes:
            yield from _first(a.spikes[op], b.spikes[op], both, k, 0, "spike", op)
    for g in range(a.alive.shape[2]):
        at = a.ops.index(a.gates[g - 1]) if g else -1
        yield from _first(a.alive[:, :, g], b.alive[:, :, g], both, at, 1, "alive mask", a.gates[g - 1] if a.gates else a.ops[0])
    if a.meta.get("counts", True) and b.meta.get("counts", True):
        for k, op in enumerate(a.ops):
            yield from _first(a.counts[:, :, k], b.counts[:, :, k], both, k, 2, "counter", op)
    ends = np.minimum(a.exit_step, b.exit_step)
    for kind, what, x, y in ((3, "logit", a.logits, b.logits), (4, "exit", a.exit_step[:, None], b.exit_step[:, None])):
        for sample, i in np.argwhere(x != y)[:1].tolist():
            yield (sample, int(ends[sample]), last, kind), what, a.ops[-1], (i,), (int(x[sample, i]), int(y[sample, i]))


def _first(x: np.ndarray, y: np.ndarray, both: np.ndarray, place: int, kind: int, what: str, op: str):
    unequal = (x != y) & both.reshape(*both.shape, *[1] * (x.ndim - 2))
    flat = unequal.reshape(-1)
    if flat.size and (at := int(flat.argmax())) >= 0 and flat[at]:
        sample, step, *index = (int(i) for i in np.unravel_index(at, x.shape))
        where = (sample, step, *index)
        yield (sample, step + 1, place, kind), what, op, tuple(index), (int(x[where]), int(y[where]))


def tally(a: Record, b: Record) -> dict[str, np.ndarray]:
    """For each op that both recorded: int64 [values compared, spikes among them (not 0 in `a`), values that differ]."""
    both = shared(a, b)
    out = {}
    for op in a.ops:
        if op in a.spikes and op in b.spikes:
            x, y = a.spikes[op][both], b.spikes[op][both]
            out[op] = np.array([x.size, np.count_nonzero(x), np.count_nonzero(x != y)], np.int64)
    return out
