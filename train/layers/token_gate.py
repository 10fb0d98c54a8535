"""Torch twin of `spikegate.ops.token_gate`: the halting score with a learned offset, accumulated as deployed."""

from __future__ import annotations

import math

import torch
from torch import nn

from spikegate.ops.base.scoring import ScoringGate
from spikegate.ops.token_gate import TokenGate
from spikegate.train.backends.choose import backend_for
from spikegate.train.layers.base import Moment, Twin, total
from spikegate.train.layers.dynamics import alive_bit, straight_round

EPS = 0.01  # A-ViT's and ACT's: a token halts when its scores sum to 1 - eps


class Gate(Twin):
    """Credit [T, batch, tokens] left after a block; score ``sigmoid(gamma n + beta)`` of the count n of the halting channels.

    beta is learned for each gate (a fixed one caps the score and leaves the ponder weight without grip). `high` is the
    largest count. The table is computed once per forward pass, so that training and export read the same integers.
    """

    halts = True
    gates_tokens = True
    op: type[ScoringGate] = TokenGate
    gamma: torch.Tensor

    def __init__(
        self, tokens: int, high: int, gamma: float = 1.5, beta: float = -6.0, bits: int = 10, slope: float = 0.3,
        channel: int = 0, width: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens, self.high, self.bits, self.slope, self.channel, self.width = tokens, high, bits, slope, channel, width
        self.beta = nn.Parameter(torch.tensor(float(beta)))
        self.register_buffer("gamma", torch.tensor(float(gamma)))

    @property
    def unit(self) -> float:
        return float(1 << self.bits)

    @property
    def theta(self) -> int:
        return full_credit(self.bits)

    def table(self) -> torch.Tensor:
        """Scores of the counts 0..high in 1 / 2^bits, float [high + 1] holding integers."""
        n = torch.arange(self.high + 1, dtype=torch.float32, device=self.beta.device)
        return straight_round(torch.sigmoid(self.gamma * n + self.beta) * self.unit)

    def prepare(self) -> None:
        self.cached = self.table()

    def scores(self, inputs: dict) -> torch.Tensor:
        """Scores [T, batch, tokens]; backward, the sigmoid's slope for beta and for the count."""
        n = total([x[..., self.channel : self.channel + self.width].sum(-1, dtype=torch.float32) for x in inputs["x"]])
        h = backend_for(n.device).lookup(self.cached, n.detach())
        soft = (h / self.unit).detach()
        return h + (self.gamma * self.unit * soft * (1 - soft)) * (n - n.detach())

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        credit = inputs["chain"] if "chain" in inputs else self.initial(now.batch).expand(now.steps, -1, -1)
        return clipped(credit - self.scores(inputs) * (credit.detach() > 0))

    def alive(self, credit: torch.Tensor) -> torch.Tensor:
        """Alive bits, straight-through."""
        return alive_bit(credit, self.unit, self.slope)

    def initial(self, batch: int) -> torch.Tensor:
        """Credit before the first timestep [1, batch, tokens]."""
        return torch.full((1, batch, self.tokens), float(self.theta), device=self.beta.device)

    def to_op(self) -> ScoringGate:
        table = self.table().detach().round().int().cpu().numpy()
        return self.op(self.tokens, table, self.theta, self.channel, self.width)


def full_credit(bits: int) -> int:
    """Credit of a token that nothing has scored yet."""
    return math.ceil((1 - EPS) * (1 << bits))


def clipped(left: torch.Tensor) -> torch.Tensor:
    """At least 0 in value; the gradient goes on below."""
    return left - left.detach().clamp(max=0)
