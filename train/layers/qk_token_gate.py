"""Torch twin of `spikegate.ops.qk_token_gate`."""

from __future__ import annotations

import torch

from spikegate.ops.qk_token_gate import QkTokenGate
from spikegate.train.layers.base import Moment
from spikegate.train.layers.dynamics import reached
from spikegate.train.layers.gating import GateTwin


class TokenAttention(GateTwin):
    """QKTA on binary q, k [T, batch, tokens, channels]: k where any channel of the head's q spikes."""

    maps = ("q", "k")

    def gated(self, now: Moment, maps: list[torch.Tensor]) -> torch.Tensor:
        q, k = maps
        now.book(q, 1)
        return (reached(self.count([q]), 1).to(k.dtype) * self.split(k)).flatten(-2)

    def to_op(self) -> QkTokenGate:
        return QkTokenGate(self.tokens, self.channels, self.heads)
