"""What training minimises: the task, plus what activity, living tokens and open timesteps cost."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from spikegate.train.backends import ranks
from spikegate.train.layers.surrogate_module import mutual_loss
from spikegate.train.models.net import Net, Output
from spikegate.train.settings.config import TrainConfig
from spikegate.train.teacher import Teacher


def loss_of(
    net: Net, out: Output, x: torch.Tensor, labels: torch.Tensor, settings: TrainConfig, teacher: Teacher | None, share: float = 1.0
) -> torch.Tensor:
    """Loss of one batch. Tokens and masks count as soon as the net is as deployed: before, none halts and all are open.

    `labels` are class numbers [b] or shares of the classes [b, classes]. With `share` below 1 the images are that share of a batch whose
    other parts other ranks or passes have: the parts' losses add up to the batch's.
    """
    if teacher is not None:
        loss = teacher.loss(out.logits, x, labels, settings.label_smoothing)
    elif out.taps:
        loss = mutual_loss(out.logits, out.taps, labels, settings.label_smoothing)
    else:
        loss = cross_entropy(out.logits, labels, label_smoothing=settings.label_smoothing)
    if settings.anytime:
        loss = torch.lerp(loss, anytime_loss(out.answers, labels, settings.label_smoothing), settings.anytime)
    if settings.activity:
        loss = loss + settings.activity * out.activity
    if share < 1:
        loss = loss * share
    if net.phase == "deployed" and net.has_gates:
        loss = loss + _pondered(out.alive, settings, share)
    if net.phase == "deployed" and out.open.requires_grad:
        opened = settings.timestep_weight * (out.open - settings.timestep_target).clamp(min=0)
        loss = loss + (opened if share == 1 else opened * share)
    return loss


def anytime_loss(answers: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Mean cross-entropy of the answers [T, batch, classes] after each timestep.

    In the manner of temporal efficient training (Deng et al., ICLR 2022), which takes each timestep's own output; here it is the mean of
    those so far, since that is what an exit answers with.
    """
    return cross_entropy(answers.flatten(0, 1), labels.repeat(len(answers), *[1] * (labels.dim() - 1)), label_smoothing=smoothing)


def _pondered(alive: torch.Tensor, settings: TrainConfig, share: float) -> torch.Tensor:
    """`ponder_loss` of the batch's mean share, which the ranks know together; each pass of an accumulated step counts for itself."""
    if ranks.count() == 1:
        return ponder_loss(alive, settings) if share == 1 else ponder_loss(alive, settings) * share
    both = ranks.total(torch.stack([alive * share, torch.full_like(alive, share)]))
    return ponder_loss(both[0] / both[1].detach(), settings) * (both[1].detach() / ranks.count())


def ponder_loss(alive: torch.Tensor, settings: TrainConfig) -> torch.Tensor:
    """What the mean share of alive cells is above its target, weighted; below, by the weight of its own (0: as well as at it).

    Scores are sigmoids of small counts, so a small step of a gate's offset halts many tokens at once: without a pull from below
    the share ends far under the target.
    """
    over = alive - settings.alive_target
    loss = settings.ponder * over.clamp(min=0)
    return loss + settings.ponder_below * (-over).clamp(min=0) if settings.ponder_below else loss
