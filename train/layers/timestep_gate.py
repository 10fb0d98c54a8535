"""Torch twin of `spikegate.ops.timestep_gate`: a learned word of T bits for each layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spikegate.graph.ir import OPEN
from spikegate.ops.timestep_gate import RULES, TimestepGate
from spikegate.train.layers.base import Moment, Twin


class _Bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, score):
        ctx.save_for_backward(score)
        return (score >= 0).to(score.dtype)

    @staticmethod
    def backward(ctx, grad):
        (score,) = ctx.saved_tensors
        p = torch.sigmoid(score)
        return 4 * grad * p * (1 - p)


@torch.no_grad()
def keep_open(masks: Sequence[TimestepMask], share: float) -> None:
    """Where fewer than `share` of all timesteps are open, raise all scores alike until so many are: the order stays as learned."""
    scores = torch.cat([m.score for m in masks])
    least = torch.topk(scores, max(1, round(share * len(scores)))).values[-1].clamp(max=0)
    for mask in masks:
        mask.score.sub_(least)


class TimestepMask(Twin):
    """Words [T, batch, 1] of a mask; bit t is ``[score_t >= 0]``, straight-through with a sigmoid's slope, all open at first.

    Inactive in phase ``float``. The scores are reconstructed as free parameters (the published form was not available).
    """

    halts = True

    def __init__(self, timesteps: int, rule: str, start: float = 1.0) -> None:
        super().__init__()
        self.timesteps, self.rule = timesteps, rule
        self.score = nn.Parameter(torch.full((timesteps,), float(start)))

    def bits(self) -> torch.Tensor:
        """Mask [T], 1 where open."""
        return _Bit.apply(self.score)

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        bits = self.bits()[now.first - 1 : now.first - 1 + now.steps]
        word = RULES[self.rule]
        code = torch.where(bits.detach() > 0, float(OPEN), float(word))
        return (code + (bits - bits.detach()))[:, None, None].expand(-1, now.batch, 1)

    def to_op(self) -> TimestepGate:
        return TimestepGate((self.score.detach() >= 0).int().cpu().numpy(), self.rule)
