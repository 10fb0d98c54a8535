"""Torch twin of `spikegate.ops.token_move`: absorbed tokens' events as events of their neighbours."""

from __future__ import annotations

import torch

from spikegate.ops.base.pairs import neighbours
from spikegate.ops.token_merge import ABSORBED
from spikegate.ops.token_move import TokenMove
from spikegate.train.layers.base import Moment, Twin, total


class Move(Twin):
    """Map [T, batch, tokens, channels] of what moves; without time axis where its sources work once (`once`)."""

    halts = True

    def __init__(self, grid: tuple[int, int], channels: int, high: int, once: bool = False) -> None:
        super().__init__()
        self.grid, self.channels, self.high, self.once = grid, channels, high, once
        for name, side in zip(("kept", "absorbed"), neighbours(grid)):
            self.register_buffer(name, torch.tensor(side), persistent=False)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x, credit = total(inputs["x"]), inputs["after"].detach()
        credit = credit[0] if self.once else credit
        goes = (credit[..., self.absorbed] == ABSORBED) & (credit[..., self.kept] > 0)
        return torch.zeros_like(x).index_copy(x.dim() - 2, self.kept, x[..., self.absorbed, :] * goes.unsqueeze(-1))

    def to_op(self) -> TokenMove:
        return TokenMove(self.grid, self.channels, self.high)
