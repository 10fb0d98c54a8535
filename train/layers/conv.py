"""Torch twin of `spikegate.ops.conv`: a SLAYER CUBA convolution block with foldable normalisation."""

from __future__ import annotations

import math

import torch

from spikegate.ops.conv import Conv
from spikegate.synapses.synapse import Padding, out_grid
from spikegate.train.layers.base import Moment, Twin, alive_mask, fire, spread
from spikegate.train.layers.dynamics import MANT, alive_bit
from spikegate.train.layers.folding import BIAS_LIMIT, REACH, FoldedNorm, integers, within
from spikegate.train.layers.products import map_conv
from spikegate.train.layers.slayer_import import slayer

HALF = 2048  # voltage decay of tau = 2


ROOM = 0.8 * (1 << 23) / (MANT * MANT * 2)  # sum of |weights| that no input can overflow, in SLAYER units, leak 1/2


def fitting_threshold(fan_in: int, high: int = 1, rate: float = 0.2) -> float:
    """Power of two near 1.6 sqrt(fan_in * rate): then quantised weights use most of their 8 bits (std about 0.8 of +-4).

    Wide layers and those whose inputs reach up to `high` get less: the worst-case sum of weights of std
    theta / 2 / sqrt(fan_in * rate) must fit 24 bits.
    """
    spread = high * 0.8 * fan_in * 0.5 / math.sqrt(fan_in * rate)  # mean |weight| sum for theta = 1
    fits = 2 ** math.floor(math.log2(ROOM / spread))
    return float(min(32, fits, max(1, 2 ** round(math.log2(1.6 * math.sqrt(fan_in * rate))))))


def same_padding(kernel: int | tuple[int, int]) -> Padding:
    """Padding that keeps a map's size at stride 1: one number, or (rows, columns) where the kernel is not square."""
    return kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)


class SpikingConv(Twin):
    """Convolution (or token-wise linear layer), normalisation, CUBA neurons.

    Weights, threshold and quantiser are those of ``slayer.block.cuba.Conv`` (current decay 1, voltage decay 1/2, no delay
    shift); `forward` computes the same spikes as the block does, in [T, batch, positions, channels] and without its
    loop over int64 tensors. `high` is the largest value that its sources add up to. With `branch`, the output's alive bit
    passes a gradient to the halting score.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        grid: tuple[int, int],
        stride: int = 1,
        *,
        branch: bool = False,
        high: int = 1,
        slope: float = 0.3,
        unit: float = 1024.0,
    ) -> None:
        super().__init__()
        self.grid, self.stride, self.padding = grid, stride, same_padding(kernel)
        self.branch, self.slope, self.unit = branch, slope, unit
        threshold = fitting_threshold(in_channels * math.prod((kernel, kernel) if isinstance(kernel, int) else kernel), high)
        neuron = {"threshold": threshold, "current_decay": 1.0, "voltage_decay": 0.5}
        self.block = slayer.block.cuba.Conv(
            neuron, in_channels, out_channels, kernel, stride=stride, padding=self.padding, delay_shift=False
        )
        self.block.synapse.pre_hook_fx = None
        self.norm = FoldedNorm(out_channels, gain=threshold / 2)
        self.room = (REACH - BIAS_LIMIT) / high

    @property
    def out_grid(self) -> tuple[int, int]:
        return out_grid(self.grid, (self.weight.shape[2], self.weight.shape[3]), self.stride, self.padding)

    @property
    def weight(self) -> torch.Tensor:
        """Raw weights [out, in, kh, kw]."""
        return self.block.synapse.weight.squeeze(-1)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Deployed weights and bias in SLAYER units."""
        weight = within(self.norm.fold_weight(self.weight), self.room)
        return self.block.neuron.quantize_8bit(weight), self.norm.fold_bias()

    def prepare(self) -> None:
        self.cached = self.folded() if self.deployed else (self.weight, None)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        x = now.total(inputs["x"])
        now.book(x, self.weight.numel() / self.weight.shape[1] / self.stride**2)
        weight, bias = self.cached
        y = map_conv(x, weight, None, self.grid, self.stride, self.padding, half=self.halved, exact=self.deployed)
        inputs = spread(inputs, self.out_grid)
        mask = alive_mask(inputs)
        if mask is not None:
            mask = alive_bit(inputs["alive"], self.unit, self.slope) if self.branch else mask.squeeze(-1)
        form = {"shift": bias} if self.deployed else self.norm.form()
        return fire(self, y, self.block.neuron, HALF, inputs, now, alive=mask, **form)

    def to_op(self) -> Conv:
        weight, bias = self.folded()
        neuron = self.cuba(self.block.neuron.threshold, HALF)
        return Conv(weight=integers(weight), bias=integers(bias), grid=self.grid, stride=self.stride, padding=self.padding, neuron=neuron)
