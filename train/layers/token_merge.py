"""Torch twin of `spikegate.ops.token_merge`: which tokens go on as one."""

from __future__ import annotations

import torch

from spikegate.ops.base.pairs import neighbours
from spikegate.ops.token_merge import ABSORBED, TokenMerge
from spikegate.train.layers.base import Moment, Twin, total
from spikegate.train.layers.dynamics import alive_bit
from spikegate.train.layers.token_gate import full_credit


class Merge(Twin):
    """Credit [T, batch, tokens] with the absorbed tokens at -1. The decision has no gradient; credit that passes has.

    `bits` and `slope` are those of the gates after it.
    """

    halts = True
    gates_tokens = True

    def __init__(self, grid: tuple[int, int], channels: int, delta: int, bits: int = 10, slope: float = 0.3) -> None:
        super().__init__()
        self.grid, self.channels, self.delta, self.bits, self.slope = grid, channels, delta, bits, slope
        for name, side in zip(("kept", "absorbed"), neighbours(grid)):
            self.register_buffer(name, torch.tensor(side), persistent=False)

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @torch.no_grad()
    def alike(self, x: torch.Tensor) -> torch.Tensor:
        """Pairs whose spikes in the map [batch, tokens, channels] differ in at most delta, bool [batch, pairs]."""
        spikes = (x > 0).to(x.dtype)
        a, b = spikes[:, self.kept], spikes[:, self.absorbed]
        return 2 * (a * b).sum(-1) >= (a + b).sum(-1) - self.delta

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        credit = inputs["chain"] if "chain" in inputs else self.initial(now.batch).expand(now.steps, -1, -1)
        if now.first == 1:
            x = total(inputs["x"])
            first = credit[0]
            a, b = first[:, self.kept], first[:, self.absorbed]
            merged = self.alike(x[0] if x.dim() == 4 else x) & (a > 0) & (b > 0)
            now.state[self.name] = torch.zeros(first.shape, dtype=torch.bool, device=first.device).index_copy(1, self.absorbed, merged)
            first = first.index_copy(1, self.kept, torch.where(merged, torch.minimum(a, b), a))
            credit = torch.cat([first[None], credit[1:]])
        return torch.where(now.state[self.name], float(ABSORBED), credit)

    def alive(self, credit: torch.Tensor) -> torch.Tensor:
        """Alive bits, straight-through."""
        return alive_bit(credit, float(1 << self.bits), self.slope)

    def initial(self, batch: int) -> torch.Tensor:
        """Credit before the first timestep [1, batch, tokens]."""
        return torch.full((1, batch, self.tokens), float(full_credit(self.bits)), device=self.kept.device)

    def to_op(self) -> TokenMerge:
        return TokenMerge(self.grid, self.channels, self.delta, full_credit(self.bits))
