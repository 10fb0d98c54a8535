"""SpikingJelly models that the tests train and import, written as its users write them."""

from __future__ import annotations

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn.functional import cross_entropy

from spikegate.data.parts import Parts


def lif(**settings) -> nn.Module:
    return neuron.LIFNode(**{"tau": 2.0, "surrogate_function": surrogate.ATan(), "detach_reset": True, "step_mode": "m", **settings})


class Vgg(nn.Module):
    """Conv-BN-neurons-pool stages, then two linear layers."""

    def __init__(self, node=neuron.LIFNode, pool=layer.MaxPool2d, T: int = 4, width: int = 16, **settings) -> None:
        super().__init__()
        self.T = T

        def spiking() -> nn.Module:
            return node(surrogate_function=surrogate.ATan(), detach_reset=True, **settings)

        def stage(i: int, o: int) -> list[nn.Module]:
            return [layer.Conv2d(i, o, 3, padding=1, bias=False), layer.BatchNorm2d(o), spiking()]

        self.features = nn.Sequential(
            *stage(1, width), *stage(width, 2 * width), pool(2, 2), *stage(2 * width, 2 * width), pool(2, 2)
        )  # fmt: skip
        self.classifier = nn.Sequential(layer.Flatten(), layer.Dropout(0.2), layer.Linear(8 * width, 64), spiking(), layer.Linear(64, 10))
        functional.set_step_mode(self, "m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))).mean(0)


class Attention(nn.Module):
    """Spiking self-attention; `form` is ssa, sdsa, token or channel (QK attention)."""

    def __init__(self, dim: int, heads: int, form: str = "ssa") -> None:
        super().__init__()
        self.heads, self.form = heads, form
        for part in ("q", "k", "v", "proj") if form in ("ssa", "sdsa") else ("q", "k", "proj"):
            setattr(self, f"{part}_linear", nn.Linear(dim, dim))
            setattr(self, f"{part}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{part}_lif", lif())
        self.attn_lif = lif(v_threshold=0.5)

    def project(self, x: torch.Tensor, part: str) -> torch.Tensor:
        T, B, N, C = x.shape
        y = getattr(self, f"{part}_linear")(x.flatten(0, 1))
        y = getattr(self, f"{part}_bn")(y.transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C).contiguous()
        return getattr(self, f"{part}_lif")(y)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        T, B, N, C = x.shape
        return x.reshape(T, B, N, self.heads, C // self.heads).permute(0, 1, 3, 2, 4).contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T, B, N, C = x.shape
        q, k = self.project(x, "q"), self.project(x, "k")
        if self.form == "ssa":
            q, k, v = self.split(q), self.split(k), self.split(self.project(x, "v"))
            y = ((q @ k.transpose(-2, -1)) * 0.125) @ v
            y = self.attn_lif(y.transpose(2, 3).reshape(T, B, N, C).contiguous())
        elif self.form == "sdsa":
            y = q.mul(self.attn_lif(k.mul(self.project(x, "v")).sum(dim=-2, keepdim=True)))
        elif self.form == "token":
            y = self.attn_lif(self.split(q).sum(dim=-1, keepdim=True)).mul(self.split(k))
            y = y.transpose(2, 3).flatten(3)
        else:
            y = self.attn_lif(q.sum(dim=2, keepdim=True)) * k
        return self.project(y, "proj")


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.fc1, self.bn1, self.lif1 = nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), lif()
        self.fc2, self.bn2, self.lif2 = nn.Linear(hidden, dim), nn.BatchNorm1d(dim), lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T, B, N, C = x.shape
        x = self.bn1(self.fc1(x.flatten(0, 1)).transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, self.hidden)
        x = self.lif1(x)
        x = self.bn2(self.fc2(x.flatten(0, 1)).transpose(-1, -2)).transpose(-1, -2).reshape(T, B, N, C)
        return self.lif2(x)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, form: str) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(dim, heads, form), Mlp(dim, 2 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Spikformer(nn.Module):
    """Patch splitting, position convolution with a SEW sum, attention blocks, mean over tokens and time, linear head."""

    def __init__(self, dim: int = 32, heads: int = 4, depth: int = 1, T: int = 4, form: str = "ssa") -> None:
        super().__init__()
        self.T = T
        self.conv0, self.bn0, self.lif0 = nn.Conv2d(1, dim // 2, 3, padding=1, bias=False), nn.BatchNorm2d(dim // 2), lif()
        self.conv1, self.bn1, self.lif1 = nn.Conv2d(dim // 2, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), lif()
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.rpe_conv, self.rpe_bn, self.rpe_lif = nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), lif()
        self.blocks = nn.ModuleList([Block(dim, heads, form) for _ in range(depth)])
        self.head = nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, B, _, H, W = x.shape
        x = self.lif0(self.bn0(self.conv0(x.flatten(0, 1))).reshape(T, B, -1, H, W).contiguous()).flatten(0, 1)
        x = self.lif1(self.bn1(self.conv1(x)).reshape(T, B, -1, H, W).contiguous()).flatten(0, 1)
        x = self.pool(x)
        y = self.rpe_lif(self.rpe_bn(self.rpe_conv(x)).reshape(T, B, -1, H // 2, W // 2).contiguous())
        x = (y + x.reshape(T, B, -1, H // 2, W // 2)).flatten(-2).transpose(-1, -2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(2).mean(0))


def train(model: nn.Module, parts: Parts, epochs: int, rate: float = 5e-3, batch: int = 32) -> nn.Module:
    """A few epochs of plain training on (pixel / levels)."""
    x, y = torch.from_numpy(parts.train.x / parts.levels).float(), torch.from_numpy(parts.train.y)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    steps = -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    model.train()
    for epoch in range(epochs):
        for chosen in np.array_split(np.random.default_rng(epoch).permutation(len(x)), steps):
            functional.reset_net(model)
            loss = cross_entropy(model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    functional.reset_net(model)
    return model.eval()


def settle(model: nn.Module, seed: int, images: torch.Tensor) -> nn.Module:
    """Random norms as training would leave them: statistics of the images, random gains and shifts."""
    torch.manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(m.weight, 1.5, 3.0)
            nn.init.uniform_(m.bias, 0.0, 0.8)
            m.momentum = 0.5
        elif isinstance(m, nn.Linear):
            m.weight.data.mul_(4)
    model.train()
    with torch.no_grad():
        for _ in range(6):
            functional.reset_net(model)
            model(images)
    functional.reset_net(model)
    return model.eval()
