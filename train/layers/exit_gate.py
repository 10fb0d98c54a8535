"""Torch twin of `spikegate.ops.exit_gate`; training runs all timesteps, evaluation takes the exits."""

from __future__ import annotations

import numpy as np
import torch

from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.train.layers.base import Moment, Twin


class Exit(Twin):
    """[done, predicted class] per timestep, float [T, batch, 2]. `margin` is set by calibration; `NEVER` switches it off."""

    margin: torch.Tensor

    def __init__(self, classes: int, timesteps: int) -> None:
        super().__init__()
        self.classes, self.timesteps = classes, timesteps
        self.register_buffer("margin", torch.full((timesteps,), NEVER, dtype=torch.int64))

    @property
    def policy(self) -> str:
        return "fixed_window" if bool((self.margin == NEVER).all()) else "threshold_then_argmax"

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        z = inputs["logits"].detach()
        t = torch.arange(now.first, now.first + len(z), device=z.device)
        done = (t >= now.timesteps)[:, None].expand(z.shape[:2])
        if "alive" in inputs:
            done = done | ~(inputs["alive"] > 0).any(-1)
        if self.classes > 1:
            top = z.topk(2, dim=-1).values
            done = done | (top[..., 0] - top[..., 1] >= self.margin[t - 1][:, None])
        return torch.stack([done.to(z.dtype), z.argmax(-1).to(z.dtype)], -1)

    def to_op(self) -> ExitGate:
        return ExitGate(self.classes, self.timesteps, np.asarray(self.margin.cpu().numpy(), np.int64), self.policy)
