"""Multi-scale spiking attention: a token's keys pass if its queries and its neighbourhood's projection spike enough."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Examples, Inputs, Payloads, Problems, Shapes, per_sample, register
from spikegate.ops.base.gating import Gating, examples_of


@register
class MultiscaleGate(Gating):
    r"""MSSA (MSViT, IJCAI 2025), per head; P is a second query whose projection sees neighbouring tokens.

    .. math::
        n_j = \sum_{c \in \text{head}} q_{jc} + p_{jc}, \qquad A_j = [n_j \ge \vartheta], \qquad y_{jc} = A_j \wedge k_{jc}

    Reconstructed from the published code. Its neurons are named with threshold 0.5 (one count) but are built with 1.0
    (two counts, because the argument is dropped): `threshold` 1 is the intended gate, 2 the one shipped. Both are
    memoryless on counts (`spikegate.ops.base.gating`); higher ones are not these neurons and are refused.

    Events: ``attention_ac`` = q and p spikes (each adds one to its token's and head's counter) + k spikes that meet an
    open gate.

    Attributes
    ----------
    tokens, channels, heads : int
    threshold : int, 1 or 2
    """

    kind: ClassVar[str] = "multiscale_gate"
    slots: ClassVar[tuple[str, ...]] = ("q", "p", "k", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "and", "compare")

    heads: int
    threshold: int = 1

    @property
    def counters(self) -> int:
        return self.tokens * self.heads

    @property
    def dense_ops(self) -> int:
        return 3 * self.tokens * self.channels

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Bits of one shape, whole heads, a threshold without memory."""
        if self.channels % self.heads:
            yield f"{self.channels} channels do not split into {self.heads} heads", "choose heads that divide the channels"
        if self.threshold not in (1, 2):
            yield f"threshold {self.threshold} is not memoryless", "use 1 (as intended) or 2 (as published)"
        yield from super().problems(shapes, payloads)

    def gated(self, maps: list[np.ndarray]) -> np.ndarray:
        q, p, k = maps
        heads = (*q.shape[:2], self.heads, -1)
        n = q.reshape(heads).sum(3, keepdims=True) + p.reshape(heads).sum(3, keepdims=True)
        passed: np.ndarray = k.reshape(heads) * (n >= self.threshold)
        return passed.reshape(k.shape)

    def gathered(self, maps: list[np.ndarray]) -> np.ndarray:
        spikes: np.ndarray = per_sample(maps[0]) + per_sample(maps[1])
        return spikes

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        q, p, k = self.one(inputs)
        width = self.channels // self.heads
        n = np.zeros((self.tokens, self.heads), np.int64)
        for spikes in (q, p):
            j, c = np.nonzero(spikes)
            alu.add(n, (j, c // width), 1)
        return self.masked(alu, np.repeat(alu.at_least(n, self.threshold), width, 1), k, inputs)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        for op in (cls(6, 8, 2, 1), cls(6, 8, 2, 2)):
            for steps in examples_of(op, rng, 0.2):
                yield op, steps
