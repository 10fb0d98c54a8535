"""STAS (arXiv 2508.14138): I-SPS, one integer embedding reused every timestep, and A-SSA, halting over tokens and timesteps.

The abstract's mechanisms are verified; the layer order of I-SPS and the halting equations are reconstructions (the
paper shows I-SPS as a figure only). Here I-SPS is Spikformer's SPS run once: the host's convolution is rounded to
graded events (the spikes of several timesteps in one), the chip's convolutions answer with graded events in one
pass, and `inject` replays their sum while a token lives. `model.embedding` ``published`` has SPS's four stages, with
strides in place of its max-pools; ``small`` has one. A-SSA is SSA among living tokens; the score of a token is
checked after every block of every timestep (serial accumulation).
"""

from __future__ import annotations

from typing import Any

from spikegate.graph.ir import DeployError
from spikegate.train.layers.host_stem import HostStem
from spikegate.train.layers.inject import Replay
from spikegate.train.layers.level_conv import IntegratedConv
from spikegate.train.models.encoder import add_encoder, halve, map_size, token_grid
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.net import Net
from spikegate.train.models.wiring import Spikes, Wiring


def build(config: Any, image_shape: tuple[int, ...], classes: int, levels: int) -> Net:
    """Spikformer's geometry with I-SPS and, where halting is enabled, A-SSA; see `spikegate.train.models.build`."""
    if config.pooling != "stride":
        raise DeployError("model.pooling", "I-SPS answers with graded events, which an OR cannot pool", "use model.pooling: stride")
    if len(image_shape) == 4:
        what = "I-SPS embeds one image once and reuses it every timestep; the frames of a recording differ"
        raise DeployError("model.name stas", what, "use another model: spikformer with model.halting.enabled has the same token halting")
    published = config.embedding == "published"
    here, grid = token_grid(config, image_shape, 2 if published else 1)
    high = config.embedding_levels
    channels = config.dim // 8 if published else config.stem_channels
    stem = HostStem(
        image_shape[0], channels, 3, map_size(image_shape), config.stem_stride, pixels=levels, unit=1.0, gain=1.0, low=0, high=high,
        bound=config.stem_bound,
    )
    net = Net(stem, config.timesteps, image_shape)
    source = "input"
    if published:
        source = net.add("isps.conv1", IntegratedConv(channels, config.dim // 4, 3, here, 1, high), x=source)
        source = net.add("isps.conv2", IntegratedConv(config.dim // 4, config.dim // 2, 3, here, 2, high), x=source)
        here, channels = (halve(here[0]), halve(here[1])), config.dim // 2
    net.add("isps.conv", IntegratedConv(channels, config.dim, 3, here, 2, high), x=source)
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
