"""Torch twin of `convert.ops.lif`: encodes graded currents into spikes."""

from __future__ import annotations

import torch

from convert.neuron import Cuba
from convert.ops.lif import Lif
from train.layers.base import Moment, Twin, total
from train.layers.conv import HALF
from train.layers.dynamics import MANT, lif
from train.slayer_import import slayer


class Encoder(Twin):
    """CUBA neurons (SLAYER's, for threshold and decays) driven one to one by integers in mantissa units."""

    def __init__(self, shape: tuple[int, int], threshold: float) -> None:
        super().__init__()
        self.shape = shape
        self.neuron = slayer.neuron.cuba.Neuron(threshold, 1.0, 0.5)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        current = total(inputs["x"]) / MANT
        v = now.state.get(self.name)
        v = torch.zeros(current.shape[1:]) if v is None else v
        spikes, now.state[self.name] = lif(current, v, HALF, self.neuron.threshold, self.deployed)
        return spikes

    def to_op(self) -> Lif:
        return Lif(shape=self.shape, neuron=Cuba(4096, HALF, int(self.neuron.threshold * MANT)))
