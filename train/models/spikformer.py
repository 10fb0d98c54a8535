"""Spikformer (Zhou et al., ICLR 2023, arXiv 2209.15425): the static baseline.

SPS, then blocks of spiking self-attention and MLP with SEW residuals. Small form: the first convolution is the host's
(its integers are replayed as a constant current every timestep, direct coding), the others spike on chip; stride-2
convolutions stand for convolution + max-pool, and the head reads every token instead of their mean.
"""

from __future__ import annotations

from typing import Any

from train.layers.conv import SpikingConv
from train.layers.dynamics import MANT
from train.layers.host_stem import HostStem
from train.layers.inject import Replay
from train.layers.lif import Encoder
from train.models.encoder import add_encoder, token_grid
from train.net import Net

CURRENT = 1 << 10  # largest |current| that the host sends, in mantissa units: 16.0
THRESHOLD = 4.0


def build(config: Any, image_shape: tuple[int, int, int], classes: int, levels: int) -> Net:
    """SPS on chip in every timestep; see `train.models.build`."""
    stem_grid, grid = token_grid(config, image_shape)
    positions = stem_grid[0] * stem_grid[1]
    stem = HostStem(
        image_shape[0],
        config.stem_channels,
        3,
        image_shape[1:],
        config.stem_stride,
        pixels=levels,
        unit=1 / MANT,
        gain=THRESHOLD / 2,
        low=-CURRENT,
        high=CURRENT - 1,
    )
    net = Net(stem, config.timesteps, image_shape)
    shape = (positions, config.stem_channels)
    net.add("sps.replay", Replay(shape, -CURRENT, CURRENT - 1), x="input")
    net.add("sps.encode", Encoder(shape, THRESHOLD), x="sps.replay")
    net.add("sps.conv", SpikingConv(config.stem_channels, config.dim, 3, stem_grid, stride=2), x="sps.encode")
    net.add("sps.rpe", SpikingConv(config.dim, config.dim, 3, grid), x="sps.conv")
    add_encoder(net, config, grid, ["sps.conv", "sps.rpe"], 2, classes)
    return net
