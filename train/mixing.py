"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): a batch mixed with itself in reverse, its labels likewise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import one_hot


@dataclass(frozen=True)
class Mix:
    """Share of the batches that is mixed, and Beta(a, a) of the two kinds (0: not that kind; both: either one, half of the time)."""

    share: float
    mixup: float
    cutmix: float
    classes: int

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, other_x: torch.Tensor, other_y: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images uint8 [b, C, H, W] mixed with their partners, and shares of the classes float [b, classes]."""
        kinds = [k for k in ("mixup", "cutmix") if getattr(self, k)]
        on, kind = rng.random() < self.share, kinds[rng.integers(len(kinds))]
        part = float(rng.beta(getattr(self, kind), getattr(self, kind)))
        height, width = x.shape[2:]
        middle = rng.integers(height), rng.integers(width)
        if not on:
            part = 1.0
        elif kind == "mixup":
            x = (x.float() * part + other_x.float() * (1 - part)).round().to(torch.uint8)
        else:
            sides = [n * (1 - part) ** 0.5 / 2 for n in (height, width)]
            (top, bottom), (left, right) = (
                (round(max(0, m - s)), round(min(n, m + s))) for m, s, n in zip(middle, sides, (height, width))
            )
            x = x.clone()
            x[..., top:bottom, left:right] = other_x[..., top:bottom, left:right]
            part = 1 - (bottom - top) * (right - left) / (height * width)
        return x, part * one_hot(y, self.classes).float() + (1 - part) * one_hot(other_y, self.classes).float()
