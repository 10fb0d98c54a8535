"""Sums over the processes of one training (ranks), each of which holds a part of every batch. Alone they cost nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import distributed


def count() -> int:
    """Processes that train together; 1 outside of `torchrun`."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def number() -> int:
    """This process among them, from 0."""
    return distributed.get_rank() if count() > 1 else 0


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return _Sum.apply(grad.contiguous())


def total(x: torch.Tensor) -> torch.Tensor:
    """Sum of `x` over the ranks, differentiable: what is minimised is the sum of the ranks' losses."""
    return x if count() == 1 else _Sum.apply(x)


def added(*arrays: np.ndarray) -> list[np.ndarray]:
    """Sums of float64 arrays over the ranks."""
    if count() == 1:
        return list(arrays)
    flat = torch.from_numpy(np.concatenate([np.ravel(a) for a in arrays]))
    distributed.all_reduce(flat)
    parts = np.split(flat.numpy(), np.cumsum([a.size for a in arrays])[:-1])
    return [p.reshape(a.shape) for p, a in zip(parts, arrays)]


def pooled(mean: torch.Tensor, var: torch.Tensor, rows: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean, biased variance and number of rows over all ranks, float64, from those of this one."""
    mean, var = mean.double(), var.double()
    sums = torch.stack([torch.full_like(mean, rows), rows * mean, rows * (var + mean * mean)])
    distributed.all_reduce(sums)
    mean = sums[1] / sums[0]
    return mean, (sums[2] / sums[0] - mean * mean).clamp(min=0), sums[0]
