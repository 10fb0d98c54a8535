"""Exponential moving average of a net's weights: what validation, test and export take, if asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Average:
    """Average of all floating-point tensors of a net's state; after n updates the decay is min(decay, (1 + n) / (10 + n))."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.live = {n: t for n, t in net.state_dict(keep_vars=True).items() if t.is_floating_point()}
        self.tensors = {n: t.detach().clone() for n, t in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """After a step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.tensors.values()), [t.detach() for t in self.live.values()], 1 - decay)
        self.updates += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the net holds the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, live in self.live.items():
            kept = live.detach().clone()
            live.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)

    def state(self) -> dict[str, torch.Tensor]:
        return {**self.tensors, "updates": torch.tensor(self.updates)}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Raises KeyError where a tensor is missing."""
        self.updates = int(state["updates"])
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])
