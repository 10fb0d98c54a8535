"""Torch twin of `spikegate.ops.route`."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from spikegate.ops.route import Route
from spikegate.train.layers.base import Moment, Twin, total


class HostChannels(Twin):
    """Channels first .. first + count - 1 of the host's map, folded onto the token grid, zeros up to `channels`."""

    once = True

    def __init__(self, grid: tuple[int, int], first: int, count: int, channels: int, low: int, high: int, fold: int = 1) -> None:
        super().__init__()
        self.grid, self.first, self.count, self.channels, self.fold = grid, first, count, channels, fold
        self.low, self.high = low, high

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = total(inputs["x"])[..., self.first : self.first + self.count]
        (h, w), f = self.grid, self.fold
        x = x.reshape(len(x), h // f, f, w // f, f, self.count).transpose(2, 3).flatten(3).flatten(1, 2)
        return F.pad(x, (0, self.channels - x.shape[-1]))

    def to_op(self) -> Route:
        return Route(self.grid, self.first, self.count, self.channels, self.low, self.high, self.fold)
