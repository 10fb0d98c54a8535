"""SEW-ResNet (fangwei123456/Spike-Element-Wise-ResNet 4183c90) from its state dict: blocks by key names, widths from shapes.

How spikes and shortcut are joined is in no state dict: ADD, as in the nets of the paper's ImageNet table. The forward pass is written anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spikegate.convert.spikingjelly.published_layers import State, count

STAGES = {"layer1": 1, "layer2": 2, "layer3": 2, "layer4": 2}  # strides


def fires() -> nn.Module:
    """SpikingJelly's IF, hard reset, time on axis 0."""
    from spikingjelly.activation_based import neuron

    return neuron.IFNode(detach_reset=True, step_mode="m")


class Steps(nn.Module):
    """A convolution and its normalisation on all timesteps at once, under the name that SpikingJelly's container gives them."""

    def __init__(self, state: State, prefix: str, stride: int) -> None:
        super().__init__()
        out, i, kernel, _ = state[f"{prefix}.module.0.weight"].shape
        self.module = nn.Sequential(nn.Conv2d(i, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return out


class Block(nn.Module):
    """Two or three convolutions with neurons, and the sum with the shortcut. A bottleneck strides in the second one."""

    def __init__(self, state: State, prefix: str, stride: int) -> None:
        super().__init__()
        self.parts = 3 if f"{prefix}.conv3.module.0.weight" in state else 2
        for n in range(1, self.parts + 1):
            setattr(self, f"conv{n}", Steps(state, f"{prefix}.conv{n}", stride if n == self.parts - 1 else 1))
            setattr(self, f"sn{n}", fires())
        self.downsample: nn.Module = nn.Identity()
        if f"{prefix}.downsample.0.module.0.weight" in state:
            self.downsample = nn.Sequential(Steps(state, f"{prefix}.downsample.0", stride), fires())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for n in range(1, self.parts + 1):
            y = getattr(self, f"sn{n}")(getattr(self, f"conv{n}")(y))
        out: torch.Tensor = y + self.downsample(x)
        return out


class SewResNet(nn.Module):
    """The whole net on images [B, 3, H, W]."""

    def __init__(self, state: State, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        out, i, kernel, _ = state["conv1.weight"].shape
        self.conv1, self.bn1 = nn.Conv2d(i, out, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(out)
        self.sn1, self.maxpool = fires(), nn.MaxPool2d(3, 2, 1)
        for name, stride in STAGES.items():
            blocks = [Block(state, f"{name}.{b}", stride if b == 0 else 1) for b in range(count(state, f"{name}."))]
            setattr(self, name, nn.Sequential(*blocks))
        self.fc = nn.Linear(state["fc.weight"].shape[1], len(state["fc.weight"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: Any = self.sn1(self.bn1(self.conv1(x)).unsqueeze(0).repeat(self.timesteps, 1, 1, 1, 1))
        y = self.maxpool(y.flatten(0, 1)).unflatten(0, y.shape[:2])
        for name in STAGES:
            y = getattr(self, name)(y)
        out: torch.Tensor = self.fc(y.mean((3, 4)).mean(0))
        return out
