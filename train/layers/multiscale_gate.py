"""Torch twin of `spikegate.ops.multiscale_gate`."""

from __future__ import annotations

import torch

from spikegate.ops.multiscale_gate import MultiscaleGate
from spikegate.train.layers.base import Moment
from spikegate.train.layers.dynamics import reached
from spikegate.train.layers.gating import GateTwin


class MultiscaleAttention(GateTwin):
    """MSSA on binary q, p, k [T, batch, tokens, channels]: k where the head's q and p together reach `threshold` spikes."""

    maps = ("q", "p", "k")

    def __init__(self, tokens: int, channels: int, heads: int, threshold: int) -> None:
        super().__init__(tokens, channels, heads)
        self.threshold = threshold

    def gated(self, now: Moment, maps: list[torch.Tensor]) -> torch.Tensor:
        q, p, k = maps
        now.book(q, 1)
        now.book(p, 1)
        return (reached(self.count([q, p]), self.threshold).to(k.dtype) * self.split(k)).flatten(-2)

    def to_op(self) -> MultiscaleGate:
        return MultiscaleGate(self.tokens, self.channels, self.heads, self.threshold)
