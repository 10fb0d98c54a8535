"""Torch twin of `spikegate.ops.biased`: encodes the host's integers, held as biases, into spikes."""

from __future__ import annotations

import torch

from spikegate.ops.biased import Biased
from spikegate.train.layers.base import Moment, Twin, alive_mask, fire, spread, total
from spikegate.train.layers.conv import HALF
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.slayer_import import slayer


class BiasEncoder(Twin):
    """CUBA neurons (SLAYER's, for threshold and decays) whose biases are the integers of the first timestep, in mantissa units.

    `low` and `high` bound the biases; `grid` (height, width) of the map.
    """

    def __init__(self, grid: tuple[int, int], channels: int, threshold: float, low: int, high: int) -> None:
        super().__init__()
        self.grid, self.shape, self.low, self.high = grid, (grid[0] * grid[1], channels), low, high
        self.neuron = slayer.neuron.cuba.Neuron(threshold, 1.0, 0.5)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        key = self.name, "bias"
        if now.first == 1:
            now.state[key] = total(inputs["x"])
        kept = now.state[key]
        current = kept.unsqueeze(0).expand(now.steps, *kept.shape)
        inputs = spread(inputs, self.grid)
        alive = alive_mask(inputs)
        mask = None if alive is None else alive.squeeze(-1)
        return fire(self, current, self.neuron, HALF, inputs, now, alive=mask, scale=torch.full((1,), 1 / MANT, device=kept.device))

    def to_op(self) -> Biased:
        return Biased(self.shape, self.low, self.high, self.cuba(self.neuron.threshold, HALF), self.grid)
