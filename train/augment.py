"""Random changes of whole batches of uint8 images, or of event recordings (all frames of one alike), on their device.

All chance is drawn on the host, so that it is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad


@dataclass(frozen=True)
class Augment:
    """Shift each image by up to `shift` pixels each way, filled with 0, and mirror half of them if `flip`.

    Then RandAugment with so many changes of each image (`policy`; 0: none), and a square of `cutout` pixels set to 0.
    """

    shift: int
    flip: bool
    policy: int = 0
    cutout: int = 0

    def __call__(self, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """New uint8 [B, ..., H, W], the same for equal `x` and equally seeded `rng`."""
        return self.of(x, rng, len(x), np.arange(len(x)))

    def of(self, x: torch.Tensor, rng: np.random.Generator, batch: int, at: np.ndarray) -> torch.Tensor:
        """The same for images `x` that stand at positions `at` of a batch of `batch` images."""
        shape = x.shape
        size, height, width = len(x), *shape[-2:]
        x = x.reshape(size, -1, height, width)

        def there(drawn: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(drawn[at]).to(x.device, non_blocking=True)

        dy, dx = (there(rng.integers(0, 2 * self.shift + 1, batch)) for _ in range(2))
        windows = pad(x, [self.shift] * 4).unfold(2, height, 1).unfold(3, width, 1)
        out = windows[torch.arange(size, device=x.device), :, dy, dx]
        if self.flip:
            mirrored = there(rng.random(batch) < 0.5)
            out = torch.where(mirrored.view(-1, 1, 1, 1), out.flip(3), out)
        for _ in range(self.policy):
            from spikegate.train.rand_augment import changed, draw  # torchvision, which only this needs

            which, strength = draw(rng, batch)
            out = changed(out, which[at], strength[at])
        if self.cutout:
            middle = [there(rng.integers(0, side, batch)).view(-1, 1, 1) for side in (height, width)]
            lines = [torch.arange(side, device=x.device).view(shape) for side, shape in ((height, (1, -1, 1)), (width, (1, 1, -1)))]
            hole = [(line - m >= -(self.cutout // 2)) & (line - m < self.cutout - self.cutout // 2) for line, m in zip(lines, middle)]
            out = out * ~(hole[0] & hole[1]).unsqueeze(1)
        return out.reshape(shape)
