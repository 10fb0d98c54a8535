"""Torch twin of `spikegate.ops.membrane`: neurons on a residual stream of currents."""

from __future__ import annotations

import torch

from spikegate.ops.membrane import Membrane
from spikegate.train.layers.base import Moment, Twin, alive_mask, fire
from spikegate.train.layers.conv import HALF
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.slayer_import import slayer


class StreamNeurons(Twin):
    """CUBA neurons driven by the sum of branches (slot ``current``) and of host integers (slot ``x``), in mantissa units."""

    def __init__(self, shape: tuple[int, int], threshold: float) -> None:
        super().__init__()
        self.shape = shape
        self.neuron = slayer.neuron.cuba.Neuron(threshold, 1.0, 0.5)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        current = now.total(inputs["current"])
        if "x" in inputs:
            current = current + now.total(inputs["x"])
        mask = alive_mask(inputs)
        alive = None if mask is None else mask.squeeze(-1)
        unit = torch.full((1,), 1 / MANT, device=current.device)
        return fire(self, current, self.neuron, HALF, inputs, now, scale=unit, alive=alive)

    def to_op(self) -> Membrane:
        return Membrane(shape=self.shape, neuron=self.cuba(self.neuron.threshold, HALF))
