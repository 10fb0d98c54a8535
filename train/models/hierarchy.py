"""What the hierarchical models share: stages of decreasing resolution, patch embedding with a projected shortcut, blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from spikegate.graph.ir import DeployError
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.max_pool import MaxPool
from spikegate.train.layers.qk_channel_gate import ChannelAttention
from spikegate.train.layers.spiking_attention import Attention
from spikegate.train.models.encoder import halve, stem_grid
from spikegate.train.models.halting import TokenHalting
from spikegate.train.models.net import Net
from spikegate.train.models.spikformer import direct_coding
from spikegate.train.models.wiring import Membrane, Spikes, Wiring

Grid = tuple[int, int]
Attend = Callable[..., str]  # (wiring, name, stage, sources, high) -> name of the gate's or attention's output


@dataclass(frozen=True)
class Stage:
    """One resolution: its number (from 1), input and output maps, channels, attention heads and blocks."""

    number: int
    before: Grid
    grid: Grid
    source_channels: int
    channels: int
    heads: int
    blocks: int

    @property
    def name(self) -> str:
        return f"stage{self.number}"

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def stride(self) -> int:
        return 1 if self.grid == self.before else 2


def plan(config: Any, image_shape: tuple[int, ...], narrowing: Callable[[int, int], int]) -> list[Stage]:
    """Stages of `config`; stage 1 keeps the stem's map, every further one halves it.

    `narrowing` (stage from 1, stages) is by how much a stage is narrower than `config.dim`.
    """
    blocks = config.stages or (1, config.depth)
    grid, stages = stem_grid(config, image_shape), []
    before, channels = grid, stem_channels(config, narrowing(1, len(blocks)))
    for number, depth in enumerate(blocks, 1):
        share = narrowing(number, len(blocks))
        if config.dim % (share * config.heads):
            raise DeployError(
                "model.dim",
                f"stage {number} has dim / {share} = {config.dim / share:g} channels, which {config.heads} heads do not divide",
                f"use a dim that is a multiple of {narrowing(1, len(blocks)) * config.heads}, or fewer heads or stages",
            )
        if number > 1:
            grid = halve(before[0]), halve(before[1])
        if min(grid) < 2:
            raise DeployError(
                "model.stages", f"{image_shape[-2]}x{image_shape[-1]} images leave stage {number} a {grid} map", "use fewer stages"
            )
        stages.append(Stage(number, before, grid, channels, config.dim // share, config.heads, depth))
        before, channels = grid, config.dim // share
    return stages


def stem_channels(config: Any, share: int) -> int:
    """Channels of the host's convolution: half of stage 1's as published, or the setting."""
    return config.dim // share // 2 if config.embedding == "published" else config.stem_channels


class SpikeStream:
    """A stage's residual stream of added spikes (SEW, the models' own form): a branch is a layer with neurons."""

    def __init__(self, wiring: Wiring, stage: Stage) -> None:
        self.wiring, self.stage, self.sum = wiring, stage, Spikes([], 0)

    def embed(
        self, part: str, i: int, sources: list[str], high: int, kernel: int, stride: int, grid: Grid, pool: MaxPool | None = None
    ) -> None:
        """Add a convolution of an earlier stage's map, or the pool of its spikes."""
        layer = SpikingConv(i, self.stage.channels, kernel, grid, stride, high=high)
        name = self.wiring.neurons(f"{self.stage.name}.{part}", layer, x=sources)
        self.sum.add(self.wiring.plain(f"{self.stage.name}.pool", pool, x=name) if pool else name)

    def embedded(self, halting: TokenHalting) -> None:
        """Silence the embedding of dead tokens."""
        self.sum = Spikes(*halting.embed(self.sum.sources, self.sum.high, self.stage.grid, self.stage.name))

    def read(self, name: str, halting: TokenHalting | None = None) -> tuple[list[str], int]:
        """Sources of the next layer and the largest value of their sum."""
        return self.sum.sources, self.sum.high

    def branch(self, name: str, i: int, source: str, halting: TokenHalting | None = None) -> None:
        """Add a token-wise linear layer."""
        layer = self.wiring.linear(i, self.stage.channels, self.stage.grid, branch=True)
        self.sum.add(self.wiring.neurons(name, layer, halting, x=source))

    def scored(self) -> tuple[list[str], int]:
        """What a token gate counts: the stream."""
        return self.sum.sources, self.sum.high

    def end(self, name: str, halting: TokenHalting | None) -> tuple[list[str], int]:
        """What the next stage or the head reads."""
        return self.sum.sources, self.sum.high


class CurrentStream:
    """A stage's residual stream of currents (membrane shortcut, "PA"): neurons stand where it is read, spikes are binary."""

    def __init__(self, wiring: Wiring, stage: Stage) -> None:
        self.stage, self.sum = stage, Membrane(wiring, stage.grid, stage.channels)
        self.sum.share = 2 * stage.blocks + 2

    def embed(
        self, part: str, i: int, sources: list[str], high: int, kernel: int, stride: int, grid: Grid, pool: MaxPool | None = None
    ) -> None:
        """Add a convolution of an earlier stage's map; its currents cannot be pooled."""
        self.sum.branch(f"{self.stage.name}.{part}", i, sources[0], kernel=kernel, stride=stride, grid=grid)

    def embedded(self, halting: TokenHalting) -> None:
        """Nothing to silence: the neurons that read the stream are gated."""

    def read(self, name: str, halting: Any = None) -> tuple[list[str], int]:
        """Append neurons that read the stream; their name and 1."""
        self.last = self.sum.spikes(name, halting)
        return [self.last], 1

    def enter(self, halting: TokenHalting) -> None:
        """Currents go on; the neurons that read them are gated."""

    def branch(self, name: str, i: int, source: str, halting: TokenHalting | None = None) -> None:
        """Add a token-wise linear layer."""
        self.sum.branch(name, i, source, halting=halting)

    def scored(self) -> tuple[list[str], int]:
        """What a token gate counts: the spikes that read the stream last, those of the MLP's input."""
        return [self.last], 1

    def end(self, name: str, halting: TokenHalting | None) -> tuple[list[str], int]:
        """What the next stage or the head reads. A token that dies in this timestep still fires here: its last word is kept."""
        return self.read(name, SimpleNamespace(credit_inputs=halting.embedding) if halting else None)


Stream = SpikeStream | CurrentStream


def embed(wiring: Wiring, stage: Stage, sources: list[str], high: int) -> Stream:
    """Append SPEDS: two 3x3 convolutions (one in stage 1) beside a 1x1 shortcut with stride; their sum starts the stage's stream.

    The published max-pool stands before the neurons, on currents, and cannot be converted. Here the main path halves the
    map by the second convolution's stride, or (`model.pooling` or) by an OR over spikes: those of the second convolution
    as in the CIFAR nets, or those of the first as in the ImageNet nets where the second one's currents join the stream.
    """
    stream: Stream = (SpikeStream if wiring.config.residual == "sew" else CurrentStream)(wiring, stage)
    i, grid, stride, main, reach = stage.source_channels, stage.before, stage.stride, sources, high
    if stage.number > 1:
        main = [wiring.neurons(f"{stage.name}.conv1", SpikingConv(i, stage.channels, 3, grid, high=high), x=sources)]
        i, reach = stage.channels, 1
    pool = None
    if stride == 2 and wiring.config.pooling == "or":
        pool, stride = MaxPool(stage.channels, 3, grid, 2), 1
        if isinstance(stream, CurrentStream):
            main, grid, pool = [wiring.plain(f"{stage.name}.pool", pool, x=main[0])], stage.grid, None
    stream.embed("conv", i, main, reach, 3, stride, grid, pool)
    stream.embed("shortcut", stage.source_channels, sources, high, 1, stage.stride, stage.before)
    return stream


def project(
    wiring: Wiring, name: str, parts: Iterable[str], stage: Stage, sources: list[str], high: int, halting: TokenHalting | None
) -> dict[str, str]:
    """Append a token-wise layer for each of q, k, v; they share a timestep mask. Returns slot -> name."""
    made = {}
    for part in parts:
        layer = wiring.linear(stage.channels, stage.channels, stage.grid, high=high)
        made[part] = wiring.neurons(f"{name}.{part}", layer, halting, f"{name}.qkv.open", x=sources)
    return made


def attend_globally(wiring: Wiring, name: str, stage: Stage, sources: list[str], high: int, halting: TokenHalting | None = None) -> str:
    """Attention of the last stage: SSA, or with `model.attention` channel QKCA, which needs no product of two spike maps."""
    config = wiring.config
    if config.attention == "channel":
        maps = project(wiring, name, "qk", stage, sources, high, halting)
        return wiring.plain(f"{name}.attention", ChannelAttention(stage.tokens, stage.channels), halting, **maps)
    maps = project(wiring, name, "qkv", stage, sources, high, halting)
    attention = Attention(stage.tokens, stage.channels, stage.heads, config.attention_threshold)
    return wiring.neurons(f"{name}.attention", attention, halting, **maps)


def add_blocks(wiring: Wiring, stage: Stage, stream: Stream, attend: Attend, halting: TokenHalting | None = None) -> None:
    r"""Append the stage's blocks, :math:`x \leftarrow x + W_o\,\mathrm{attend}(x)`, :math:`x \leftarrow x + \mathrm{MLP}(x)`."""
    hidden = round(stage.channels * wiring.config.mlp_ratio)
    for block in range(1, stage.blocks + 1):
        name = f"{stage.name}.block{block}"
        sources, high = stream.read(f"{name}.in", halting)
        if halting and block == 1:
            halting.start(sources, high)
        stream.branch(f"{name}.proj", stage.channels, attend(wiring, name, stage, sources, high, halting), halting)
        sources, high = stream.read(f"{name}.mlp", halting)
        layer = wiring.linear(stage.channels, hidden, stage.grid, high=high)
        stream.branch(f"{name}.fc2", hidden, wiring.neurons(f"{name}.fc1", layer, halting, x=sources), halting)
        if halting:
            halting.after_block(block, *stream.scored())


def build_hierarchy(
    config: Any, image_shape: tuple[int, ...], classes: int, levels: int, narrowing: Callable[[int, int], int], attend: Attend
) -> Net:
    """Host stem, then stages with `attend` as attention and the last one with global attention; the head reads every token.

    Token halting, where enabled, works among the last stage's blocks: that is where tokens are read out.
    """
    stages = plan(config, image_shape, narrowing)
    net, wiring = direct_coding(config, image_shape, levels, stages[0].source_channels, config.timesteps)
    sources, high = ["sps.encode"], 1
    for stage in stages:
        last = stage is stages[-1]
        halting = TokenHalting.of(net, config, stage.tokens, stage.blocks) if last else None
        stream = embed(wiring, stage, sources, high)
        if halting:
            stream.embedded(halting)
        add_blocks(wiring, stage, stream, attend_globally if last else attend, halting)
        if halting:
            halting.leave_blocks()
        sources, high = stream.end(f"{stage.name}.out", halting)
    wiring.finish(sources, stages[-1].tokens, stages[-1].channels, classes, halting, high=high)
    return net
