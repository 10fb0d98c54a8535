"""Torch twin of `spikegate.ops.inject`: one integer map, replayed every timestep while its tokens live."""

from __future__ import annotations

import torch

from spikegate.ops.inject import Inject
from spikegate.train.layers.base import Moment, Twin, alive_mask, total


class Replay(Twin):
    """Holds the sum of its once-only sources [batch, positions, channels]; `low` and `high` bound that sum."""

    def __init__(self, shape: tuple[int, int], low: int, high: int) -> None:
        super().__init__()
        self.shape, self.low, self.high = shape, low, high

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        if now.first == 1:
            now.state[self.name] = total(inputs["x"])
        held = now.state[self.name]
        out = held.unsqueeze(0).expand(now.steps, *held.shape)
        mask = alive_mask(inputs)
        return out if mask is None else out * mask

    def to_op(self) -> Inject:
        return Inject(self.shape, self.low, self.high)
