"""Torch twin of `spikegate.ops.qk_channel_gate`."""

from __future__ import annotations

import torch

from spikegate.ops.qk_channel_gate import QkChannelGate
from spikegate.train.layers.base import Moment
from spikegate.train.layers.dynamics import reached
from spikegate.train.layers.gating import GateTwin


class ChannelAttention(GateTwin):
    """QKCA on binary q, k [T, batch, tokens, channels]: k where the channel's q spikes at any token."""

    maps = ("q", "k")

    def gated(self, now: Moment, maps: list[torch.Tensor]) -> torch.Tensor:
        q, k = maps
        now.book(q, 1)
        return reached(q.sum(-2, keepdim=True, dtype=torch.float32), 1).to(k.dtype) * k

    def to_op(self) -> QkChannelGate:
        return QkChannelGate(self.tokens, self.channels)
