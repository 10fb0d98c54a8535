"""Random shifts and flips of whole batches of uint8 images, or of event recordings: all frames of one alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad


@dataclass(frozen=True)
class Augment:
    """Shift each image by up to `shift` pixels each way, filled with 0, and mirror half of them if `flip`."""

    shift: int
    flip: bool

    def __call__(self, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """New uint8 [B, ..., H, W], the same for equal `x` and equally seeded `rng`."""
        shape = x.shape
        batch, height, width = len(x), *shape[-2:]
        x = x.reshape(batch, -1, height, width)
        dy, dx = (torch.from_numpy(rng.integers(0, 2 * self.shift + 1, batch)) for _ in range(2))
        windows = pad(x, [self.shift] * 4).unfold(2, height, 1).unfold(3, width, 1)
        out = windows[torch.arange(batch), :, dy, dx]
        if self.flip:
            mirrored = torch.from_numpy(rng.random(batch) < 0.5)
            out[mirrored] = out[mirrored].flip(3)
        return out.reshape(shape)
