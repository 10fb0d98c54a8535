"""What the Spikformer family shares: geometry, encoder blocks with residuals as lists of sources, head and gates."""

from __future__ import annotations

from typing import Any

from convert.ir import DeployError
from train.layers.conv import SpikingConv
from train.layers.exit_gate import Exit
from train.layers.readout import Head
from train.layers.spiking_attention import Attention
from train.layers.token_gate import Gate
from train.net import Net


def token_grid(config: Any, image_shape: tuple[int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(grid after the host stem, token grid); both convolutions have stride `stem_stride` and 2."""
    _, h, w = image_shape
    halve = lambda n, s: (n - 1) // s + 1  # noqa: E731 - one formula for both convolutions
    stem = halve(h, config.stem_stride), halve(w, config.stem_stride)
    tokens = halve(stem[0], 2), halve(stem[1], 2)
    if min(tokens) < 2:
        raise DeployError("model.stem_stride", f"images of {h}x{w} leave a token grid of {tokens}", "use a smaller stem_stride")
    if config.dim % config.heads:
        raise DeployError("model.heads", f"{config.heads} heads do not divide dim {config.dim}", "choose heads that divide dim")
    return stem, tokens


def add_encoder(net: Net, config: Any, grid: tuple[int, int], residual: list[str], high: int, classes: int) -> None:
    r"""Append `config.depth` Spikformer blocks and the head to a residual stream of `residual` sources (sum at most `high`).

    .. math:: x \leftarrow x + \mathrm{SSA}(x), \qquad x \leftarrow x + \mathrm{MLP}(x)

    With halting, a gate after each block reads the stream's halting channel; block 1 of the next timestep obeys the
    last gate of this one (serial accumulation).
    """
    tokens, dim, halting = grid[0] * grid[1], config.dim, config.halting
    hidden = round(dim * config.mlp_ratio)
    gated = bool(halting.enabled)
    chain = f"gate{config.depth}"
    shared = {"slope": halting.slope, "unit": float(1 << halting.bits)}

    def linear(i: int, o: int, branch: bool = False) -> SpikingConv:
        return SpikingConv(i, o, 1, grid, branch=branch, **shared)

    stream = list(residual)
    for block in range(1, config.depth + 1):
        alive: dict[str, Any] = {"alive": chain} if gated else {}
        feedback = ["alive"] if gated and block == 1 else []
        name = f"block{block}"
        for part in "qkv":
            net.add(f"{name}.{part}", linear(dim, dim), x=list(stream), delayed=feedback, **alive)
        net.add(
            f"{name}.attention",
            Attention(tokens, dim, config.heads, config.attention_threshold),
            q=f"{name}.q",
            k=f"{name}.k",
            v=f"{name}.v",
            delayed=feedback,
            **alive,
        )
        stream.append(net.add(f"{name}.proj", linear(dim, dim, branch=True), x=f"{name}.attention", delayed=feedback, **alive))
        net.add(f"{name}.fc1", linear(dim, hidden), x=list(stream), delayed=feedback, **alive)
        stream.append(net.add(f"{name}.fc2", linear(hidden, dim, branch=True), x=f"{name}.fc1", delayed=feedback, **alive))
        if gated:
            gate = Gate(tokens, high + 2 * block, halting.gamma, halting.beta, halting.bits, halting.slope)
            chain = net.add(f"gate{block}", gate, x=list(stream), chain=chain, delayed=["chain"] if block == 1 else [])
    ends: dict[str, Any] = {"before": chain, "after": chain, "delayed": ["before"]} if gated else {}
    net.add("readout", Head(tokens, dim, classes, config.timesteps), x=stream, **ends)
    net.add("exit", Exit(classes, config.timesteps), logits="readout", **({"alive": chain} if gated else {}))
