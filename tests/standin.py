"""A tiny net with the interface of spikegate.train.models.net.Net, so that tests of the loop take milliseconds."""

from __future__ import annotations

import torch
from torch import nn

from spikegate.train.models.net import Output


class StandIn(nn.Module):
    """Batch norm, dropout (so that the random state matters) and a linear head; `alive` learns when `gated`."""

    def __init__(self, inputs: int, classes: int, levels: int, gated: bool) -> None:
        super().__init__()
        self.levels, self.has_gates, self.masks, self.phase, self.phases = levels, gated, [], "float", []
        self.norm, self.drop, self.head = nn.BatchNorm1d(inputs), nn.Dropout(0.1), nn.Linear(inputs, classes)
        self.credit = nn.Parameter(torch.zeros(1))
        self.timesteps = self.float_timesteps = 4

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def set_precision(self, precision: str) -> None:
        pass

    def set_phase(self, phase: str) -> None:
        self.phase = phase
        self.phases.append(phase)

    def forward(self, x: torch.Tensor) -> Output:
        assert x.dtype == torch.uint8
        logits = self.head(self.drop(self.norm(x.flatten(1).float() / self.levels)))
        halting = self.has_gates and self.phase == "deployed"
        alive = torch.sigmoid(self.credit).mean() if halting else torch.ones(())
        return Output(logits, alive, torch.full((len(x),), 4), logits[None], torch.ones(()))


def build(config, image_shape, classes, levels) -> StandIn:
    c, h, w = image_shape
    return StandIn(c * h * w, classes, levels, bool(config.halting.enabled))
