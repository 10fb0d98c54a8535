"""What the published nets' modules have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from spikegate.graph.ir import DeployError

State = dict[str, torch.Tensor]


def neurons(**settings: Any) -> nn.Module:
    """SpikingJelly's LIF, tau 2, hard reset, time on axis 0."""
    from spikingjelly.activation_based import neuron

    return neuron.LIFNode(tau=2.0, detach_reset=True, step_mode="m", **settings)


def normalisation(channels: int, flat: bool) -> nn.Module:
    """Batch normalisation of tokens (`flat`) or maps."""
    return nn.BatchNorm1d(channels) if flat else nn.BatchNorm2d(channels)


class Layers(nn.Module):
    """Named triples of a linear layer, its normalisation and its neurons, as the published nets name them."""

    if TYPE_CHECKING:  # layers are added by name

        def __getattr__(self, name: str) -> Any: ...

    def triple(self, state: State, prefix: str, linear: str, norm: str, lif: str, stride: int = 1) -> None:
        """Add one; its shape is that of its weights in the state dict."""
        weight, bias = state[f"{prefix}{linear}.weight"], f"{prefix}{linear}.bias" in state
        out, i = weight.shape[:2]
        kinds = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d}
        more = () if weight.dim() == 2 else (weight.shape[2], stride, weight.shape[2] // 2)
        setattr(self, linear, kinds[weight.dim()](i, out, *more, bias=bias))
        setattr(self, norm, normalisation(out, weight.dim() < 4))
        setattr(self, lif, neurons())

    def currents(self, x: torch.Tensor, linear: str, norm: str) -> torch.Tensor:
        """Normalised currents [T B, ...] of maps or tokens [T, B, ...]."""
        y = getattr(self, linear)(x.flatten(0, 1))
        if isinstance(getattr(self, linear), nn.Linear):
            return getattr(self, norm)(y.transpose(-1, -2)).transpose(-1, -2)
        return getattr(self, norm)(y)

    def spikes(self, x: torch.Tensor, linear: str, norm: str, lif: str) -> torch.Tensor:
        """Spikes [T, B, ...]."""
        return getattr(self, lif)(self.currents(x, linear, norm).unflatten(0, (x.shape[0], x.shape[1])))


def count(state: State, prefix: str) -> int:
    """Modules of a list."""
    return 1 + max((int(k[len(prefix) :].split(".")[0]) for k in state if k.startswith(prefix)), default=-1)


def whole_heads(weight: torch.Tensor, heads: int) -> None:
    """Raises DeployError where the heads do not divide the channels."""
    if len(weight) % heads:
        raise DeployError("--heads", f"{heads} heads do not divide {len(weight)} channels", "give the number that the net was trained with")
