"""Published nets of Spikformer, QKFormer, STMixer (CIFAR) and SEW-ResNet from their state dicts: sizes from shapes, layers from names.

Key names as in the authors' repositories (ZK-Zhou/spikformer 6212689, zhouchenlin2096/QKFormer c2a00e8; STMixer and SEW-ResNet in
files of their own), the forward passes written anew from the description. Timesteps are in no state dict and are given, and so are heads
but for STMixer's. The layer norms that Spikformer declares and never uses are left out.

QKFormer cannot be imported as it is: it pools currents before its neurons (a maximum is no sum), and the last neurons of
each SSA run over time and batch merged, so a sample's state leaks into the next one's. `repaired` puts the pool after the
neurons and keeps time apart: another net, to be fine-tuned and measured, never taken silently.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys

import torch
from torch import nn

from spikegate.convert.spikingjelly.loading import fill, without_owner
from spikegate.convert.spikingjelly.published_layers import Layers, State, count, neurons, whole_heads
from spikegate.convert.spikingjelly.published_sew import SewResNet
from spikegate.convert.spikingjelly.published_stmixer import StMixer
from spikegate.graph.ir import DeployError

SIGNS = {
    "spikformer": "block.0.attn.q_linear.weight", "qkformer": "stage1.0.tssa.q_conv.weight", "stmixer": "patch_embd.short_proj1.0.weight",
    "sew_resnet": "layer1.0.conv1.module.0.weight",
}  # fmt: skip
HEADS = {"spikformer": 12, "qkformer": 8}
REFUSED = {
    "block.0.attn.talking_heads.weight": (
        "Spike-driven Transformer: its last patch stage takes the maximum of currents into a stream of currents, which is no sum",
        "import a net that was trained with pooling_stat ending in 0, built by a function of yours (FILE.py:function)",
    ),
    "conv2_x.0.residual_function.1.weight": (
        "MS-ResNet: its shortcuts convolve a stream of currents, and its neurons are functions of its own",
        "use SEW-ResNet, or put neurons before the shortcuts' convolutions, and train again",
    ),
}  # known by a key, and why they cannot be imported


def family(state: State) -> str:
    """Which published net these keys belong to."""
    for name, key in SIGNS.items():
        if key in state:
            return name
    for key, (what, hint) in REFUSED.items():
        if key in state:
            raise DeployError("--weights", what, hint)
    raise DeployError("--weights", "are of no published net that is known", f"known by a key each: {', '.join(SIGNS.values())}")


def build(state: State, heads: int | None = None, timesteps: int = 4, repaired: bool = False) -> nn.Module:
    """The net that a published state dict belongs to, with its weights, in eval mode.

    Raises
    ------
    DeployError
        Unknown keys, or heads that do not divide the channels or are not those of the weights.
    """
    state = without_owner(state, {*SIGNS.values(), *REFUSED})
    name = family(state)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it greets; a command's stdout is its own
            importlib.import_module("spikingjelly.activation_based.neuron")
    except ImportError as e:
        raise DeployError("spikingjelly", f"cannot be imported ({e})", "pip install spikegate[spikingjelly]") from None
    kept = {k: v for k, v in state.items() if not unused(name, k)}
    try:
        if name == "stmixer":
            model: nn.Module = StMixer(kept, heads, timesteps)
        elif name == "sew_resnet":
            model = SewResNet(kept, timesteps)
        else:
            heads = heads or HEADS[name]
            model = Spikformer(kept, heads, timesteps) if name == "spikformer" else QkFormer(kept, heads, timesteps, repaired)
    except KeyError as e:
        raise DeployError("--weights", f"lack {e.args[0]}", "use the whole state dict that the authors released") from None
    fill(model, kept, name)
    return model.eval()


def unused(name: str, key: str) -> bool:
    """Whether inference leaves a tensor out: norms that are declared and never used, and STMixer's surrogate modules (training alone)."""
    if name == "stmixer":
        return re.match(r"sml\d+\.(proj_conv|encoder|head)\.", key) is not None
    return ".norm1." in key or ".norm2." in key


def _pool(x: torch.Tensor, pool: nn.Module) -> torch.Tensor:
    return pool(x.flatten(0, 1)).unflatten(0, (x.shape[0], x.shape[1]))


def _head_split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Tokens [T, B, N, C] as [T, B, heads, N, width]."""
    return x.unflatten(3, (heads, -1)).transpose(2, 3)


class SpsEmbedding(Layers):
    """Spikformer's patch splitting: four convolutions, two max-pools of spikes, position convolution with a sum."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for n in ("", "1", "2", "3"):
            self.triple(state, "patch_embed.", f"proj_conv{n}", f"proj_bn{n}", f"proj_lif{n}")
        self.triple(state, "patch_embed.", "rpe_conv", "rpe_bn", "rpe_lif")
        self.maxpool2, self.maxpool3 = nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for n in ("", "1", "2"):
            x = self.spikes(x, f"proj_conv{n}", f"proj_bn{n}", f"proj_lif{n}")
        x = _pool(x, self.maxpool2)
        x = _pool(self.spikes(x, "proj_conv3", "proj_bn3", "proj_lif3"), self.maxpool3)
        x = self.spikes(x, "rpe_conv", "rpe_bn", "rpe_lif") + x
        return x.flatten(3).transpose(-1, -2)


class SpikingSelfAttention(Layers):
    """SSA on tokens (linear layers, Spikformer) or on maps (1-d convolutions, QKFormer); `leaks`: as QKFormer publishes it."""

    def __init__(self, state: State, prefix: str, heads: int, leaks: bool = False) -> None:
        super().__init__()
        self.heads, self.leaks = heads, leaks
        self.kind = "linear" if f"{prefix}q_linear.weight" in state else "conv"
        for part in ("q", "k", "v", "proj"):
            self.triple(state, prefix, f"{part}_{self.kind}", f"{part}_bn", f"{part}_lif")
        self.attn_lif = neurons(v_threshold=0.5)

    def part(self, x: torch.Tensor, part: str) -> torch.Tensor:
        return self.spikes(x, f"{part}_{self.kind}", f"{part}_bn", f"{part}_lif")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.kind == "conv"
        y = x.flatten(3) if maps else x
        parts = [self.part(y, p) for p in "qkv"]
        q, k, v = (_head_split(p.transpose(-1, -2) if maps else p, self.heads) for p in parts)
        y = (((q @ k.transpose(-1, -2)) @ v) * 0.125).transpose(2, 3).flatten(3)
        y = self.attn_lif(y.transpose(-1, -2) if maps else y)
        if self.leaks:
            y = self.proj_lif(self.currents(y, "proj_conv", "proj_bn")).unflatten(0, (x.shape[0], x.shape[1]))
        else:
            y = self.part(y, "proj")
        return y.unflatten(3, (x.shape[3], x.shape[4])) if maps else y


class TokenQkAttention(Layers):
    """QKTA on maps."""

    def __init__(self, state: State, prefix: str, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for part in ("q", "k", "proj"):
            self.triple(state, prefix, f"{part}_conv", f"{part}_bn", f"{part}_lif")
        self.attn_lif = neurons(v_threshold=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = (self.spikes(x.flatten(3), f"{p}_conv", f"{p}_bn", f"{p}_lif").unflatten(2, (self.heads, -1)) for p in "qk")
        y = self.attn_lif(q.sum(dim=3, keepdim=True)) * k
        y = self.spikes(y.flatten(2, 3), "proj_conv", "proj_bn", "proj_lif")
        return y.unflatten(3, (x.shape[3], x.shape[4]))


class Mlp(Layers):
    """Two layers with neurons; `names` are (linear, norm, lif) of each."""

    def __init__(self, state: State, prefix: str, names: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__()
        self.names = names
        for triple in names:
            self.triple(state, prefix, *triple)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for triple in self.names:
            x = self.spikes(x, *triple)
        return x


class Block(nn.Module):
    """Attention and MLP, each added to the stream."""

    def __init__(self, name: str, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, attention)
        self.mlp = mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + getattr(self, self.name)(x)
        return x + self.mlp(x)


class Spikformer(nn.Module):
    """Spikformer-L-D for CIFAR."""

    def __init__(self, state: State, heads: int, timesteps: int) -> None:
        super().__init__()
        self.T = timesteps
        self.patch_embed = SpsEmbedding(state)
        names = tuple((f"fc{n}_linear", f"fc{n}_bn", f"fc{n}_lif") for n in (1, 2))
        blocks = range(count(state, "block."))
        whole_heads(state["block.0.attn.q_linear.weight"], heads)
        parts = ((SpikingSelfAttention(state, f"block.{i}.attn.", heads), Mlp(state, f"block.{i}.mlp.", names)) for i in blocks)
        self.block = nn.ModuleList(Block("attn", *p) for p in parts)
        self.head = nn.Linear(state["head.weight"].shape[-1], len(state["head.weight"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        for block in self.block:
            x = block(x)
        return self.head(x.mean(2).mean(0))


class SpedsEmbedding(Layers):
    """QKFormer's patch embedding with a projected shortcut; the first has one convolution, the others halve the map."""

    def __init__(self, state: State, prefix: str, repaired: bool) -> None:
        super().__init__()
        self.first, self.repaired = f"{prefix}proj1_conv.weight" in state, repaired
        self.numbers = ("", "1") if self.first else ("3", "4")
        for n in self.numbers:
            self.triple(state, prefix, f"proj{n}_conv", f"proj{n}_bn", f"proj{n}_lif")
        self.triple(state, prefix, "proj_res_conv", "proj_res_bn", "proj_res_lif", 1 if self.first else 2)
        if not self.first:
            self.proj4_maxpool = nn.MaxPool2d(3, 2, 1)

    def main(self, x: torch.Tensor, n: str) -> torch.Tensor:
        return self.spikes(x, f"proj{n}_conv", f"proj{n}_bn", f"proj{n}_lif")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first:
            x = self.main(x, "")
            return self.main(x, "1") + self.spikes(x, "proj_res_conv", "proj_res_bn", "proj_res_lif")
        y = self.main(x, "3")
        if self.repaired:
            y = _pool(self.main(y, "4"), self.proj4_maxpool)
        else:
            y = self.proj4_lif(self.proj4_maxpool(self.currents(y, "proj4_conv", "proj4_bn")).unflatten(0, (x.shape[0], x.shape[1])))
        return y + self.spikes(x, "proj_res_conv", "proj_res_bn", "proj_res_lif")


class QkFormer(nn.Module):
    """HST-L-D for CIFAR, as published or repaired."""

    import_hint = "--repaired puts the pools behind the neurons and keeps time apart: another net, to be fine-tuned with --epochs"

    def __init__(self, state: State, heads: int, timesteps: int, repaired: bool) -> None:
        super().__init__()
        self.T = timesteps
        names = tuple((f"mlp{n}_conv", f"mlp{n}_bn", f"mlp{n}_lif") for n in (1, 2))
        for stage in (1, 2, 3):
            setattr(self, f"patch_embed{stage}", SpedsEmbedding(state, f"patch_embed{stage}.", repaired))
            kind = "ssa" if f"stage{stage}.0.ssa.q_conv.weight" in state else "tssa"
            whole_heads(state[f"stage{stage}.0.{kind}.q_conv.weight"], heads)
            blocks = []
            for i in range(count(state, f"stage{stage}.")):
                prefix = f"stage{stage}.{i}."
                if kind == "tssa":
                    attention: nn.Module = TokenQkAttention(state, f"{prefix}tssa.", heads)
                else:
                    attention = SpikingSelfAttention(state, f"{prefix}ssa.", heads, leaks=not repaired)
                blocks.append(Block(kind, attention, Mlp(state, f"{prefix}mlp.", names)))
            setattr(self, f"stage{stage}", nn.ModuleList(blocks))
        self.head = nn.Linear(state["head.weight"].shape[-1], len(state["head.weight"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        for stage in (1, 2, 3):
            x = getattr(self, f"patch_embed{stage}")(x)
            for block in getattr(self, f"stage{stage}"):
                x = block(x)
        return self.head(x.flatten(3).mean(3).mean(0))
