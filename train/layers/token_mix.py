"""Torch twin of `spikegate.ops.token_mix`: one SLAYER synapse matrix per head across tokens."""

from __future__ import annotations

import torch
from torch import nn

from spikegate.ops.token_mix import TokenMix
from spikegate.train.layers.base import Moment, Twin, alive_mask, fire, total
from spikegate.train.layers.conv import HALF, fitting_threshold
from spikegate.train.layers.folding import integers
from spikegate.train.layers.slayer_import import slayer

RATE = 0.2  # spike rate at which the initial currents have a standard deviation of half the threshold


class TokenMixer(Twin):
    """y = M_h x over tokens for each head's channels, CUBA neurons; x is [T, batch, tokens, channels].

    There is no normalisation after the matrix (STMixer has none). A learned positive gain per head folds into the
    weights before SLAYER's quantiser.
    """

    def __init__(self, tokens: int, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not split into {heads} heads")
        self.tokens, self.channels, self.heads = tokens, channels, heads
        self.neuron = slayer.neuron.cuba.Neuron(fitting_threshold(tokens, rate=RATE), 1.0, 0.5)
        self.synapse = slayer.synapse.Dense(tokens, heads * tokens)
        self.synapse.pre_hook_fx = None
        nn.init.normal_(self.synapse.weight, std=float(self.neuron.threshold) / (2 * (tokens * RATE) ** 0.5))
        self.log_gain = nn.Parameter(torch.zeros(heads))

    def folded(self) -> torch.Tensor:
        """Weights [heads, target, source] in SLAYER units, quantised once deployed."""
        weight = self.synapse.weight.reshape(self.heads, self.tokens, self.tokens) * self.log_gain.exp()[:, None, None]
        return self.neuron.quantize_8bit(weight) if self.deployed else weight

    def prepare(self) -> None:
        self.cached = self.folded()

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = total(inputs["x"])
        mask = alive_mask(inputs)
        x = x if mask is None else x * mask
        now.book(x, self.tokens)
        split = x.unflatten(-1, (self.heads, -1)).transpose(2, 3)
        current = (self.cached @ split.float()).transpose(2, 3).flatten(-2)
        return fire(self, current, self.neuron, HALF, inputs, now, alive=None if mask is None else mask.squeeze(-1))

    def to_op(self) -> TokenMix:
        neuron = self.cuba(self.neuron.threshold, HALF)
        return TokenMix(weight=integers(self.folded()), channels=self.channels, neuron=neuron)
