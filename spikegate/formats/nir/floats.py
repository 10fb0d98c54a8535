"""Runs a plan in floats: what the import is measured against."""

from __future__ import annotations

import numpy as np

from spikegate.formats.nir.linear import Shape, applied, as_map, size_of
from spikegate.formats.nir.plan import LAST, Layer, Plan, Source, Term


def as_positions(x: np.ndarray, shape: Shape) -> np.ndarray:
    """Signals [..., channels, height, width] as a graph takes them, [..., positions, channels]; vectors stay."""
    if len(shape) == 1:
        return x
    lead = x.ndim - len(shape)
    return np.moveaxis(x.reshape(*x.shape[:lead], as_map(shape)[0], -1), lead, -1)


class FloatRun:
    """Spikes float [n, T, size] of every layer in NIR's flat order, and what the output receives, `answer` [n, T, size]."""

    def __init__(self, plan: Plan, x: np.ndarray) -> None:
        """`x` [n, T, size] in flat order."""
        assert plan.head is not None
        self.plan, (n, steps, _) = plan, x.shape
        self.sent = {plan.input_name: x.astype(float)}
        if plan.replay:
            self.sent[plan.replay] = np.repeat(x[:, :1], steps, 1).astype(float)
        head = plan.head
        layers = [*plan.layers.values(), *([head.layer] if head.layer else [])]
        for layer in plan.layers.values():
            self.sent[layer.name] = np.zeros((n, steps, size_of(layer.shape)))
        state = {layer.name: np.zeros((2, n, size_of(layer.shape))) for layer in layers}
        self.answer = np.zeros((n, steps, size_of(head.shape)))
        for t in range(steps):
            for layer in plan.layers.values():
                self.sent[layer.name][:, t] = self._step(layer, state[layer.name], t)
            if head.layer is not None:
                self.answer[:, t] = self._step(head.layer, state[head.layer.name], t)
            else:
                self.answer[:, t] = sum(self._term(term, t) for term in head.terms) * head.gain
        if head.rule == LAST:
            self.answer = self.answer.cumsum(1)

    def scores(self) -> np.ndarray:
        """The answer of each sample, [n, size]."""
        assert self.plan.head is not None
        return self.answer[:, -1] if self.plan.head.rule == LAST else self.answer.sum(1)

    def _step(self, layer: Layer, state: np.ndarray, t: int) -> np.ndarray:
        u, v = state
        u[:] = layer.keep_u * u + layer.gain * sum(self._term(term, t) for term in layer.terms)
        v[:] = layer.keep_v * v + u + layer.bias
        if layer.threshold is None:
            return np.array(v)
        if layer.step is not None:
            sent: np.ndarray = np.clip(np.ceil((v - layer.threshold) / layer.step), 0, layer.levels)
            v[:] = v - sent * layer.step
            return sent
        spikes = v > layer.threshold
        v[:] = np.where(spikes, np.broadcast_to(layer.reset, v.shape), v)
        return np.asarray(spikes, float)

    def arriving(self, term: Term, t: int) -> np.ndarray:
        """Sum of a term's sources at a timestep, [n, size]."""
        return sum((self._late(s, t) for s in term.sources), np.zeros(1))

    def _term(self, term: Term, t: int) -> np.ndarray:
        return applied(term.map, self.arriving(term, t)) + term.bias

    def _late(self, s: Source, t: int) -> np.ndarray:
        x = self.sent[s.name]
        if isinstance(s.delay, int):
            return x[:, t - s.delay] if t >= s.delay else np.zeros_like(x[:, 0])
        late = t - np.array(s.delay)
        return np.where(late >= 0, x[:, np.maximum(late, 0), np.arange(x.shape[2])], 0.0)
