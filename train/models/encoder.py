"""What the Spikformer family shares: geometry and encoder blocks on a stream of added spikes."""

from __future__ import annotations

from typing import Any

from spikegate.graph.ir import DeployError
from spikegate.train.layers.spiking_attention import Attention
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.wiring import Spikes, Wiring


def halve(n: int, stride: int = 2) -> int:
    """Size of a map's side after a convolution of that stride with same padding."""
    return (n - 1) // stride + 1


def map_size(image_shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of images, or of event recordings' frames."""
    return image_shape[-2], image_shape[-1]


def stem_grid(config: Any, image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Grid after the first convolution."""
    h, w = map_size(image_shape)
    return halve(h, config.stem_stride), halve(w, config.stem_stride)


def token_grid(config: Any, image_shape: tuple[int, ...], halvings: int = 1) -> tuple[tuple[int, int], tuple[int, int]]:
    """(grid after the first convolution, token grid after `halvings` more)."""
    stem = tokens = stem_grid(config, image_shape)
    for _ in range(halvings):
        tokens = halve(tokens[0]), halve(tokens[1])
    if min(tokens) < 2:
        h, w = image_shape[-2:]
        raise DeployError("model.stem_stride", f"images of {h}x{w} leave a token grid of {tokens}", "use a smaller stem_stride")
    check_heads(config.dim, config.heads)
    return stem, tokens


def check_heads(dim: int, heads: int) -> None:
    if dim % heads:
        raise DeployError("model.heads", f"{heads} heads do not divide dim {dim}", "choose heads that divide dim")


def add_blocks(
    wiring: Wiring, stream: Spikes, grid: tuple[int, int], halting: TokenHalting | None, *, blocks: int, prefix: str = "block"
) -> None:
    r"""Append Spikformer blocks.

    .. math:: x \leftarrow x + \mathrm{SSA}(x), \qquad x \leftarrow x + \mathrm{MLP}(x)
    """
    config = wiring.config
    dim, tokens = config.dim, grid[0] * grid[1]
    hidden = round(dim * config.mlp_ratio)
    for block in range(1, blocks + 1):
        name = f"{prefix}{block}"
        for part in "qkv":
            layer = wiring.linear(dim, dim, grid, high=stream.high)
            wiring.neurons(f"{name}.{part}", layer, halting, f"{name}.qkv.open", x=stream.sources)
        attention = Attention(tokens, dim, config.heads, config.attention_threshold)
        wiring.neurons(f"{name}.attention", attention, halting, q=f"{name}.q", k=f"{name}.k", v=f"{name}.v")
        stream.add(wiring.neurons(f"{name}.proj", wiring.linear(dim, dim, grid, branch=True), halting, x=f"{name}.attention"))
        wiring.neurons(f"{name}.fc1", wiring.linear(dim, hidden, grid, high=stream.high), halting, x=stream.sources)
        stream.add(wiring.neurons(f"{name}.fc2", wiring.linear(hidden, dim, grid, branch=True), halting, x=f"{name}.fc1"))
        if halting:
            halting.after_block(block, stream.sources, stream.high)


def add_encoder(wiring: Wiring, stream: Spikes, grid: tuple[int, int], classes: int, halting: TokenHalting | None) -> None:
    """Append `config.depth` blocks, read-out and exit gate."""
    add_blocks(wiring, stream, grid, halting, blocks=wiring.config.depth)
    wiring.finish(stream.sources, grid[0] * grid[1], wiring.config.dim, classes, halting, high=stream.high)
