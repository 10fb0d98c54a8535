"""Torch twin of `convert.ops.membrane`: neurons on a residual stream of currents."""

from __future__ import annotations

import torch

from convert.neuron import Cuba
from convert.ops.membrane import Membrane
from train.layers.base import Moment, Twin, fire, living, total
from train.layers.conv import HALF
from train.layers.dynamics import MANT
from train.slayer_import import slayer


class StreamNeurons(Twin):
    """CUBA neurons driven by the sum of branches (slot ``current``) and of host integers (slot ``x``), in mantissa units."""

    def __init__(self, shape: tuple[int, int], threshold: float) -> None:
        super().__init__()
        self.shape = shape
        self.neuron = slayer.neuron.cuba.Neuron(threshold, 1.0, 0.5)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        current = total(inputs["current"])
        if "x" in inputs:
            current = current + total(inputs["x"])
        spikes = fire(self, current / MANT, self.neuron, HALF, inputs, now)
        mask = living(inputs)
        return spikes if mask is None else spikes * mask

    def to_op(self) -> Membrane:
        return Membrane(shape=self.shape, neuron=Cuba(4096, HALF, int(self.neuron.threshold * MANT)))
