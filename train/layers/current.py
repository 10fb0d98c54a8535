"""Torch twin of `convert.ops.current`: SLAYER convolution synapses with foldable normalisation, no neurons."""

from __future__ import annotations

import torch

from convert.ops.current import Current
from train.layers.base import Moment, Twin, living, total
from train.layers.conv import fitting_threshold, map_conv
from train.layers.dynamics import MANT, alive_bit
from train.layers.folding import FoldedNorm, integers
from train.slayer_import import slayer


class Branch(Twin):
    """One branch of a membrane shortcut, float [T, batch, positions, channels] in mantissa units.

    `theta` is the threshold of the neurons that read the stream; the normalised current starts with half of it as its
    standard deviation. `copies` counts the readers (the net sets it).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        grid: tuple[int, int],
        stride: int = 1,
        *,
        theta: float | None = None,
        slope: float = 0.3,
        unit: float = 1024.0,
    ) -> None:
        super().__init__()
        self.grid, self.stride, self.padding = grid, stride, kernel // 2
        self.slope, self.unit, self.copies = slope, unit, 0
        theta = fitting_threshold(in_channels * kernel * kernel) if theta is None else theta
        self.synapse = slayer.synapse.Conv(in_channels, out_channels, kernel, stride=stride, padding=self.padding)
        self.quantise = slayer.neuron.cuba.Neuron(1.0, 1.0, 0.5).quantize_8bit
        self.norm = FoldedNorm(out_channels, gain=theta / 2)

    @property
    def weight(self) -> torch.Tensor:
        return self.synapse.weight.squeeze(-1)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Deployed weights and bias in SLAYER units."""
        return self.quantise(self.norm.fold_weight(self.weight)), self.norm.fold_bias()

    def prepare(self) -> None:
        self.cached = self.folded() if self.deployed else (self.weight, None)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = total(inputs["x"])
        now.book(x, max(1, self.copies) * self.weight.numel() / self.weight.shape[1] / self.stride**2)
        y = map_conv(x, *self.cached, self.grid, self.stride, self.padding)
        y = (y if self.deployed else self.norm.normalise(y)) * MANT
        if living(inputs) is None:
            return y
        return y * alive_bit(inputs["alive"], self.unit, self.slope).unsqueeze(-1)

    def to_op(self) -> Current:
        weight, bias = self.folded()
        return Current(integers(weight), integers(bias), self.grid, self.stride, self.padding, copies=self.copies)
