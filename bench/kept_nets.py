"""Nets that `bench/kept.py` trains in SpikingJelly, written as its users write them: small ones of five kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

T = 4


def lif(**settings: Any) -> nn.Module:
    from spikingjelly.activation_based import neuron, surrogate

    return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m", **settings)


def stage(i: int, o: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    """Convolution, normalisation, neurons."""
    from spikingjelly.activation_based import layer

    made = layer.Conv2d(i, o, kernel, stride, kernel // 2, bias=False), layer.BatchNorm2d(o)
    for m in made:
        m.step_mode = "m"
    return [*made, lif()]


class Plain(nn.Module):
    """A chain of layers; images are repeated, frames of events are taken as they are."""

    def __init__(self, layers: list[nn.Module], events: bool = False) -> None:
        from spikingjelly.activation_based import functional

        super().__init__()
        self.net, self.events = nn.Sequential(*layers), events
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(x if self.events else x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)
        return out


class Residual(nn.Module):
    """Basic block of SEW-ResNet with ADD."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*stage(i, o, stride), *stage(o, o))
        self.short = nn.Sequential(*stage(i, o, stride, 1)) if stride > 1 or i != o else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x) + self.short(x)
        return out


class Attention(nn.Module):
    """Spiking self-attention of Spikformer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.ModuleList(stage(dim, dim, 1, 1)) for _ in range(4))
        self.fire = lif(v_threshold=0.5)

    @staticmethod
    def through(part: Any, x: torch.Tensor) -> torch.Tensor:
        for m in part:
            x = m(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, batch, channels, h, w = x.shape

        def split(part: Any) -> torch.Tensor:
            return self.through(part, x).flatten(3).reshape(steps, batch, self.heads, channels // self.heads, h * w).transpose(-1, -2)

        q, k, v = split(self.q), split(self.k), split(self.v)
        y = ((q @ k.transpose(-2, -1)) @ v) * 0.125
        return self.through(self.proj, self.fire(y.transpose(-1, -2).reshape(steps, batch, channels, h, w)))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(*stage(dim, 2 * dim, 1, 1), *stage(2 * dim, dim, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x)
        out: torch.Tensor = x + self.mlp(x)
        return out


def mlp() -> nn.Module:
    from spikingjelly.activation_based import layer

    return Plain([layer.Flatten(), layer.Linear(784, 256), lif(), layer.Linear(256, 128), lif(), layer.Linear(128, 10)])


def vgg() -> nn.Module:
    from spikingjelly.activation_based import layer

    pool = layer.MaxPool2d
    maps = [*stage(1, 8), pool(2), *stage(8, 16), *stage(16, 16), pool(2), *stage(16, 32), *stage(32, 32), pool(2)]
    return Plain([*maps, layer.Flatten(), layer.Linear(288, 64), lif(), layer.Linear(64, 10)])


def sew_resnet18() -> nn.Module:
    """Stem, eight blocks of two convolutions, linear layer; widths 8 to 64."""
    from spikingjelly.activation_based import layer

    widths = [(8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
    blocks = [Residual(*w) for w in widths]
    return Plain([*stage(1, 8, 2), *blocks, layer.AdaptiveAvgPool2d((1, 1)), layer.Flatten(), layer.Linear(64, 10)])


def spikformer() -> nn.Module:
    """Two stages of patch splitting to 7 x 7 tokens of 32 channels, one block of 4 heads."""
    from spikingjelly.activation_based import layer

    maps = [*stage(1, 16, 2), *stage(16, 32), layer.MaxPool2d(3, 2, 1), Block(32, 4)]
    return Plain([*maps, layer.AdaptiveAvgPool2d((1, 1)), layer.Flatten(), layer.Linear(32, 10)])


def camera() -> nn.Module:
    """Frames of 34 x 34 with two polarities."""
    from spikingjelly.activation_based import layer

    maps = [*stage(2, 12, 2), *stage(12, 24), layer.MaxPool2d(2), *stage(24, 24), layer.MaxPool2d(2)]
    return Plain([*maps, layer.Flatten(), layer.Linear(384, 64), lif(), layer.Linear(64, 10)], events=True)
