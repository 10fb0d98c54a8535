"""RandAugment (Cubuk et al., arXiv 1909.13719): each image of a batch gets a change drawn from a list; images with one change together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms.v2 import functional as T

STRENGTH, SPREAD = 0.3, 0.17  # mean and deviation of a change's strength, of 1 (magnitude 9 and 5 of 30)

Change = Callable[[torch.Tensor, float], torch.Tensor]


def _affine(x: torch.Tensor, *, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), shear: tuple[float, float] = (0.0, 0.0)):
    return T.affine(x, angle=angle, translate=[round(s) for s in shift], scale=1.0, shear=list(shear))


def _grey_or(x: torch.Tensor, change: Change, strength: float) -> torch.Tensor:
    """Changes of colour need three channels."""
    return change(x, strength) if x.shape[1] == 3 else x


# Of uint8 [b, C, H, W] by a strength in -1..1.
CHANGES: tuple[Change, ...] = (
    lambda x, s: T.autocontrast(x),
    lambda x, s: T.equalize(x),
    lambda x, s: T.invert(x),
    lambda x, s: _affine(x, angle=30 * s),
    lambda x, s: T.posterize(x, 8 - round(4 * abs(s))),
    lambda x, s: T.solarize(x, 255 - 256 * abs(s) if abs(s) < 1 else 0),
    lambda x, s: _grey_or(x, lambda y, t: T.adjust_saturation(y, 1 + 0.9 * t), s),
    lambda x, s: T.adjust_contrast(x, 1 + 0.9 * s),
    lambda x, s: T.adjust_brightness(x, 1 + 0.9 * s),
    lambda x, s: T.adjust_sharpness(x, 1 + 0.9 * s),
    lambda x, s: _affine(x, shear=(math.degrees(math.atan(0.3 * s)), 0.0)),
    lambda x, s: _affine(x, shear=(0.0, math.degrees(math.atan(0.3 * s)))),
    lambda x, s: _affine(x, shift=(0.45 * x.shape[3] * s, 0.0)),
    lambda x, s: _affine(x, shift=(0.0, 0.45 * x.shape[2] * s)),
)
STEPS = 10  # strengths that differ: images with the same change and step are changed together


def draw(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Which change each image gets (-1: none, half of them), and how strong, in steps of 1 / `STEPS` of either sign."""
    which = rng.integers(0, len(CHANGES), batch)
    strength = np.clip(np.rint(rng.normal(STRENGTH, SPREAD, batch) * STEPS), 0, STEPS) * rng.choice([-1, 1], batch)
    return np.where(rng.random(batch) < 0.5, which, -1), strength.astype(np.int64)


def changed(x: torch.Tensor, which: np.ndarray, strength: np.ndarray) -> torch.Tensor:
    """Images uint8 [B, C, H, W] with the changes that `draw` drew for them."""
    out = x.clone()
    for change, step in sorted({(int(w), int(s)) for w, s in zip(which, strength) if w >= 0}):
        at = torch.from_numpy(np.flatnonzero((which == change) & (strength == step))).to(x.device)
        out[at] = CHANGES[change](x[at], step / STEPS)
    return out
