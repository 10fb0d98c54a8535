"""The published STMixer (CIFAR) from its state dict.

Key names as in brain-intelligence-lab/STMixer_demo 38a0786, the forward pass written anew. Sizes come from shapes, heads from the
number of mixing matrices; timesteps are in no state dict. A `short_proj1` of kernel 16 marks the net that halves the image
four times (ImageNet). The net is taken as it is: membrane shortcuts, a short path straight from the image into the stream, class
scores from the stream, static matrices across tokens. Its surrogate modules (`sml1`, ...) serve training alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spikegate.convert.spikingjelly.published_layers import State, count, neurons, whole_heads
from spikegate.graph.ir import DeployError

EMBEDDING, SHORT = "patch_embd.proj_conv.", "patch_embd.short_proj1.0.weight"
STRIDES = {4: (1, 1, 1, 2, 2), 16: (1, 2, 2, 2, 2)}  # of the main path's convolutions, by the short path's kernel


def _lif() -> nn.Module:
    """The net's own neuron: v = v / 2 + x, fires at v >= 1, then v = 0."""
    return neurons(decay_input=False)


def _merged(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """A layer without state on [T, B, ...]."""
    return layer(x.flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[1]))


class Steps(nn.Sequential):
    """Layers by number; those without state on every timestep."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x) if hasattr(layer, "v_threshold") else _merged(x, layer)
        return x


class ProtectingEmbedding(nn.Module):
    """Patch splitting: five convolutions, the last without neurons, beside a short path from the image; channels of both side by side."""

    def __init__(self, state: State) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        kernel = state[SHORT].shape[-1]
        for n, stride in enumerate(STRIDES[kernel]):
            out, i = state[f"{EMBEDDING}{3 * n}.weight"].shape[:2]
            layers += [nn.Conv2d(i, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), _lif()]
        self.proj_conv = Steps(*layers[:-1])
        out, i = state[SHORT].shape[:2]
        self.short_proj1 = Steps(nn.Conv2d(i, out, kernel, kernel, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.short_proj1(x), self.proj_conv(x)], 2).flatten(3)


def _linear(state: State, key: str) -> list[nn.Module]:
    out, i = state[key].shape[:2]
    return [nn.Conv1d(i, out, 1, bias=False), nn.BatchNorm1d(out)]


class TokenMatrices(nn.Module):
    """A matrix across tokens for each head."""

    def __init__(self, heads: int, tokens: int) -> None:
        super().__init__()
        self.linear_mix = nn.ModuleList(nn.Linear(tokens, tokens, bias=False) for _ in range(heads))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        matrices = torch.stack([m.weight for m in self.linear_mix])  # type: ignore[misc]  # a proxy while torch.fx traces
        return (x.unflatten(2, (len(self.linear_mix), -1)) @ matrices.transpose(-1, -2)).flatten(2, 3)


class TokenMixing(nn.Module):
    """Neurons, layer, neurons, matrices across tokens, neurons, layer."""

    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        self.fc1 = Steps(_lif(), *_linear(state, f"{prefix}fc1.1.weight"), _lif())
        self.attn = TokenMatrices(count(state, f"{prefix}attn.linear_mix."), state[f"{prefix}attn.linear_mix.0.weight"].shape[0])
        self.fc2 = Steps(_lif(), *_linear(state, f"{prefix}fc2.1.weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.attn(self.fc1(x)))


class ChannelMixing(nn.Module):
    """Two layers with neurons before them."""

    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        self.fc1 = Steps(_lif(), *_linear(state, f"{prefix}fc1.1.weight"))
        self.fc2 = Steps(_lif(), *_linear(state, f"{prefix}fc2.1.weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(x))


class MixerBlock(nn.Module):
    """Both, each added to the stream of currents."""

    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        self.token_mix = TokenMixing(state, f"{prefix}token_mix.")
        self.channel_mix = ChannelMixing(state, f"{prefix}channel_mix.")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.token_mix(x)
        return x + self.channel_mix(x)


class StMixer(nn.Module):
    """STMixer-L-D-heads."""

    def __init__(self, state: State, heads: int | None, timesteps: int) -> None:
        super().__init__()
        self.T = timesteps
        own, kernel = count(state, "block.0.token_mix.attn.linear_mix."), state[SHORT].shape[-1]
        if heads not in (None, own):
            raise DeployError("--heads", f"{heads}, but the weights hold {own} mixing matrices in each block", "leave the option out")
        if kernel not in STRIDES:
            raise DeployError(SHORT, f"has a kernel of {kernel}", "published nets have 4 (CIFAR) or 16 (ImageNet)")
        if state[SHORT].shape[1] == 2:
            raise DeployError(SHORT, "takes 2 channels of events", "only images are imported")
        whole_heads(state["block.0.token_mix.fc1.1.weight"], own)
        self.patch_embd = ProtectingEmbedding(state)
        self.block = nn.ModuleList(MixerBlock(state, f"block.{i}.") for i in range(count(state, "block.")))
        self.head = nn.Linear(state["head.weight"].shape[-1], len(state["head.weight"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embd(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        for block in self.block:
            x = block(x)
        return self.head(x.mean(-1)).mean(0)
