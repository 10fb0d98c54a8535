"""Torch twin of `spikegate.ops.sdsa`."""

from __future__ import annotations

import torch

from spikegate.ops.sdsa import Sdsa
from spikegate.train.layers.base import Moment
from spikegate.train.layers.dynamics import reached
from spikegate.train.layers.gating import GateTwin


class SpikeDrivenAttention(GateTwin):
    """SDSA on binary q, k, v [T, batch, tokens, channels]: q where k and v meet in that channel at any token."""

    maps = ("q", "k", "v")

    def gated(self, now: Moment, maps: list[torch.Tensor]) -> torch.Tensor:
        q, k, v = maps
        met = k * v
        now.book(met, 1)
        return q * reached(met.sum(-2, keepdim=True, dtype=torch.float32), 1).to(q.dtype)

    def to_op(self) -> Sdsa:
        return Sdsa(self.tokens, self.channels)
