"""Torch twin of `spikegate.ops.current`: SLAYER convolution synapses with foldable normalisation, no neurons."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from spikegate.ops.current import Current
from spikegate.train.layers.base import Moment, Twin, alive_mask, total
from spikegate.train.layers.conv import fitting_threshold
from spikegate.train.layers.dynamics import MANT, alive_bit
from spikegate.train.layers.folding import REACH, FoldedNorm, integers, within
from spikegate.train.layers.products import map_conv
from spikegate.train.layers.slayer_import import slayer


class Branch(Twin):
    """One branch of a membrane shortcut, float [T, batch, positions, channels] in mantissa units.

    `theta` is the threshold of the neurons that read the stream; the normalised current starts with half of it as its
    standard deviation. `share` is the number of branches that share the neurons' range. The first `silent` of the output
    channels get no synapses. `copies` counts the readers (the net sets it).
    """

    cached: tuple[torch.Tensor, torch.Tensor | None]  # weight and bias of this forward pass

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        grid: tuple[int, int],
        stride: int = 1,
        *,
        theta: float | None = None,
        silent: int = 0,
        share: int = 1,
        slope: float = 0.3,
        unit: float = 1024.0,
    ) -> None:
        super().__init__()
        self.grid, self.stride, self.padding = grid, stride, kernel // 2
        self.slope, self.unit, self.copies, self.silent = slope, unit, 0, silent
        theta = fitting_threshold(in_channels * kernel * kernel) if theta is None else theta
        self.synapse = slayer.synapse.Conv(in_channels, out_channels - silent, kernel, stride=stride, padding=self.padding)
        self.quantise = slayer.neuron.cuba.Neuron(1.0, 1.0, 0.5).quantize_8bit
        self.norm = FoldedNorm(out_channels - silent, gain=theta / 2)
        self.room = 0.75 * REACH / share

    @property
    def weight(self) -> torch.Tensor:
        return self.synapse.weight.squeeze(-1)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Deployed weights and bias in SLAYER units."""
        weight = within(self.norm.fold_weight(self.weight), self.room)
        return self.quantise(weight), self.norm.fold_bias(self.room / 4)

    def prepare(self) -> None:
        self.cached = self.folded() if self.deployed else (self.weight, None)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = total(inputs["x"])
        now.book(x, max(1, self.copies) * self.weight.numel() / self.weight.shape[1] / self.stride**2)
        y = map_conv(x, *self.cached, self.grid, self.stride, self.padding, half=self.halved, exact=self.deployed).float()
        y = (y if self.deployed else self.norm.normalise(y)) * MANT
        y = F.pad(y, (self.silent, 0)) if self.silent else y
        if alive_mask(inputs) is None:
            return y
        return y * alive_bit(inputs["alive"], self.unit, self.slope).unsqueeze(-1)

    def to_op(self) -> Current:
        weight, bias = self.folded()
        weight, bias = F.pad(weight, (0,) * 6 + (self.silent, 0)), F.pad(bias, (self.silent, 0))
        return Current(integers(weight), integers(bias), self.grid, self.stride, self.padding, copies=self.copies)
