"""Torch twin of `spikegate.ops.relay`: passes the embedding on for living tokens."""

from __future__ import annotations

import torch

from spikegate.ops.relay import Relay
from spikegate.train.layers.base import Moment, Twin, alive_mask, total


class Pass(Twin):
    """Sum of its sources [T, batch, positions, channels], at most `high`; 0 for tokens without credit."""

    def __init__(self, shape: tuple[int, int], high: int) -> None:
        super().__init__()
        self.shape, self.high = shape, high

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        mask = alive_mask(inputs)
        x = total(inputs["x"])
        return x if mask is None else x * mask.to(x.dtype)

    def to_op(self) -> Relay:
        return Relay(self.shape, self.high)
