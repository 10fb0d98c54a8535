"""What the twins of the memoryless gates share (`spikegate.ops.base.gating`): shape, dead tokens, booking."""

from __future__ import annotations

import torch

from spikegate.train.layers.base import Moment, Twin, alive_mask


class GateTwin(Twin):
    """Bits in, bits out, no state and no parameters; ORs and thresholds pass a surrogate gradient, ANDs are products."""

    maps: tuple[str, ...] = ()

    def __init__(self, tokens: int, channels: int, heads: int = 1) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not split into {heads} heads")
        self.tokens, self.channels, self.heads = tokens, channels, heads

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """[T, batch, tokens, channels] to [T, batch, tokens, heads, width]."""
        return x.unflatten(-1, (self.heads, -1))

    def count(self, bits: list[torch.Tensor]) -> torch.Tensor:
        """Sum of the maps over a head's channels [T, batch, tokens, heads, 1]."""
        return torch.stack([self.split(b).sum(-1, keepdim=True, dtype=torch.float32) for b in bits]).sum(0)

    def gated(self, now: Moment, maps: list[torch.Tensor]) -> torch.Tensor:
        """The gate's output from its maps, which hold no dead tokens; books what decides the gate."""
        raise TypeError(f"{type(self).__name__} has no gate")

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        mask = alive_mask(inputs)
        maps = [inputs[s] if mask is None else inputs[s] * mask.to(inputs[s].dtype) for s in self.maps]
        out = self.gated(now, maps)
        now.book(out, 1)
        return out
