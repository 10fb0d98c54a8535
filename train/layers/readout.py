"""Torch twin of `spikegate.ops.readout`: a linear head on every token, last-alive values kept."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from spikegate.ops.readout import Readout
from spikegate.train.layers.base import Moment, Twin
from spikegate.train.layers.dynamics import MANT, straight_round
from spikegate.train.layers.folding import BIAS_LIMIT, integers
from spikegate.train.layers.slayer_import import slayer

SMALLER = 16  # a head that starts as torch.nn.Linear does leaves its weights room to grow within their 8 bits
LARGEST = 3.9  # 8-bit weights reach from -4.0 to 3.96875


class Head(Twin):
    """Cumulative logits [T, batch, classes] in mantissa units.

    With `shared` weights the tokens are summed first, as in the published nets (their mean, but for a constant).
    `scale` (learned, positive) turns them into the loss's logits; it does not move the maximum and stays in training.
    """

    def __init__(
        self, tokens: int, channels: int, classes: int, timesteps: int, spread: float = 0.25, shared: bool = False, start: str = "wide"
    ) -> None:
        super().__init__()
        self.tokens, self.channels, self.classes, self.timesteps, self.shared = tokens, channels, classes, timesteps, shared
        self.synapse = slayer.synapse.Dense(channels if shared else tokens * channels, classes)
        self.quantise = slayer.neuron.cuba.Neuron(1.0, 1.0, 0.5).quantize_8bit
        self.bias = nn.Parameter(torch.zeros(classes))
        self.mean_weight = 0.8 * spread  # of a class at most, so that no input overflows its accumulator
        if start == "linear":
            fan_in, spread = channels * (1 if shared else tokens), spread / SMALLER
            worth = 1 / (spread * math.sqrt(3 * fan_in))
            scale = worth / (MANT * timesteps * (tokens if shared else 1))
        else:
            scale = 1 / (MANT * spread * timesteps * math.sqrt(0.5 * tokens * channels))
        nn.init.normal_(self.synapse.weight, std=spread)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.worth = scale * MANT * timesteps  # of a weight of 1 and a spike in every timestep, at the start, in the loss's logits

    @torch.no_grad()
    def settle(self) -> float:
        """Bring the weights to the range of their 8 bits; the logits stay as they are. Returns what weights and bias were multiplied by."""
        sizes = self.synapse.weight.reshape(self.classes, -1).abs()
        factor = min(LARGEST / max(float(sizes.max()), 1e-9), self.mean_weight / max(float(sizes.mean(1).max()), 1e-9))
        self.synapse.weight.mul_(factor)
        self.bias.mul_(factor)
        self.log_scale.sub_(math.log(factor))
        return factor

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights [classes, tokens * channels] and bias in SLAYER units, quantised once deployed."""
        weight = self.synapse.weight.reshape(self.classes, -1)
        weight = weight.repeat(1, self.tokens) if self.shared else weight
        if not self.deployed:
            return weight, self.bias
        return self.quantise(weight), straight_round(self.bias.clamp(-BIAS_LIMIT, BIAS_LIMIT) * MANT) / MANT

    def prepare(self) -> None:
        self.cached = self.folded()

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = now.total(inputs["x"])
        now.book(x, self.classes)
        if "before" in inputs:
            living = (inputs["before"] > 0).unsqueeze(-1)
            held = now.state.get((self.name, "held"))
            rows = []
            for t in range(len(x)):
                held = x[t] if held is None else torch.where(living[t], x[t], held)
                rows.append(held)
            now.state[self.name, "held"] = held
            x = torch.stack(rows)
        z = F.linear(x.flatten(-2).float(), *self.cached) * MANT
        start = now.state.get(self.name)
        z = z.cumsum(0) if start is None else z.cumsum(0) + start
        now.state[self.name] = z[-1]
        return z

    def to_op(self) -> Readout:
        weight, bias = self.folded()
        return Readout(integers(weight).reshape(self.classes, self.tokens, self.channels), integers(bias), self.timesteps)
