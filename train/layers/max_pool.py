"""Torch twin of `spikegate.ops.max_pool`."""

from __future__ import annotations

import torch

from spikegate.ops import max_pool
from spikegate.synapses.synapse import out_grid
from spikegate.train.backends.choose import backend_for
from spikegate.train.layers.base import Moment, Twin


class MaxPool(Twin):
    """OR over windows of one map of bits [T, batch, positions, channels].

    Backward, every spike site of a window receives the surrogate's slope at the window's count: a silent window is
    thus pushed to spike, which the maximum's own gradient tells only its first position.
    """

    def __init__(self, channels: int, kernel: int, grid: tuple[int, int], stride: int = 1, padding: int | None = None) -> None:
        super().__init__()
        self.channels, self.kernel, self.grid, self.stride = channels, kernel, grid, stride
        self.padding = kernel // 2 if padding is None else padding

    @property
    def out_grid(self) -> tuple[int, int]:
        return out_grid(self.grid, (self.kernel, self.kernel), self.stride, self.padding)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        (x,) = inputs["x"]  # max(x + y) is not max(x) + max(y)
        now.book(x, self.kernel**2 / self.stride**2)
        return backend_for(x.device).pool(x, self.grid, self.kernel, self.stride, self.padding)

    def to_op(self) -> max_pool.MaxPool:
        return max_pool.MaxPool(self.grid, self.channels, self.kernel, self.stride, self.padding)
