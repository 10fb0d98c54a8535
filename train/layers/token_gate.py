"""Torch twin of `convert.ops.token_gate`: the halting score with a learned offset, accumulated as deployed."""

from __future__ import annotations

import math

import torch
from torch import nn

from convert.ops.token_gate import TokenGate
from train.layers.base import Moment, Twin, total
from train.layers.dynamics import alive_bit, straight_round

EPS = 0.01  # A-ViT's and ACT's: a token halts when its scores sum to 1 - eps


class Gate(Twin):
    """Credit [T, batch, tokens] left after a block; score ``sigmoid(gamma n + beta)`` of the halting channel's count n.

    beta is learned for each gate (a fixed one caps the score and leaves the ponder weight without grip). `high` is the
    largest count. The table is computed once per forward pass, so that training and export read the same integers.
    """

    halts = True

    def __init__(
        self, tokens: int, high: int, gamma: float = 1.5, beta: float = -6.0, bits: int = 10, slope: float = 0.3, channel: int = 0
    ) -> None:
        super().__init__()
        self.tokens, self.high, self.bits, self.slope, self.channel = tokens, high, bits, slope, channel
        self.beta = nn.Parameter(torch.tensor(float(beta)))
        self.register_buffer("gamma", torch.tensor(float(gamma)))

    @property
    def unit(self) -> float:
        return float(1 << self.bits)

    @property
    def theta(self) -> int:
        return math.ceil((1 - EPS) * self.unit)

    def table(self) -> torch.Tensor:
        """Scores of the counts 0..high in 1 / 2^bits, float [high + 1] holding integers."""
        n = torch.arange(self.high + 1, dtype=torch.float32)
        return straight_round(torch.sigmoid(self.gamma * n + self.beta) * self.unit)

    def prepare(self) -> None:
        self.cached = self.table()

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        n = total([x[..., self.channel] for x in inputs["x"]])
        credit = inputs["chain"]
        h = self.cached[n.detach().long()]
        soft = (h / self.unit).detach()
        h = h + (self.gamma * self.unit * soft * (1 - soft)) * (n - n.detach())  # the sigmoid's slope for the count
        alive = (credit.detach() > 0).to(credit.dtype)
        left = credit - h * alive
        return left - left.detach().clamp(max=0)  # clip at 0 in value, not in gradient

    def alive(self, credit: torch.Tensor) -> torch.Tensor:
        """Alive bits, straight-through."""
        return alive_bit(credit, self.unit, self.slope)

    def initial(self, batch: int) -> torch.Tensor:
        """Credit before the first timestep [1, batch, tokens]."""
        return torch.full((1, batch, self.tokens), float(self.theta))

    def to_op(self) -> TokenGate:
        table = self.table().detach().round().int().numpy()
        return TokenGate(self.tokens, table, self.theta, self.channel)
