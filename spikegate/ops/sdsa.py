"""Spike-driven self-attention: AND of key and value, OR over tokens, AND with the query."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Examples, Inputs, nonzero, register
from spikegate.ops.base.gating import Gating, examples_of


@register
class Sdsa(Gating):
    r"""SDSA of the spike-driven transformer V1 (NeurIPS 2023, arXiv 2307.01694, eq. 9), per channel.

    .. math:: g_c = \bigvee_{m} (k_{mc} \wedge v_{mc}), \qquad y_{nc} = q_{nc} \wedge g_c

    The paper's neurons on the column sums (tau 2, threshold 0.5) are exactly OR (`spikegate.ops.base.gating`). Heads make no
    difference. Needs all tokens of a timestep at once.

    Events: ``attention_ac`` = coincidences of k and v (each adds one to its channel's counter) + q spikes that meet an
    open gate.

    Attributes
    ----------
    tokens, channels : int
    """

    kind: ClassVar[str] = "sdsa"
    slots: ClassVar[tuple[str, ...]] = ("q", "k", "v", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "and", "compare")

    @property
    def counters(self) -> int:
        return self.tokens * self.channels + self.channels

    def gated(self, maps: list[np.ndarray]) -> np.ndarray:
        q, k, v = maps
        passed: np.ndarray = q * (k & v).any(1, keepdims=True)
        return passed

    def gathered(self, maps: list[np.ndarray]) -> np.ndarray:
        _, k, v = maps
        return nonzero([k & v])

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        q, k, v = self.one(inputs)
        n = np.zeros(self.channels, np.int64)
        alu.add(n, (np.nonzero(alu.coincide(k, v))[1],), 1)
        return self.masked(alu, np.tile(alu.at_least(n, 1), (self.tokens, 1)), q, inputs)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        op = cls(6, 8)
        for steps in examples_of(op, rng, 0.3):
            yield op, steps
