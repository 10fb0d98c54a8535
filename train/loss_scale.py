"""Loss scaling for gradients of 16 bits, on the device: no step waits for the host to read a number."""

from __future__ import annotations

import torch

START, PATIENCE = 2.0**13, 2000  # first scale; steps without overflow after which it doubles


class LossScale:
    """Factor of the loss, halved where a gradient overflows (that step is left out) and doubled after `PATIENCE` good steps."""

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), START, device=device)
        self.good = torch.zeros((), device=device)

    def update(self, overflow: torch.Tensor) -> None:
        """After a step; `overflow` is 1 where its gradients were not finite."""
        bad = overflow > 0
        self.good.copy_(torch.where(bad, 0.0, self.good + 1))
        grow = self.good >= PATIENCE
        self.scale.mul_(torch.where(bad, 0.5, torch.where(grow, 2.0, 1.0)))
        self.good.mul_((~grow).float())

    def state(self) -> dict[str, torch.Tensor]:
        return {"scale": self.scale, "good": self.good}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        self.scale.copy_(state["scale"])
        self.good.copy_(state["good"])
