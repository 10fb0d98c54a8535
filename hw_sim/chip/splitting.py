"""Cuts groups onto cores: the rules that reproduce a public compile log, and further cuts where one column is still too much.

Convolutions are cut along the map's width into the largest power of two of columns that stays within the core's neurons; dense layers
along their outputs by ceil(words / budget), again until it holds (both recovered from lava-dl's PilotNet LIF notebook: 74 cores). Our
extensions: channels are cut first where a token's weights alone do not fit a core, rows where one column is too much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikegate.hw_sim.chip.groups import Group, Projection
from spikegate.hw_sim.chip.profile import Chip

WORD = 64  # bits


@dataclass(frozen=True)
class Cut:
    """A group on its cores: blocks of `height` x `width` positions, times blocks of `channels`.

    A core's number in its group is position block * channel blocks + channel block; `words` are the fullest core's.
    """

    group: Group
    width: int
    height: int
    channels: int
    words: int

    @property
    def across(self) -> int:
        return -(-self.group.grid[1] // self.width)

    @property
    def position_blocks(self) -> int:
        return self.across * -(-self.group.grid[0] // self.height)

    @property
    def channel_blocks(self) -> int:
        return -(-self.group.channels // self.channels)

    @property
    def cores(self) -> int:
        return self.position_blocks * self.channel_blocks

    @cached_property
    def block_of_position(self) -> np.ndarray:
        """Position block of each position, int64 [positions]."""
        y, x = np.divmod(np.arange(self.group.positions), self.group.grid[1])
        return y // self.height * self.across + x // self.width

    @cached_property
    def block_of_channel(self) -> np.ndarray:
        return np.arange(self.group.channels) // self.channels

    @cached_property
    def neurons(self) -> np.ndarray:
        """Neurons of each core, int64 [cores]; neurons beside the map are spread evenly."""
        positions = np.bincount(self.block_of_position, minlength=self.position_blocks)
        channels = np.bincount(self.block_of_channel, minlength=self.channel_blocks)
        extra = np.diff(self.group.extra * np.arange(self.cores + 1) // self.cores)
        return np.outer(positions, channels).ravel() + extra


def words(group: Group, positions: int, channels: int) -> int:
    """64-bit words of synaptic memory on a core with so many of a group's positions and channels.

    Weights of a convolution are shared inside a core: ``kh kw Cin ceil(Cout b / 64)``. A dense row has a header word and an index beside
    each 8-bit weight. Weights that are zero take memory too. One-to-one synapses take none; an attention's scratch state is spread evenly.
    """
    stored = {(p.op, p.form): p for p in group.projections if p.taps is not None}  # sources that add up share one copy of the weights
    total = sum(_projection_words(p, group, positions, channels) for p in stored.values())
    share = positions * channels / max(1, group.positions * group.channels)
    return total + -(-int(group.scratch_bits * share) // WORD)


def _projection_words(p: Projection, group: Group, positions: int, channels: int) -> int:
    assert p.taps is not None
    if p.form == "conv":
        out, per, kh, kw = p.taps.shape
        if p.groups == 1:
            return kh * kw * per * -(-channels * p.bits // WORD)
        return kh * kw * per * -(-channels // max(1, out // p.groups)) * -(-max(1, out // p.groups) * p.bits // WORD)
    if p.form == "mix":
        heads = -(-channels * len(p.taps) // group.channels)
        return heads * p.taps.shape[2] * (1 + -(-positions * (p.bits + max(0, positions - 1).bit_length() + 1) // WORD))
    index = max(0, channels - 1).bit_length()
    return p.taps.shape[1] // p.copies * (1 + -(-channels * (p.bits + index + 1) // WORD))


def split(group: Group, chip: Chip) -> Cut:
    """Cut one group for a chip. What cannot be made to fit stays too large on its core; `fit.violations` names it."""
    if group.positions > 1 and not group.conv_like and _fits_whole(group, chip):
        return _cut(group, group.grid[1], group.grid[0], group.channels)
    budget = chip.limit("synaptic_words") or 1 << 62
    limit = chip.limit("neurons_per_conv_core" if group.conv_like else "neurons_per_core") or 1 << 62
    height, width, channels = *group.grid, group.channels
    if not group.conv_like and group.positions == 1:
        while channels > 1 and words(group, 1, channels) > budget:
            factor = max(2, -(-words(group, 1, channels) // budget))
            channels = max(1, -(-channels // factor))
        channels = min(channels, max(1, limit))
        return _cut(group, 1, 1, channels)
    while channels > 1 and (words(group, 1, channels) > budget or channels > limit):
        channels = -(-channels // 2)
    width = _largest(group.grid[1], lambda n: _holds(group, height * n, channels, limit, budget))
    if not _holds(group, height * width, channels, limit, budget):
        height = _largest(group.grid[0], lambda n: _holds(group, n * width, channels, limit, budget))
    return _cut(group, width, height, channels)


def finer(cut: Cut, cores: int) -> Cut:
    """The cut in smaller parts, on at least so many cores where the group can be divided so far: channels, then columns, then rows."""
    width, height, channels = cut.width, cut.height, cut.channels
    now = cut
    while now.cores < cores and (width, height, channels) != (1, 1, 1):
        if channels > 1:
            channels = -(-channels // 2)
        elif width > 1:
            width = -(-width // 2)
        else:
            height = -(-height // 2)
        now = _cut(cut.group, width, height, channels)
    return now


def _fits_whole(group: Group, chip: Chip) -> bool:
    limit, budget = chip.limit("neurons_per_core") or 1 << 62, chip.limit("synaptic_words") or 1 << 62
    return _holds(group, group.positions, group.channels, limit, budget)


def _cut(group: Group, width: int, height: int, channels: int) -> Cut:
    return Cut(group, width, height, channels, words(group, width * height, channels))


def _holds(group: Group, positions: int, channels: int, limit: int, budget: int) -> bool:
    extra = -(-group.extra * positions * channels // max(1, group.positions * group.channels))
    return positions * channels + extra <= limit and words(group, positions, channels) <= budget


def _largest(extent: int, holds: Callable[[int], bool]) -> int:
    """The largest power of two of columns (rows) that holds; powers beyond the extent are asked for too, as the compile log shows."""
    n = 1 << max(0, extent - 1).bit_length()
    while n > 1 and not holds(n):
        n //= 2
    return min(n, extent)
