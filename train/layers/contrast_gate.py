"""Torch twin of `spikegate.ops.contrast_gate`: nothing of it is trained, its constants are those that an export was calibrated with."""

from __future__ import annotations

import torch

from spikegate.ops.contrast_gate import ContrastGate, beside
from spikegate.train.layers.base import Moment, Twin


class Contrast(Twin):
    """Credit [T, batch, tokens] left; a token loses one in each timestep in which its score is below `cut`."""

    halts = True
    gates_tokens = True

    def __init__(self, grid: tuple[int, int], channels: int, cut: int, theta: int = 1, shift: int = 2) -> None:
        super().__init__()
        self.grid, self.channels, self.cut, self.theta, self.shift = grid, channels, cut, theta, shift
        self.register_buffer("sides", torch.tensor(beside(grid)), persistent=False)

    @torch.no_grad()
    def scores(self, x: torch.Tensor, now: Moment) -> torch.Tensor:
        """Contrast [T, batch, tokens] of maps [T, batch, tokens, channels] with their neighbours, and with the timestep before."""
        x = x.float()
        space = sum((x - x[:, :, side]).abs().sum(-1) for side in self.sides)
        value = x.sum(-1)
        before = now.state.get(self.name)
        before = value[:1] if before is None else before  # no change in time at the first timestep
        now.state[self.name] = value[-1:]
        change = (value - torch.cat([before, value[:-1]])).abs()
        return space + change * (1 << self.shift)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        credit = inputs["chain"] if "chain" in inputs else self.initial(now.batch).expand(now.steps, -1, -1)
        quiet = (self.scores(now.total(inputs["x"]), now) < self.cut).to(credit.dtype)
        return torch.where(credit > 0, credit - quiet, 0.0)

    def alive(self, credit: torch.Tensor) -> torch.Tensor:
        """Alive bits."""
        return (credit > 0).to(credit.dtype)

    def initial(self, batch: int) -> torch.Tensor:
        """Credit before the first timestep [1, batch, tokens]."""
        return torch.full((1, batch, self.grid[0] * self.grid[1]), float(self.theta), device=self.sides.device)

    def to_op(self) -> ContrastGate:
        return ContrastGate(self.grid, self.channels, self.cut, self.theta, self.shift)
