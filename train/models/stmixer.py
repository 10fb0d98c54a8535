"""Spiking Token Mixer, STMixer (Deng et al., NeurIPS 2024): token mixing with learned weights, no attention, no pooling.

Information-protecting SPS: strided spiking convolutions, and a short path straight from the image that joins the stream as
a constant current (the host computes it, the chip adds it every timestep). Membrane shortcuts. `model.modules` surrogate
modules tap the stream in training. Departures from the published net: the short path is the host's 3x3 convolution at
the stem's resolution, folded onto the token grid, instead of one kernel per patch; neurons before the head fire for each
token, instead of a head on the stream itself.
"""

from __future__ import annotations

from typing import Any

from spikegate.graph.ir import DeployError
from spikegate.train.layers.biased import BiasEncoder
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.host_stem import HostStem
from spikegate.train.layers.inject import Replay
from spikegate.train.layers.route import HostChannels
from spikegate.train.layers.surrogate_module import SurrogateModule
from spikegate.train.layers.token_mix import TokenMixer
from spikegate.train.models.encoder import check_heads, halve, map_size, token_grid
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.net import Net
from spikegate.train.models.spike_driven import add_mlp
from spikegate.train.models.spikformer import CURRENT, THRESHOLD, event_coding
from spikegate.train.models.wiring import Membrane, Wiring


def build(config: Any, image_shape: tuple[int, ...], classes: int, levels: int) -> Net:
    """Information-protecting SPS into a membrane stream, mixer blocks; see `spikegate.train.models.build`."""
    published = config.embedding == "published"
    stem_grid, grid = token_grid(config, image_shape, 2 if published else 1)
    check_heads(config.dim, config.heads)
    fold = 4 if published else 2
    main = config.dim // 8 if published else config.stem_channels
    if len(image_shape) == 4:
        net, wiring = event_coding(config, image_shape, levels, main)
        halting = TokenHalting.of(net, config, grid[0] * grid[1], config.depth)
        stream, silent = Membrane(wiring, grid, config.dim), 0
        stream.branch("sps.short", main, "sps.encode", kernel=3, stride=fold, grid=stem_grid)
    else:
        net, wiring, halting, stream, silent = from_image(config, image_shape, levels, main, stem_grid, grid, fold)
    source, tokens, dim = "sps.encode", grid[0] * grid[1], config.dim
    here, channels = stem_grid, main
    if published:
        for i, stride in enumerate((1, 1, 2)):
            name = f"sps.conv{i + 1}"
            source = wiring.neurons(name, SpikingConv(channels, dim // (4, 2, 1)[i], 3, here, stride), x=source)
            here, channels = (halve(here[0], stride), halve(here[1], stride)), dim // (4, 2, 1)[i]
    stream.branch("sps.conv", channels, source, kernel=3, stride=2, grid=here, silent=silent)
    taps = [list(stream.currents)]
    for block in range(1, config.depth + 1):
        add_block(wiring, stream, halting, block)
        if block % 2 == 0:
            taps.append(list(stream.currents))
    if halting:
        halting.leave_blocks()
    wiring.finish([stream.spikes("head.spikes", halting)], tokens, dim, classes, halting)
    for i, names in enumerate(taps[: config.modules]):
        encoders = max(config.modules - i, 1)
        net.modules_aside.append(SurrogateModule(names, encoders, tokens, dim, config.heads, classes))
    return net


def from_image(
    config: Any, image_shape: tuple[int, ...], levels: int, main: int, stem_grid: tuple[int, int], grid: tuple[int, int], fold: int
) -> tuple[Net, Wiring, TokenHalting | None, Membrane, int]:
    """A net whose host sends the currents of `sps.encode` and of the short path, with its wiring, halting and stream, and the number of
    channels of the short path."""
    if stem_grid[0] % fold or stem_grid[1] % fold:
        raise DeployError("model.stem_stride", f"a stem map of {stem_grid} does not fold by {fold}", "use images whose size it divides")
    short = max(1, config.dim // 8 // fold**2)
    stem = HostStem(
        image_shape[0], main + short, 3, map_size(image_shape), config.stem_stride, pixels=levels,
        unit=1 / MANT, gain=THRESHOLD / 2, low=-CURRENT, high=CURRENT - 1, bound=config.stem_bound,
    )  # fmt: skip
    net = Net(stem, config.timesteps, image_shape)
    wiring, tokens, dim = Wiring(net, config), grid[0] * grid[1], config.dim
    net.add("sps.main", HostChannels(stem_grid, 0, main, main, -CURRENT, CURRENT - 1), x="input")
    net.add("sps.short", HostChannels(stem_grid, main, short, dim, -CURRENT, CURRENT - 1, fold), x="input")
    wiring.neurons("sps.encode", BiasEncoder(stem_grid, main, THRESHOLD, -CURRENT, CURRENT - 1), x="sps.main")
    halting = TokenHalting.of(net, config, tokens, config.depth)
    alive, delayed = halting.embedding if halting else ({}, [])
    net.add("sps.hold", Replay((tokens, dim), -CURRENT, CURRENT - 1), x="sps.short", delayed=delayed, **alive)
    stream = Membrane(wiring, grid, dim)
    stream.inputs = ["sps.hold"]
    return net, wiring, halting, stream, short * fold**2


def add_block(wiring: Wiring, stream: Membrane, halting: TokenHalting | None, block: int) -> None:
    r"""Append one block: ``x += W_2 s(M s(W_1 s(x)))``, ``x += V_2 s(V_1 s(x))`` with s the neurons."""
    name, dim, grid = f"block{block}", stream.channels, stream.grid
    spikes = stream.spikes(f"{name}.spikes", halting)
    if halting and block == 1:
        halting.start([spikes], 1)
    first = wiring.neurons(f"{name}.first", wiring.linear(dim, dim, grid), halting, x=spikes)
    mixed = wiring.neurons(f"{name}.mix", TokenMixer(grid[0] * grid[1], dim, wiring.config.heads), halting, x=first)
    stream.branch(f"{name}.second", dim, mixed, halting=halting)
    add_mlp(wiring, stream, halting, block)
