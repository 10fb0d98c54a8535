"""Q-K channel attention: a channel's keys pass if its query spikes at any token."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Examples, Inputs, per_sample, register
from spikegate.ops.base.gating import Gating, examples_of


@register
class QkChannelGate(Gating):
    r"""QKCA (QKFormer, NeurIPS 2024, arXiv 2403.16552).

    .. math:: A_c = \bigvee_{j} q_{jc}, \qquad y_{jc} = A_c \wedge k_{jc}

    Written from the formula (the published code has the token form only); the neurons on the sum of q are exactly OR
    (`spikegate.ops.base.gating`). Heads make no difference. Needs all tokens of a timestep at once.

    Events: ``attention_ac`` = q spikes (each adds one to its channel's counter) + k spikes that meet an open gate.

    Attributes
    ----------
    tokens, channels : int
    """

    kind: ClassVar[str] = "qk_channel_gate"
    slots: ClassVar[tuple[str, ...]] = ("q", "k", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "and", "compare")

    @property
    def counters(self) -> int:
        return self.channels

    def gated(self, maps: list[np.ndarray]) -> np.ndarray:
        q, k = maps
        return k * q.any(1, keepdims=True)

    def gathered(self, maps: list[np.ndarray]) -> np.ndarray:
        return per_sample(maps[0])

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        q, k = self.one(inputs)
        n = np.zeros(self.channels, np.int64)
        alu.add(n, (np.nonzero(q)[1],), 1)
        return self.masked(alu, np.tile(alu.at_least(n, 1), (self.tokens, 1)), k, inputs)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        op = cls(6, 8)
        for steps in examples_of(op, rng, 0.12):
            yield op, steps
