"""What training minimises: the task, plus what activity, living tokens and open timesteps cost."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from spikegate.train.layers.surrogate_module import mutual_loss
from spikegate.train.models.net import Net, Output
from spikegate.train.settings.config import TrainConfig
from spikegate.train.teacher import Teacher


def loss_of(net: Net, out: Output, x: torch.Tensor, labels: torch.Tensor, settings: TrainConfig, teacher: Teacher | None) -> torch.Tensor:
    """Loss of one batch. Tokens and masks count as soon as the net is as deployed: before, none halts and all are open."""
    if teacher is not None:
        loss = teacher.loss(out.logits, x, labels, settings.label_smoothing)
    elif out.taps:
        loss = mutual_loss(out.logits, out.taps, labels, settings.label_smoothing)
    else:
        loss = cross_entropy(out.logits, labels, label_smoothing=settings.label_smoothing)
    if settings.activity:
        loss = loss + settings.activity * out.activity
    if net.phase == "deployed" and net.has_gates:
        loss = loss + ponder_loss(out.alive, settings)
    if net.phase == "deployed" and out.open.requires_grad:
        loss = loss + settings.timestep_weight * (out.open - settings.timestep_target).clamp(min=0)
    return loss


def ponder_loss(alive: torch.Tensor, settings: TrainConfig) -> torch.Tensor:
    """What the mean share of alive cells is above its target, weighted; below, by the weight of its own (0: as well as at it).

    Scores are sigmoids of small counts, so a small step of a gate's offset halts many tokens at once: without a pull from below
    the share ends far under the target.
    """
    over = alive - settings.alive_target
    loss = settings.ponder * over.clamp(min=0)
    return loss + settings.ponder_below * (-over).clamp(min=0) if settings.ponder_below else loss
