"""STAS (arXiv 2508.14138): I-SPS, one integer embedding reused every timestep, and A-SSA, halting over tokens and timesteps.

The abstract's mechanisms are verified; the layer order of I-SPS and the halting equations are reconstructions (the
paper shows I-SPS as a figure only). Here I-SPS is Spikformer's SPS run once: the host's convolution is rounded to
graded events (the spikes of several timesteps in one), the chip's convolutions answer with graded events in one
pass, and `inject` replays their sum while a token lives. A-SSA is SSA among living tokens; the score of a token is
checked after every block of every timestep (serial accumulation).
"""

from __future__ import annotations

from typing import Any

from train.layers.host_stem import HostStem
from train.layers.inject import Replay
from train.layers.level_conv import IntegratedConv
from train.models.encoder import add_encoder, token_grid
from train.models.halting import TokenHalting
from train.models.wiring import Spikes, Wiring
from train.net import Net


def build(config: Any, image_shape: tuple[int, int, int], classes: int, levels: int) -> Net:
    """Spikformer's geometry with I-SPS and, where halting is enabled, A-SSA; see `train.models.build`."""
    stem_grid, grid = token_grid(config, image_shape)
    high = config.embedding_levels
    stem = HostStem(
        image_shape[0], config.stem_channels, 3, image_shape[1:], config.stem_stride, pixels=levels, unit=1.0, gain=1.0, low=0, high=high
    )
    net = Net(stem, config.timesteps, image_shape)
    net.add("isps.conv", IntegratedConv(config.stem_channels, config.dim, 3, stem_grid, 2, high), x="input")
    net.add("isps.rpe", IntegratedConv(config.dim, config.dim, 3, grid, 1, 1), x="isps.conv")
    shape = (grid[0] * grid[1], config.dim)
    halting = TokenHalting.of(net, config, shape[0], config.depth)
    sources, high = ["isps.conv", "isps.rpe"], high + 1
    if halting:
        sources, high = halting.merged(sources, high, grid, "isps", once=True)
    alive, delayed = halting.embedding if halting else ({}, [])
    net.add("isps.inject", Replay(shape, 0, high), x=sources, delayed=delayed, **alive)
    if halting:
        halting.start(["isps.inject"], high)
    add_encoder(Wiring(net, config), Spikes(["isps.inject"], high), grid, classes, halting)
    return net
