"""The non-spiking input embedding: one convolution on pixels, in integers, that stays on the host."""

from __future__ import annotations

import math

import torch
from torch import nn

from spikegate.train.layers.dynamics import levels, straight_round
from spikegate.train.layers.folding import FoldedNorm, within
from spikegate.train.layers.products import map_conv

FINE_BITS = {"weight": 8, "row": 6}  # weights are held on a grid of about 2^-8 or 2^-6 of the layer's unit, by what bounds them


class HostStem(nn.Module):
    r"""Convolution of uint8 pixels, folded normalisation, rounded down to the chip's integers.

    .. math:: U = \mathrm{clip}\big(\lfloor (W * x + b)\, 2^{-s} \rfloor,\; low,\; high\big)

    W, b are integers, so every partial sum is one too; below 2^24 float32 holds it exactly in any order of summation,
    in torch and in onnxruntime alike. W is bounded such that this holds for every image.

    Parameters
    ----------
    pixels : largest pixel value
    unit : current of one output step in SLAYER units (1/64 for a current in mantissa units, theta for levels)
    low, high : range of the output
    bound : ``row`` scales the weights of a channel down where their sum is too large; ``weight`` cuts each weight, on a finer grid.
        Difference filters on three channels need more than that: cut, they cost a net many points once it is deployed.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        grid: tuple[int, int],
        stride: int,
        *,
        pixels: int,
        unit: float,
        gain: float,
        low: int,
        high: int,
        bound: str = "row",
    ) -> None:
        super().__init__()
        self.grid, self.stride, self.padding, self.pixels = grid, stride, kernel // 2, pixels
        self.unit, self.low, self.high = unit, low, high
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, self.padding, bias=False)
        self.norm = FoldedNorm(out_channels, gain=gain)
        self.shift = round(math.log2(pixels * (1 << FINE_BITS[bound]) * unit))
        taps, self.bound = in_channels * kernel * kernel, bound
        room = (1 << 23) / pixels
        self.room = room - taps / 2  # of a row, which rounding may lengthen
        self.weight_limit = float(min(1 << 15, math.floor(room / taps)))
        self.phase = "float"

    @property
    def out_shape(self) -> tuple[int, int]:
        """(positions, channels) of what it sends."""
        h, w = ((g + 2 * self.padding - k) // self.stride + 1 for g, k in zip(self.grid, self.conv.kernel_size))
        return h * w, self.conv.out_channels

    @property
    def step(self) -> float:
        """What one unit of the integer sum is worth, in SLAYER units."""
        return self.unit / (1 << self.shift)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Integer weights [out, in, kh, kw] for raw pixels and integer bias [out], as floats."""
        weight = self.norm.fold_weight(self.conv.weight) / (self.pixels * self.step)
        bias = (self.norm.beta - self.norm.gain() * self.norm.mean) / self.step
        limit = float(1 << 22)
        cut = within(weight, self.room) if self.bound == "row" else weight.clamp(-self.weight_limit, self.weight_limit)
        return straight_round(cut), straight_round(bias.clamp(-limit, limit))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """uint8 [batch, channels, height, width] to integers [batch, positions, out channels]."""
        maps = x.float().flatten(2).transpose(1, 2)
        if self.phase == "deployed":
            y = map_conv(maps, *self.folded(), self.grid, self.stride, self.padding)
            return levels(y, 2.0**self.shift, self.low, self.high)
        y = map_conv(maps / self.pixels, self.conv.weight, None, self.grid, self.stride, self.padding, exact=False)
        return levels(y, self.unit, self.low, self.high, self.norm)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.out_shape[0] * self.conv.weight.numel()
