"""The Spikformer of `spikegate.train.models.spikformer` as published code builds it in SpikingJelly, and our weights in it."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from spikegate.train.models.net import Net

SURROGATES = {"sigmoid": lambda: surrogate.Sigmoid(4.0), "arctan": lambda: surrogate.ATan(2.0)}


def lif(threshold: float, kind: str) -> nn.Module:
    """Published neuron: tau 2 with decaying input, hard reset to 0, detached."""
    return neuron.LIFNode(2.0, v_threshold=threshold, detach_reset=True, step_mode="m", surrogate_function=SURROGATES[kind]())


class Linear(nn.Module):
    """Weights, batch norm, neurons on [T, batch, positions, channels]: token-wise, or a convolution of the map of `grid`."""

    def __init__(self, i: int, o: int, kind: str, grid: tuple[int, int] | None = None, stride: int = 1) -> None:
        super().__init__()
        self.grid = grid
        self.synapse = nn.Linear(i, o, bias=False) if grid is None else nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.norm, self.lif = nn.BatchNorm1d(o), lif(1.0, kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lead, c = x.shape[:-2], x.shape[-1]
        if self.grid is None:
            y = self.synapse(x)
        else:
            y = self.synapse(x.reshape(-1, *self.grid, c).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        y = self.norm(y.reshape(-1, y.shape[-1])).reshape(*lead, -1, y.shape[-1])
        return self.lif(y)


class Pool(nn.Module):
    """Max-pool 3x3, stride 2, of spikes on the map of `grid`."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = x.reshape(-1, *self.grid, x.shape[-1]).permute(0, 3, 1, 2)
        return nn.functional.max_pool2d(maps, 3, 2, 1).flatten(2).transpose(1, 2).reshape(*x.shape[:2], -1, x.shape[-1])


class Block(nn.Module):
    """Spiking self-attention and MLP with SEW residuals."""

    def __init__(self, dim: int, hidden: int, heads: int, counts: int, kind: str) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1 / counts
        self.q, self.k, self.v, self.proj = (Linear(dim, dim, kind) for _ in range(4))
        self.fc1, self.fc2 = Linear(dim, hidden, kind), Linear(hidden, dim, kind)
        self.attention = lif(0.5, kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in (self.q, self.k, self.v))
        y = (q @ (k.transpose(-1, -2) @ v)).transpose(2, 3).flatten(-2) * self.scale
        x = x + self.proj(self.attention(y))
        return x + self.fc2(self.fc1(x))


class Jelly(nn.Module):
    """Logits [batch, classes] of uint8 images [batch, channels, height, width]; same wiring and shapes as the net that `model` names."""

    def __init__(self, model: Any, image_shape: tuple[int, int, int], classes: int, levels: int, kind: str = "sigmoid") -> None:
        super().__init__()
        self.levels, self.timesteps, self.shared = levels, model.timesteps, model.head == "mean"
        channels, here = image_shape[0], image_shape[1:]
        self.steps = nn.ModuleDict()

        def add(name: str, o: int, stride: int = 1) -> None:
            nonlocal channels, here
            self.steps[name] = Linear(channels, o, kind, here, stride)
            channels, here = o, tuple((n - 1) // stride + 1 for n in here)

        def halving(name: str, o: int) -> None:
            nonlocal here
            add(name, o, 2 if model.pooling == "stride" else 1)
            if model.pooling == "or":
                self.steps[f"{name}_pool"] = Pool(here)
                here = tuple((n - 1) // 2 + 1 for n in here)

        published = model.embedding == "published"
        add("encode", model.dim // 8 if published else model.stem_channels, model.stem_stride)
        if published:
            add("conv1", model.dim // 4)
            halving("conv2", model.dim // 2)
        halving("conv", model.dim)
        self.rpe = Linear(model.dim, model.dim, kind, here)
        hidden = round(model.dim * model.mlp_ratio)
        self.blocks = nn.ModuleList(Block(model.dim, hidden, model.heads, model.attention_threshold, kind) for _ in range(model.depth))
        self.tokens = here[0] * here[1]
        self.head = nn.Linear(model.dim if self.shared else model.dim * self.tokens, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        y = (x.float() / self.levels).flatten(2).transpose(1, 2).unsqueeze(0).repeat(self.timesteps, 1, 1, 1)
        for step in self.steps.values():
            y = step(y)
        y = y + self.rpe(y)
        for block in self.blocks:
            y = block(y)
        y = y.mean(0)
        return self.head(y.mean(1) if self.shared else y.flatten(1))


def pairs(jelly: Jelly, net: Net) -> dict[str, tuple[Linear, Any]]:
    """(layer there, twin here) by the name here; the first is the host's convolution."""
    found: dict[str, tuple[Linear, Any]] = {"stem": (jelly.steps["encode"], net.stem)}  # type: ignore[dict-item]
    found |= {f"sps.{n}": (m, net.twin(f"sps.{n}")) for n, m in jelly.steps.items() if n != "encode" and isinstance(m, Linear)}
    found["sps.rpe"] = jelly.rpe, net.twin("sps.rpe")
    for i, block in enumerate(jelly.blocks, 1):
        found |= {f"block{i}.{n}": (getattr(block, n), net.twin(f"block{i}.{n}")) for n in ("q", "k", "v", "proj", "fc1", "fc2")}
    return found


@torch.no_grad()
def transplant(net: Net, jelly: Jelly) -> None:
    """Give `jelly` the weights of `net`, so that both compute the same logits but for rounding of the pixels' currents."""
    for there, here in pairs(jelly, net).values():
        weight = here.conv.weight if hasattr(here, "conv") else here.weight
        there.synapse.weight.copy_(weight.reshape(there.synapse.weight.shape))
        theta = 4.0 if hasattr(here, "conv") else here.block.neuron.threshold
        there.norm.weight.copy_(here.norm.gamma * (2 / theta))  # a published neuron takes half of its input and fires at 1
        there.norm.bias.copy_(here.norm.beta * (2 / theta))
        there.norm.running_mean.copy_(here.norm.mean)
        there.norm.running_var.copy_(here.norm.var)
    head = net.twin("readout")
    worth = 64.0 * float(head.log_scale.exp()) * net.timesteps * (head.tokens if head.shared else 1)
    jelly.head.weight.copy_(head.synapse.weight.reshape(jelly.head.weight.shape) * worth)
    jelly.head.bias.copy_(head.bias * worth / (head.tokens if head.shared else 1))
