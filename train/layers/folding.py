"""Normalisation that folds exactly: batch statistics while training in float, folded integer weights once deployed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from spikegate.train.backends import ranks
from spikegate.train.backends.definition import statistics
from spikegate.train.layers.dynamics import MANT, straight_round

BIAS_LIMIT = 4095 / MANT  # Loihi's 13-bit bias mantissa, in SLAYER units
REACH = 0.95 * (1 << 23) / (MANT * MANT * 2)  # largest current that a 24-bit voltage of leak 1/2 adds up without overflow


class FoldedNorm(nn.Module):
    r"""Per-channel normalisation of a linear map's output, ``y = g (W x - mu) + beta`` with ``g = gamma / sqrt(var + eps)``.

    Float phase: mu and var of the batch (over batch, time and positions), running means kept. Deployed phase: running
    values, frozen, folded as ``W' = quantise(g W)``, ``b' = round(beta - g mu)``; gamma, beta and W go on learning
    through the rounding (straight-through). Channels that no gradient reaches keep their last values.
    """

    mean: torch.Tensor
    var: torch.Tensor

    def __init__(self, channels: int, gain: float, momentum: float = 0.1) -> None:
        super().__init__()
        self.start = float(gain)  # gamma at the start: what gamma and beta are measured by
        self.gamma = nn.Parameter(torch.full((channels,), float(gain)))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.momentum, self.eps = momentum, 1e-5

    def drive(self, share: float) -> None:
        """Start with `share` times the gain."""
        self.start *= share
        with torch.no_grad():
            self.gamma.mul_(share)

    def normalise(self, y: torch.Tensor) -> torch.Tensor:
        """Normalise [..., channels] with batch statistics in training, with running ones in evaluation."""
        flat = y.reshape(-1, y.shape[-1])
        if self.training and ranks.count() > 1:
            mean, var = statistics(flat, self)
            return (y - mean) * (self.gamma / torch.sqrt(var + self.eps)) + self.beta
        out = F.batch_norm(flat, self.mean, self.var, self.gamma, self.beta, self.training, self.momentum, self.eps)
        return out.reshape(y.shape)

    def form(self) -> dict[str, Any]:
        """The same for `spikegate.train.layers.base.fire`, which normalises on the way to its neurons."""
        if self.training:
            return {"norm": self, "scale": self.gamma, "shift": self.beta}
        return {"scale": self.gain(), "shift": self.beta - self.gain() * self.mean}

    def gain(self) -> torch.Tensor:
        return self.gamma / torch.sqrt(self.var + self.eps)

    def fold_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Scale output channel by output channel."""
        return weight * self.gain().reshape(-1, *[1] * (weight.dim() - 1))

    def fold_bias(self, limit: float = BIAS_LIMIT) -> torch.Tensor:
        """Bias in SLAYER units on the mantissa's grid of 1/64."""
        bias = self.beta - self.gain() * self.mean
        limit = min(limit, BIAS_LIMIT)
        return straight_round(bias.clamp(-limit, limit) * MANT) / MANT


def within(weight: torch.Tensor, room: float) -> torch.Tensor:
    """Weights [out, ...] with the rows whose absolute sum exceeds `room` scaled down to it: no input can overflow a register."""
    sums = weight.detach().abs().flatten(1).sum(1)
    scale = (room / sums.clamp(min=1e-9)).clamp(max=1.0)
    return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))


def integers(x: torch.Tensor, scale: float = MANT) -> np.ndarray:
    """Values on a grid of 1 / scale as int32; raises ValueError if one is off the grid."""
    scaled = x.detach().double() * scale
    if not torch.equal(scaled, scaled.round()):
        raise ValueError("values are not on the integer grid: the module is not in its deployed phase")
    return scaled.round().int().cpu().numpy()
