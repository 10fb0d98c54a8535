"""Spikformer (Zhou et al., ICLR 2023, arXiv 2209.15425): the static baseline.

SPS, then blocks of spiking self-attention and MLP with SEW residuals. The first convolution is the host's (its integers
are biases of the first neurons, a constant current in every timestep: direct coding), the others spike on chip. `model.embedding`
``published`` is SPS stage by stage: four convolutions of dim / 8, / 4, / 2 and dim channels (the first is the host's),
max-pool after the third and the fourth, position convolution. ``small`` keeps one convolution with its halving. Max-pool
of spikes is an OR (`model.pooling` or); a stride of 2 in its place is the small nets' default. The head reads every
token instead of their mean, which costs weights and no events.
"""

from __future__ import annotations

from typing import Any

from spikegate.train.layers.biased import BiasEncoder
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.event_input import EventInput
from spikegate.train.layers.host_stem import HostStem
from spikegate.train.models.encoder import add_encoder, halve, map_size, stem_grid, token_grid
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.net import Net
from spikegate.train.models.wiring import Spikes, Wiring

CURRENT = 1 << 10  # largest |current| that the host sends, in mantissa units: 16.0
THRESHOLD = 4.0


def direct_coding(config: Any, image_shape: tuple[int, ...], levels: int, channels: int, timesteps: int) -> tuple[Net, Wiring]:
    """A net whose host stem sends integers that `sps.encode` keeps as biases of its neurons, the same current every timestep.

    Event recordings, `image_shape` (timesteps, channels, height, width), need no host: `sps.encode` is their first convolution, on chip.
    """
    if len(image_shape) == 4:
        return event_coding(config, image_shape, levels, channels)
    stem = HostStem(
        image_shape[0], channels, 3, map_size(image_shape), config.stem_stride, pixels=levels,
        unit=1 / MANT, gain=THRESHOLD * config.drive, low=-CURRENT, high=CURRENT - 1, bound=config.stem_bound,
    )  # fmt: skip
    net = Net(stem, timesteps, image_shape)
    wiring = Wiring(net, config)
    grid = stem_grid(config, image_shape)
    wiring.neurons("sps.encode", BiasEncoder(grid, channels, THRESHOLD, -CURRENT, CURRENT - 1), x="input")
    return net, wiring


def event_coding(config: Any, frames: tuple[int, ...], levels: int, channels: int) -> tuple[Net, Wiring]:
    """A net that takes frames of events, (timesteps, polarities, height, width), straight into a convolution with neurons."""
    net = Net(EventInput(frames, levels), frames[0], frames)
    wiring = Wiring(net, config)
    wiring.neurons("sps.encode", SpikingConv(frames[1], channels, 3, map_size(frames), config.stem_stride, high=levels), x="input")
    return net, wiring


def halving(wiring: Wiring, name: str, i: int, o: int, grid: tuple[int, int], source: str) -> tuple[str, tuple[int, int]]:
    """Append a 3x3 convolution that halves the map, by max-pool of its spikes or by a stride of 2; (name, new grid)."""
    after = halve(grid[0]), halve(grid[1])
    if wiring.config.pooling == "stride":
        return wiring.neurons(name, SpikingConv(i, o, 3, grid, stride=2), x=source), after
    from spikegate.train.layers.max_pool import MaxPool

    wiring.neurons(name, SpikingConv(i, o, 3, grid), x=source)
    return wiring.plain(f"{name}.pool", MaxPool(o, 3, grid, stride=2), x=name), after


def build(config: Any, image_shape: tuple[int, ...], classes: int, levels: int) -> Net:
    """SPS on chip in every timestep; see `spikegate.train.models.build`."""
    published = config.embedding == "published"
    stem, grid = token_grid(config, image_shape, 2 if published else 1)
    channels = config.dim // 8 if published else config.stem_channels
    net, wiring = direct_coding(config, image_shape, levels, channels, config.timesteps)
    source, here = "sps.encode", stem
    if published:
        source = wiring.neurons("sps.conv1", SpikingConv(channels, config.dim // 4, 3, stem), x=source)
        source, here = halving(wiring, "sps.conv2", config.dim // 4, config.dim // 2, here, source)
        channels = config.dim // 2
    source, here = halving(wiring, "sps.conv", channels, config.dim, here, source)
    wiring.neurons("sps.rpe", SpikingConv(config.dim, config.dim, 3, grid), x=source)
    halting = TokenHalting.of(net, config, grid[0] * grid[1], config.depth)
    layers = [name for name, twin in net.named.items() if isinstance(twin, BiasEncoder | SpikingConv)]
    stream = halting.embed([source, "sps.rpe"], 2, grid, "sps", layers=layers) if halting else ([source, "sps.rpe"], 2)
    add_encoder(wiring, Spikes(*stream), grid, classes, halting)
    return net
