"""Torch twin of `convert.ops.lif`: encodes graded currents into spikes."""

from __future__ import annotations

import torch

from convert.neuron import Cuba
from convert.ops.lif import Lif
from train.layers.base import Moment, Twin, fire
from train.layers.conv import HALF
from train.layers.dynamics import MANT
from train.slayer_import import slayer


class Encoder(Twin):
    """CUBA neurons (SLAYER's, for threshold and decays) driven one to one by integers in mantissa units."""

    def __init__(self, shape: tuple[int, int], threshold: float) -> None:
        super().__init__()
        self.shape = shape
        self.neuron = slayer.neuron.cuba.Neuron(threshold, 1.0, 0.5)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        return fire(self, now.total(inputs["x"]), self.neuron, HALF, inputs, now, scale=torch.tensor([1 / MANT]))

    def to_op(self) -> Lif:
        return Lif(shape=self.shape, neuron=Cuba(4096, HALF, int(self.neuron.threshold * MANT)))
