"""AdamW with decay on matrices alone, and the learning rate's course: linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.layers.readout import Head
from spikegate.train.layers.timestep_gate import TimestepMask
from spikegate.train.settings.config import TrainConfig


def make_optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in groups; biases, norms, thresholds and scalars do not decay, scores of timestep masks learn at a rate of their own.

    An AdamW step is about as long as the learning rate, whatever the parameter's size. With `config.rates` ``relative`` the parameters
    that stand in other units than a plain net's (norms in those of the thresholds, the head in mantissas) get steps in these units.
    """
    scales = {id(m.score): config.mask_rate for m in net.modules() if isinstance(m, TimestepMask)}
    scores = set(scales)
    if config.rates == "relative":
        scales |= _units(net)
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for p in net.parameters():
        if p.requires_grad:
            groups.setdefault((scales.get(id(p), 1.0), p.ndim > 1, id(p) in scores), []).append(p)
    found: list[dict[str, Any]] = [
        {"params": parameters, "scale": scale, "weight_decay": config.weight_decay / scale if decays else 0.0, "masks": masks}
        for (scale, decays, masks), parameters in groups.items()
    ]
    return torch.optim.AdamW(found, lr=config.lr)


def _units(net: nn.Module) -> dict[int, float]:
    """Of the parameters in units of their own (by id): what 1 is there."""
    found: dict[int, float] = {}
    for module in net.modules():
        if isinstance(module, FoldedNorm):
            found |= {id(module.gamma): module.start, id(module.beta): module.start}
        elif isinstance(module, Head):
            share = module.tokens if module.shared else 1
            found |= {id(module.synapse.weight): 1 / (module.worth * share), id(module.bias): 1 / module.worth}
    return found


def settle_heads(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Before weights are rounded: heads in the range of their 8 bits (`Head.settle`), AdamW's moments of their gradients with them."""
    for head in (m for m in net.modules() if isinstance(m, Head)):
        factor = head.settle()
        for parameter in (head.synapse.weight, head.bias):
            for slot, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
                if slot in optimizer.state.get(parameter, {}):
                    optimizer.state[parameter][slot].div_(factor**power)


def learning_rate(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Rate of optimisation step `step`, counted from 0 over the whole run."""
    total = steps_per_epoch * config.epochs
    warm = min(round(steps_per_epoch * config.warmup_epochs), total - 1)
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


def masks_learn(step: int, steps_per_epoch: int, config: TrainConfig) -> bool:
    """Whether timestep masks still change in optimisation step `step`: later ones leave the weights time to settle under them."""
    return step < config.mask_until * steps_per_epoch * config.epochs


def set_rate(optimizer: torch.optim.Optimizer, rate: float, masks: bool = True) -> None:
    """Set the rate of each group, that of the timestep masks' scores to 0 without `masks`.

    On a GPU the rate is a tensor that captured steps read.
    """
    for group in optimizer.param_groups:
        value = rate * group.get("scale", 1.0) * (masks or not group.get("masks", False))
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def fuse(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """One kernel for all parameters, whose rates lie on the GPU."""
    for group in optimizer.param_groups:
        group |= {"fused": True, "foreach": None, "capturable": True, "lr": torch.zeros((), device=device)}
