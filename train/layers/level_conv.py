"""Torch twin of `spikegate.ops.level_conv`: one pass, graded answer."""

from __future__ import annotations

import torch

from spikegate.ops.level_conv import LevelConv
from spikegate.train.layers.base import Moment, Twin, total
from spikegate.train.layers.conv import fitting_threshold
from spikegate.train.layers.dynamics import MANT, levels
from spikegate.train.layers.folding import FoldedNorm, integers
from spikegate.train.layers.products import map_conv
from spikegate.train.layers.slayer_import import slayer


class IntegratedConv(Twin):
    """Convolution, normalisation, row of thresholds; works once per sample, its signal has no time axis.

    Weights are those of a SLAYER convolution synapse, quantised by SLAYER's 8-bit rule.
    """

    once = True
    cached: tuple[torch.Tensor, torch.Tensor | None]  # weight and bias of this forward pass

    def __init__(self, in_channels: int, out_channels: int, kernel: int, grid: tuple[int, int], stride: int, high: int) -> None:
        super().__init__()
        self.grid, self.stride, self.padding, self.high = grid, stride, kernel // 2, high
        fan_in = in_channels * kernel * kernel
        self.theta = min(fitting_threshold(fan_in) / 2, fitting_threshold(fan_in, high))
        self.synapse = slayer.synapse.Conv(in_channels, out_channels, kernel, stride=stride, padding=self.padding)
        self.quantise = slayer.neuron.cuba.Neuron(1.0, 1.0, 0.5).quantize_8bit
        self.norm = FoldedNorm(out_channels, gain=self.theta)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Deployed weights and bias in SLAYER units."""
        return self.quantise(self.norm.fold_weight(self.synapse.weight.squeeze(-1))), self.norm.fold_bias()

    def prepare(self) -> None:
        self.cached = self.folded() if self.deployed else (self.synapse.weight.squeeze(-1), None)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = total(inputs["x"])
        now.book(x, self.synapse.weight.numel() / self.synapse.weight.shape[1] / self.stride**2)
        y = map_conv(x, *self.cached, self.grid, self.stride, self.padding)
        return levels(y, self.theta, 0, self.high, None if self.deployed else self.norm)

    def to_op(self) -> LevelConv:
        weight, bias = self.folded()
        return LevelConv(
            weight=integers(weight),
            bias=integers(bias),
            grid=self.grid,
            theta=int(self.theta * MANT),
            levels=self.high,
            stride=self.stride,
            padding=self.padding,
        )
