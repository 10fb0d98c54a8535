"""Where a group's events go: which cores a neuron's spike is sent to, and on which cores its accumulates are done."""

from __future__ import annotations

import numpy as np

from spikegate.hw_sim.chip.groups import Projection
from spikegate.hw_sim.chip.splitting import Cut
from spikegate.ops.base.patches import patches


def conv_sum(x: np.ndarray, weight: np.ndarray, p: Projection, out_grid: tuple[int, int]) -> np.ndarray:
    """Weighted sums float64 [out positions, out] of a map [positions, in] with weights [out, in / groups, kh, kw]."""
    out, per, kh, kw = weight.shape
    (h, w), (above, left), (sy, sx) = p.grid, p.padding, p.stride
    oh, ow = out_grid
    framed = np.zeros((max(h + 2 * above, sy * oh + kh), max(w + 2 * left, sx * ow + kw), x.shape[-1]))
    framed[above : above + h, left : left + w] = x.reshape(h, w, -1)
    total = np.zeros((oh, ow, out))
    for dy in range(kh):
        for dx in range(kw):
            part = framed[dy : dy + sy * oh : sy, dx : dx + sx * ow : sx]
            tap = weight[:, :, dy, dx].astype(np.float64)
            if p.groups == 1:
                total += part @ tap.T
            else:
                split = part.reshape(oh, ow, p.groups, per)
                total += np.einsum("yxgi,goi->yxgo", split, tap.reshape(p.groups, out // p.groups, per)).reshape(oh, ow, out)
    return total.reshape(oh * ow, out)


def landing(p: Projection, active: np.ndarray, target: Cut) -> np.ndarray:
    """Accumulates done on each core for events [source positions, source channels], float64 [cores]; only their proportions matter."""
    pb, cb = target.position_blocks, target.channel_blocks
    shape = (target.group.positions, target.group.channels)
    if p.form == "conv":
        assert p.taps is not None
        if p.groups == 1:
            starts = np.arange(0, target.group.channels, target.channels)
            maps = conv_sum(active, np.add.reduceat(p.taps.astype(np.int64), starts, axis=0), p, target.group.grid)
        else:
            maps = _blocks(conv_sum(active, p.taps, p, target.group.grid), target)
    elif p.form == "dense":
        assert p.taps is not None
        maps = _blocks((p.taps.astype(np.float32) @ active.ravel().astype(np.float32)).reshape(shape), target)
    elif p.form == "mix":
        assert p.taps is not None
        heads = active.reshape(shape[0], len(p.taps), -1).transpose(1, 0, 2)
        maps = _blocks((p.taps.astype(np.float64) @ heads).transpose(1, 0, 2).reshape(shape), target)
    elif p.form == "direct" and active.shape == shape:
        maps = _blocks(active, target)
    elif p.form == "tokens" and (own := patches(target.group.grid, len(active))) is not None:
        maps = np.repeat(active[own].sum(1, keepdims=True) / cb, cb, 1)
    else:
        share = target.neurons / target.neurons.sum()
        return active.sum() * share
    out = np.zeros((pb, cb))
    np.add.at(out, target.block_of_position, maps)
    return out.ravel()


def _blocks(maps: np.ndarray, target: Cut) -> np.ndarray:
    """Sum over the channels of each channel block: [positions, channels] -> [positions, channel blocks]."""
    return np.add.reduceat(maps, np.arange(0, target.group.channels, target.channels), axis=1)


def positions_reached(p: Projection, positions: int, target: Cut) -> np.ndarray:
    """Whether a source position sends to a position block of the target, bool [positions, blocks]."""
    own = target.block_of_position
    if p.form == "direct" and positions == target.group.positions:
        return own[:, None] == np.arange(target.position_blocks)
    patch = patches(target.group.grid, positions) if p.form == "tokens" else None
    if patch is not None:
        held = np.zeros((positions, target.position_blocks), bool)
        held[patch, own] = True
        return held
    if p.form != "conv":
        return np.ones((positions, target.position_blocks), bool)
    assert p.taps is not None
    oh, ow = target.group.grid
    (h, w), (kh, kw) = p.grid, p.taps.shape[2:]
    reached = np.zeros((h, w, target.position_blocks), bool)
    oy, ox = np.divmod(np.arange(oh * ow), ow)
    for dy in range(kh):
        for dx in range(kw):
            y, x = oy * p.stride[0] + dy - p.padding[0], ox * p.stride[1] + dx - p.padding[1]
            inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
            reached[y[inside], x[inside], own[inside]] = True
    return reached.reshape(h * w, -1)


def channels_reached(p: Projection, channels: int, target: Cut) -> np.ndarray:
    """Whether a source channel sends to a channel block of the target, bool [channels, blocks]."""
    blocks = np.arange(target.channel_blocks)
    same = channels == target.group.channels
    if (p.form in ("direct", "mix") or (p.form == "pairs" and same)) and same:
        return target.block_of_channel[:, None] == blocks
    if p.form == "conv" and p.groups > 1:
        assert p.taps is not None
        first = np.arange(p.groups) * (len(p.taps) // p.groups)
        last = first + len(p.taps) // p.groups - 1
        of = target.block_of_channel
        lanes = (blocks >= of[first][:, None]) & (blocks <= of[last][:, None])
        return np.repeat(lanes, p.taps.shape[1], axis=0)
    return np.ones((channels, target.channel_blocks), bool)


def packets(p: Projection, active: np.ndarray, source: Cut, target: Cut) -> np.ndarray:
    """Packets from each source core to each target core for events [positions, channels], float64 [source cores, target cores].

    A packet is one event sent to one core; a core that holds several synapses of it gets one packet.
    """
    positions, channels = positions_reached(p, len(active), target), channels_reached(p, active.shape[1], target)
    cs, ct = source.channel_blocks, target.channel_blocks
    one = source.block_of_channel[:, None] == np.arange(cs)
    lanes = active @ (one[:, :, None] & channels[:, None, :]).reshape(active.shape[1], -1).astype(np.float64)
    out = np.zeros((source.position_blocks, cs, target.position_blocks, ct))
    for block in range(source.position_blocks):
        rows = source.block_of_position == block
        sent = positions[rows].T.astype(np.float64) @ lanes[rows]
        out[block] = sent.reshape(target.position_blocks, cs, ct).transpose(1, 0, 2)
    return out.reshape(source.cores, target.cores)


def axons(p: Projection, source_positions: int, source_channels: int, target: Cut) -> np.ndarray:
    """Distinct source neurons that reach each target core, int64 [cores]."""
    positions = positions_reached(p, source_positions, target).sum(0)
    channels = channels_reached(p, source_channels, target).sum(0)
    return np.outer(positions, channels).ravel().astype(np.int64)
