"""Spike-driven Transformer V1 (Yao et al., NeurIPS 2023, arXiv 2307.01694): the accumulate-only reference.

Membrane shortcuts, so that every spike is a bit, and SDSA: AND of k and v, OR over tokens, AND with q. Departures from the
published net: its last patch-splitting stage pools currents (no OR; recipe: a stride of 2 instead), and the neurons
before the head fire for each token, whose spikes the head sums, instead of once for the mean of the stream.
"""

from __future__ import annotations

from typing import Any

from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.sdsa import SpikeDrivenAttention
from spikegate.train.models.encoder import token_grid
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.net import Net
from spikegate.train.models.spikformer import direct_coding, halving
from spikegate.train.models.wiring import Membrane, Wiring


def build(config: Any, image_shape: tuple[int, ...], classes: int, levels: int) -> Net:
    """SPS into a membrane stream, SDSA blocks; see `spikegate.train.models.build`."""
    published = config.embedding == "published"
    stem, grid = token_grid(config, image_shape, 2 if published else 1)
    channels = config.dim // 8 if published else config.stem_channels
    net, wiring = direct_coding(config, image_shape, levels, channels, config.timesteps)
    source, here = "sps.encode", stem
    if published:
        source = wiring.neurons("sps.conv1", SpikingConv(channels, config.dim // 4, 3, stem), x=source)
        source, here = halving(wiring, "sps.conv2", config.dim // 4, config.dim // 2, here, source)
        channels = config.dim // 2
    halting = TokenHalting.of(net, config, grid[0] * grid[1], config.depth)
    stream = Membrane(wiring, grid, config.dim)
    stream.branch("sps.conv", channels, source, kernel=3, stride=2, grid=here)
    stream.branch("sps.rpe", config.dim, stream.spikes("sps.spikes"), kernel=3)
    for block in range(1, config.depth + 1):
        add_block(wiring, stream, halting, block)
    if halting:
        halting.leave_blocks()
    last = stream.spikes("head.spikes", halting)
    wiring.finish([last], grid[0] * grid[1], config.dim, classes, halting)
    return net


def add_block(wiring: Wiring, stream: Membrane, halting: TokenHalting | None, block: int) -> None:
    r"""Append one block: ``x += W_o SDSA(s(x))``, ``x += W_2 s(W_1 s(x))`` with s the neurons."""
    name, dim, grid = f"block{block}", stream.channels, stream.grid
    spikes = stream.spikes(f"{name}.spikes", halting)
    if halting and block == 1:
        halting.start([spikes], 1)
    for part in "qkv":
        wiring.neurons(f"{name}.{part}", wiring.linear(dim, dim, grid), halting, f"{name}.qkv.open", x=spikes)
    attention = SpikeDrivenAttention(grid[0] * grid[1], dim)
    wiring.plain(f"{name}.attention", attention, halting, q=f"{name}.q", k=f"{name}.k", v=f"{name}.v")
    stream.branch(f"{name}.proj", dim, f"{name}.attention", halting=halting)
    add_mlp(wiring, stream, halting, block)


def add_mlp(wiring: Wiring, stream: Membrane, halting: TokenHalting | None, block: int) -> None:
    """Append the MLP of a block, and the gate that scores the spikes of its input."""
    name, dim = f"block{block}", stream.channels
    hidden = round(dim * wiring.config.mlp_ratio)
    spikes = stream.spikes(f"{name}.mlp", halting)
    wiring.neurons(f"{name}.fc1", wiring.linear(dim, hidden, stream.grid), halting, x=spikes)
    stream.branch(f"{name}.fc2", hidden, f"{name}.fc1", halting=halting)
    if halting:
        halting.after_block(block, [spikes], 1)


