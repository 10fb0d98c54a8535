"""Frames of events as the chip receives them: no host arithmetic, each timestep its own input."""

from __future__ import annotations

import torch
from torch import nn


class EventInput(nn.Module):
    """uint8 frames [batch, T, channels, height, width] with values up to `high` to spikes [T, batch, positions, channels]."""

    macs = 0  # nothing is embedded

    def __init__(self, frames: tuple[int, ...], high: int) -> None:
        super().__init__()
        self.timesteps, self.channels, *grid = frames
        self.grid = grid[0], grid[1]
        self.low, self.high = 0, high
        self.phase = "float"

    @property
    def out_shape(self) -> tuple[int, int]:
        """(positions, channels) of one timestep."""
        return self.grid[0] * self.grid[1], self.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).flatten(3).transpose(2, 3).float().contiguous()
