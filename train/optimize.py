"""AdamW with decay on matrices alone, and the learning rate's course: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from spikegate.train.layers.timestep_gate import TimestepMask
from spikegate.train.settings.config import TrainConfig


def make_optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in groups; biases, norms, thresholds and scalars do not decay, scores of timestep masks learn at a rate of their own."""
    scores = [m.score for m in net.modules() if isinstance(m, TimestepMask)]
    known = {id(p) for p in scores}
    parameters = [p for p in net.parameters() if p.requires_grad and id(p) not in known]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        {"params": scores, "weight_decay": 0.0, "scale": config.mask_rate},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr)


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Rate of optimisation step `step`, counted from 0 over the whole run."""
    total = steps_per_epoch * config.epochs
    warm = min(round(steps_per_epoch * config.warmup_epochs), total - 1)
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """On a GPU the rate is a tensor that captured steps read."""
    for group in optimizer.param_groups:
        value = rate * group.get("scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def fuse(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """One kernel for all parameters, whose rates lie on the GPU."""
    for group in optimizer.param_groups:
        group |= {"fused": True, "foreach": None, "capturable": True, "lr": torch.zeros((), device=device)}
