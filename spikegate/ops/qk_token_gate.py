"""Q-K token attention: a token's keys pass if any of its queries spikes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Examples, Inputs, Payloads, Problems, Shapes, per_sample, register
from spikegate.ops.base.gating import Gating, examples_of


@register
class QkTokenGate(Gating):
    r"""QKTA (QKFormer, NeurIPS 2024, arXiv 2403.16552, eq. 5-6), per head.

    .. math:: A_j = \bigvee_{c \in \text{head}} q_{jc}, \qquad y_{jc} = A_j \wedge k_{jc}

    The paper writes A as spiking neurons (tau 2, threshold 0.5) on the sum of q: on counts that is exactly OR
    (`spikegate.ops.base.gating`). There is no V, no scale and no state.

    Events: ``attention_ac`` = q spikes (each adds one to its token's and head's counter) + k spikes that meet an open gate.

    Attributes
    ----------
    tokens, channels, heads : int
    """

    kind: ClassVar[str] = "qk_token_gate"
    slots: ClassVar[tuple[str, ...]] = ("q", "k", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "and", "compare")

    heads: int

    @property
    def counters(self) -> int:
        return self.tokens * self.heads

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Bits of one shape, whole heads."""
        if self.channels % self.heads:
            yield f"{self.channels} channels do not split into {self.heads} heads", "choose heads that divide the channels"
        yield from super().problems(shapes, payloads)

    def gated(self, maps: list[np.ndarray]) -> np.ndarray:
        q, k = maps
        heads = (*q.shape[:2], self.heads, -1)
        return (k.reshape(heads) * q.reshape(heads).any(3, keepdims=True)).reshape(k.shape)

    def gathered(self, maps: list[np.ndarray]) -> np.ndarray:
        return per_sample(maps[0])

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        q, k = self.one(inputs)
        width = self.channels // self.heads
        n = np.zeros((self.tokens, self.heads), np.int64)
        j, c = np.nonzero(q)
        alu.add(n, (j, c // width), 1)
        return self.masked(alu, np.repeat(alu.at_least(n, 1), width, 1), k, inputs)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        for op in (cls(6, 8, 2), cls(5, 6, 6)):
            for steps in examples_of(op, rng, 0.25):
                yield op, steps
