"""Pools: an OR of spikes, averages over windows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.plan import Pool, Refused, Synapses
from spikegate.convert.spikingjelly.reading import ORDER, from_maps, kind_of, sources_of
from spikegate.convert.spikingjelly.signals import Beside, Current, Image, Padded, Reduced, Signal, Spikes, map_bases, numbers

WIDEST = 4096  # elements that windows of different sizes may be repeated to, to count alike


def max_pool(reader: Any, x: Signal, kernel: int, stride: int, padding: int, shape: torch.Size) -> Signal:
    """Max-pool of maps [rows, channels, height, width]."""
    node: Any = x.node
    h, w = shape[-2:]
    bases = map_bases(x.index, node)
    if bases is None:
        raise Refused("its input is not in order", ORDER)
    if isinstance(node, Padded) and len(set(node.pads)) == 1 and not padding and 2 * node.pads[0] <= kernel:
        node, padding = node.base, node.pads[0]  # spikes are not below 0, so a border of zeros changes no maximum
    if isinstance(node, Beside):
        pooled = []
        for part in node.parts:
            each = Pool(reader.where, (h * w, part.channels), (h, w), part.one, node.grid, kernel, stride, padding)
            pooled.append(Spikes(h * w, part.channels, (h, w), (reader.add(each),)))
        return from_maps(bases, Beside(h * w, node.channels, (h, w), tuple(pooled)))
    if not isinstance(node, Spikes):
        hint = "the maximum of currents is no sum: put the pool after the neurons, or use a stride of 2, and train again"
        reader.refuse(f"max-pool of {kind_of(node)}", hint)
        if not isinstance(node, Current):
            raise Refused(f"max-pool of {kind_of(node)}", hint)
        stand_in = Current(h * w, node.channels, (h, w), node.inputs)
        inside = torch.arange(h * w).reshape(1, 1, h, w) * node.channels + torch.arange(node.channels).reshape(1, -1, 1, 1)
        return Signal(stand_in, (bases.reshape(-1, 1, 1, 1) * stand_in.size + inside).reshape(shape))
    name = reader.add(Pool(reader.where, (h * w, node.channels), (h, w), node.one, node.grid, kernel, stride, padding))
    return Signal(Spikes(h * w, node.channels, (h, w), (name,)), from_maps(bases, Spikes(h * w, node.channels, (h, w), ())).index)


def average(x: Signal, kernel: tuple[int, int], stride: int, padding: tuple[int, int], shape: torch.Size) -> Signal:
    """Average over windows of maps [rows, channels, height, width]; a border of zeros counts."""
    node = x.node
    bases = map_bases(x.index, node)
    if bases is None:
        raise Refused("its input is not in order", ORDER)
    if isinstance(node, Padded) and node.pads == (node.pads[0], node.pads[0], node.pads[2], node.pads[2]):
        padding = (padding[0] + node.pads[0], padding[1] + node.pads[2])
        node = node.base
    if isinstance(node, Current) and padding == (0, 0):
        return from_maps(bases, Current(0, 0, (0, 0), tuple(s.averaged(kernel, stride) for s in node.inputs)))
    if not isinstance(node, Spikes | Image) or (isinstance(node, Image) and padding != (0, 0)):
        raise Refused(f"average of {kind_of(node)}" + (" with a border of zeros" if padding != (0, 0) else ""), "average spikes")
    h, w = shape[-2:]
    if padding != (0, 0) or kernel[0] != kernel[1]:  # neurons may follow, no further layer
        if isinstance(node, Image):
            raise Refused("average over oblong windows of the image", "use square windows")
        weight = np.full((node.channels, 1, *kernel), 1 / (kernel[0] * kernel[1]))
        s = Synapses(sources_of(node), weight, np.zeros(node.channels), node.grid, stride, padding, node.channels)
        return from_maps(bases, Current(0, 0, (0, 0), (s,)))
    k = kernel[0]
    reduced = Reduced(h * w, node.channels, (h, w), node, torch.zeros(0), 1 / k**2, (k, stride))
    out = from_maps(bases, reduced)
    windows = x.index.unfold(2, k, stride).unfold(3, k, stride).flatten(4)
    reduced.table = torch.zeros(int(out.index.max()) + 1, k**2, dtype=torch.int64)
    reduced.table[out.index.reshape(-1)] = windows.reshape(-1, k**2)
    return out


def adaptive_average(x: Signal, shape: torch.Size) -> Signal:
    """Average over windows [.., height, width] that the output's size decides."""
    spans = [_spans(int(n), int(m)) for n, m in zip(x.index.shape[-2:], shape[-2:])]
    if all(len({b - a for a, b in s}) == 1 for s in spans):
        kernel = tuple(s[0][1] - s[0][0] for s in spans)
        apart = {s[1][0] - s[0][0] for s in spans if len(s) > 1} or {max(kernel)}
        if len(apart) == 1 and min(apart) >= max(kernel) and x.index.dim() == 4 and kernel[0] == kernel[1]:
            return average(x, kernel, apart.pop(), (0, 0), shape)  # type: ignore[arg-type]
    if not isinstance(x.node, Spikes | Current | Image):
        raise Refused(f"average of {kind_of(x.node)}", "average spikes")
    windows = [x.index[..., a:b, c:d].flatten(-2) for a, b in spans[0] for c, d in spans[1]]
    most = math.lcm(*(v.shape[-1] for v in windows))
    if most > WIDEST:
        what = f"adaptive average to {tuple(shape[-2:])} over windows of very different sizes"
        raise Refused(what, "pool to a size that divides the map's")
    table = torch.stack([v.repeat_interleave(most // v.shape[-1], -1) for v in windows], -2)
    return Signal(Reduced(0, 0, (0, 0), x.node, table.reshape(-1, most), 1 / most), numbers(shape))


def _spans(n: int, m: int) -> list[tuple[int, int]]:
    """Windows of an adaptive pool of n elements to m."""
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def line(x: Signal, kernel: int, stride: int) -> Signal:
    """Average over windows of the last axis (votes)."""
    node: Any = x.node
    if isinstance(node, Reduced):
        table = node.table[x.index.unfold(-1, kernel, stride)].flatten(-2)
        node, scale = node.base, node.scale / kernel
    else:
        table, scale = x.index.unfold(-1, kernel, stride), 1 / kernel
    flat = table.reshape(-1, table.shape[-1])
    return Signal(Reduced(0, 0, (0, 0), node, flat, scale), numbers(table.shape[:-1]))
