"""Torch twin of `spikegate.ops.spiking_attention`."""

from __future__ import annotations

import torch

from spikegate.ops.spiking_attention import SpikingAttention
from spikegate.train.backends.choose import backend_for
from spikegate.train.layers.base import Moment, Twin, alive_mask, fire
from spikegate.train.layers.conv import HALF
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.slayer_import import slayer

EXPONENT = 3  # 2^(T-1) at T = 4: a count's halves stay on the threshold's grid


class Attention(Twin):
    """Spiking self-attention on binary q, k, v [T, batch, tokens, channels]; fires at `counts` coincidences (leaky, tau 2)."""

    def __init__(self, tokens: int, channels: int, heads: int, counts: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not split into {heads} heads")
        self.tokens, self.channels, self.heads = tokens, channels, heads
        self.neuron = slayer.neuron.cuba.Neuron(((counts << EXPONENT) - 1) / MANT, 1.0, 0.5)

    @property
    def order(self) -> str:
        return "kv" if self.tokens > self.channels // self.heads else "qk"

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        y = backend_for(inputs["q"].device).attend(inputs["q"], inputs["k"], inputs["v"], self.heads)
        mask = alive_mask(inputs)
        alive = None if mask is None else mask.squeeze(-1)
        unit = torch.full((1,), (1 << EXPONENT) / MANT, device=y.device)
        return fire(self, y, self.neuron, HALF, inputs, now, scale=unit, alive=alive)

    def to_op(self) -> SpikingAttention:
        neuron = self.cuba(self.neuron.threshold, HALF)
        return SpikingAttention(self.tokens, self.channels, self.heads, EXPONENT, neuron, self.order)
