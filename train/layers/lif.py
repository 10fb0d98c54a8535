"""Torch twin of `spikegate.ops.lif`: encodes graded currents into spikes."""

from __future__ import annotations

import torch

from spikegate.neurons.cuba import Cuba
from spikegate.ops.lif import Lif
from spikegate.train.layers.base import Moment, Twin, fire
from spikegate.train.layers.conv import HALF
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.slayer_import import slayer


class Encoder(Twin):
    """CUBA neurons (SLAYER's, for threshold and decays) driven one to one by integers in mantissa units."""

    def __init__(self, shape: tuple[int, int], threshold: float) -> None:
        super().__init__()
        self.shape = shape
        self.neuron = slayer.neuron.cuba.Neuron(threshold, 1.0, 0.5)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = now.total(inputs["x"])
        return fire(self, x, self.neuron, HALF, inputs, now, scale=torch.full((1,), 1 / MANT, device=x.device))

    def to_op(self) -> Lif:
        return Lif(shape=self.shape, neuron=Cuba(4096, HALF, int(self.neuron.threshold * MANT)))
