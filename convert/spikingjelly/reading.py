"""What each kind of layer does to a signal: checks that the elements arrive in the order that the layer means, and adds to the plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.plan import IMAGE, Pool, Refused, Synapses, after_average
from spikegate.convert.spikingjelly.signals import Current, Image, Logits, Node, Reduced, Signal, Spikes, map_bases, numbers

NEURONS_BETWEEN = "put neurons between: on chip only spikes travel"
ORDER = "the layer must take whole maps [.., channels, height, width] of one sample and timestep each"


def sources_of(node: Node) -> tuple[str, ...]:
    """What feeds a linear map of this node."""
    if isinstance(node, Image):
        return (IMAGE,)
    if isinstance(node, Spikes):
        return node.sources
    raise Refused(f"takes {kind_of(node)}", NEURONS_BETWEEN)


def kind_of(node: Node) -> str:
    """A node in words."""
    words = {"Current": "currents that went through no neurons", "Product": "an attention's product", "Attended": "an attention's product",
             "Met": "a product of spikes", "Mixed": "mixed tokens that went through no neurons",
             "Gated": "a gate", "Reduced": "sums", "Logits": "class scores", "Image": "the image"}
    return words.get(type(node).__name__, "spikes")


def conv(x: Signal, weight: np.ndarray, bias: np.ndarray, stride: int, padding: tuple[int, int], groups: int) -> Signal:
    """Convolution of maps [rows, channels, height, width]; the result's index is [rows, out, height, width] too."""
    node, step = x.node, stride
    if isinstance(node, Reduced) and node.window and isinstance(node.base, Spikes):
        kernel, apart = node.window
        base = node.base
        whole = kernel == apart and base.grid == (node.grid[0] * apart, node.grid[1] * apart)
        if padding != (0, 0) and not whole:
            raise Refused("a padded convolution of averages whose windows do not tile the map", "use windows that tile it, or no padding")
        weight, padding = after_average(weight, padding, kernel, apart)
        sources, grid, step = base.sources, base.grid, stride * apart
    else:
        sources, grid = sources_of(node), (x.index.shape[-2], x.index.shape[-1])
    bases = map_bases(x.index, node)
    if bases is None:
        raise Refused("its input is not in order", ORDER)
    synapses = Synapses(sources, weight, bias, grid, step, padding, groups)
    return from_maps(bases, Current(0, 0, (0, 0), (synapses,)))


def from_maps(bases: torch.Tensor, node: Node) -> Signal:
    """Maps [rows, channels, height, width] of a fresh node; sizes of a current come from its synapses."""
    if isinstance(node, Current):
        node.grid = node.inputs[0].out_grid
        node.positions, node.channels = node.grid[0] * node.grid[1], len(node.inputs[0].weight)
    h, w = node.grid
    inside = torch.arange(h * w).reshape(1, 1, h, w) * node.channels + torch.arange(node.channels).reshape(1, -1, 1, 1)
    return Signal(torch.zeros(0), node, bases.reshape(-1, 1, 1, 1) * node.size + inside)


def as_current(x: Signal) -> Signal:
    """Spikes, or their averages over windows, as currents: one synapse for each."""
    node = x.node
    if isinstance(node, Current):
        return x
    if isinstance(node, Reduced) and node.window and isinstance(node.base, Spikes):
        (k, step), base = node.window, node.base
        weight = np.full((node.channels, 1, k, k), node.scale / k**2)
        synapses = Synapses(base.sources, weight, np.zeros(node.channels), base.grid, step, (0, 0), node.channels)
    else:
        ones = np.ones((node.channels, 1, 1, 1))
        synapses = Synapses(sources_of(node), ones, np.zeros(node.channels), node.grid, groups=node.channels)
    return Signal(x.value, Current(node.positions, node.channels, node.grid, (synapses,)), x.index)


def affine(x: Signal, gain: np.ndarray, shift: np.ndarray, value: torch.Tensor) -> Signal:
    """``gain x + shift`` for each channel (axis 1): a normalisation."""
    if not isinstance(x.node, Current | Spikes | Reduced):
        raise Refused(f"normalises {kind_of(x.node)}", "normalise after a linear layer")
    x = as_current(x)
    node = x.node
    c = node.channels
    wanted = torch.arange(c).reshape(1, -1, *[1] * (x.index.dim() - 2))
    if x.index.shape[1] != c or not bool((x.index % c == wanted).all()):
        raise Refused("its axis 1 does not hold the channels in order", "normalise maps [.., channels, positions]")
    first, *rest = node.inputs  # type: ignore[attr-defined]
    inputs = (first.scaled(gain, shift), *(s.scaled(gain) for s in rest))
    return Signal(value, Current(node.positions, c, node.grid, inputs), x.index)


def row_maps(ids: torch.Tensor, size: int, batch: int) -> tuple[np.ndarray, bool, torch.Tensor]:
    """What rows of features [R, K, M] sum of maps of `size`: (counts [K, size] of one timestep, whether summed over time, map of each row).

    Raises Refused where the rows differ in what they take, or mix samples.
    """
    inside, which = ids % size, ids // size
    sample, time = which % batch, which // batch
    if not torch.equal(inside, inside[:1].expand_as(inside)) or not bool((sample == sample[:, :1, :1]).all()):
        raise Refused("its rows take different parts of the maps, or mix samples", "keep the batch apart from time and positions")
    merged = not bool((time == time[:, :1, :1]).all())
    feature = np.repeat(np.arange(ids.shape[1]), ids.shape[2])
    counts = np.zeros((ids.shape[1], size))
    first = time[0].reshape(-1).numpy()
    cells = inside[0].reshape(-1).numpy()
    at = first == first.min() if merged else np.ones(len(cells), bool)
    np.add.at(counts, (feature[at], cells[at]), 1.0)
    if merged:
        if not torch.equal(time, time[:1].expand_as(time)):
            raise Refused("its rows take different timesteps", "take the mean over all timesteps")
        for t in np.unique(first)[1:]:
            other = np.zeros_like(counts)
            np.add.at(other, (feature[first == t], cells[first == t]), 1.0)
            if not np.array_equal(other, counts):
                raise Refused("weighs the timesteps differently", "take the mean over all timesteps")
    return counts, merged, which[:, 0, 0]


def members(x: Signal) -> tuple[torch.Tensor, Node, float]:
    """Elements of the base that each element sums [..., M], the base, and the factor."""
    if isinstance(x.node, Reduced):
        return x.node.table[x.index], x.node.base, x.node.scale
    return x.index[..., None], x.node, 1.0


def linear(x: Signal, weight: np.ndarray | None, bias: np.ndarray | None, value: torch.Tensor, batch: int) -> Signal:
    """Linear layer on the last axis: token-wise, of a whole map, or of sums."""
    assert weight is not None
    bias = np.zeros(len(weight)) if bias is None else bias
    node, index, out = x.node, x.index, len(weight)
    start = index[..., :1]
    token = isinstance(node, Spikes) and index.shape[-1] == node.channels and bool((start % node.channels == 0).all())
    if token and torch.equal(index, start + torch.arange(node.channels)):
        synapses = Synapses(sources_of(node), weight[:, :, None, None], bias, node.grid)
        current = Current(node.positions, out, node.grid, (synapses,))
        return Signal(value, current, start // node.channels * out + torch.arange(out))
    ids, base, scale = members(x)
    if not isinstance(base, Spikes | Current):
        raise Refused(f"takes {kind_of(base)}", NEURONS_BETWEEN)
    rows = ids.reshape(-1, *ids.shape[-2:])
    counts, merged, which = row_maps(rows, base.size, batch)
    whole = (weight * scale) @ counts  # [out, size]
    if merged or isinstance(base, Current):
        maps = whole.reshape(out, base.positions, base.channels)
        steps = len(torch.unique(rows // base.size // batch)) if merged else 1  # a bias counts once in a mean over time
        logits = Logits(1, out, (1, 1), base, maps, bias / steps)
        where = (which % batch if merged else which).reshape(*index.shape[:-1], 1)
        return Signal(value, logits, where * out + torch.arange(out))
    kernel = whole.reshape(out, *base.grid, base.channels).transpose(0, 3, 1, 2)
    synapses = Synapses(sources_of(base), np.ascontiguousarray(kernel), bias, base.grid)
    return Signal(value, Current(1, out, (1, 1), (synapses,)), which.reshape(*index.shape[:-1], 1) * out + torch.arange(out))


def max_pool(reader: Any, x: Signal, kernel: int, stride: int, padding: int, value: torch.Tensor) -> Signal:
    """Max-pool of maps [rows, channels, height, width]."""
    node = x.node
    h, w = value.shape[-2:]
    bases = map_bases(x.index, node)
    if bases is None:
        raise Refused("its input is not in order", ORDER)
    if not isinstance(node, Spikes):
        hint = "the maximum of currents is no sum: put the pool after the neurons, or use a stride of 2, and train again"
        reader.refuse(f"max-pool of {kind_of(node)}", hint)
        if not isinstance(node, Current):
            raise Refused(f"max-pool of {kind_of(node)}", hint)
        stand_in = Current(h * w, node.channels, (h, w), node.inputs)
        inside = torch.arange(h * w).reshape(1, 1, h, w) * node.channels + torch.arange(node.channels).reshape(1, -1, 1, 1)
        return Signal(value, stand_in, (bases.reshape(-1, 1, 1, 1) * stand_in.size + inside).reshape(value.shape))
    name = reader.where
    reader.add(Pool(name, (h * w, node.channels), (h, w), node.one, tuple(x.index.shape[2:]), kernel, stride, padding))  # type: ignore[arg-type]
    out = from_maps(bases, Spikes(h * w, node.channels, (h, w), (name,)))
    reader.keep(name, reader.plan.layers[name], value, out.index)
    return Signal(value, out.node, out.index.reshape(value.shape))


def average(x: Signal, kernel: int, stride: int, value: torch.Tensor) -> Signal:
    """Average over windows of maps [rows, channels, height, width], without padding."""
    node = x.node
    bases = map_bases(x.index, node)
    if bases is None:
        raise Refused("its input is not in order", ORDER)
    if isinstance(node, Current):
        out = from_maps(bases, Current(0, 0, (0, 0), tuple(s.averaged((kernel, kernel), stride) for s in node.inputs)))
        return Signal(value, out.node, out.index)
    if not isinstance(node, Spikes):
        raise Refused(f"average of {kind_of(node)}", "average spikes")
    h, w = value.shape[-2:]
    reduced = Reduced(h * w, node.channels, (h, w), node, torch.zeros(0), 1 / kernel**2, (kernel, stride))
    out = from_maps(bases, reduced)
    windows = x.index.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(4)
    reduced.table = torch.zeros(int(out.index.max()) + 1, kernel**2, dtype=torch.int64)
    reduced.table[out.index.reshape(-1)] = windows.reshape(-1, kernel**2)
    return Signal(value, reduced, out.index)


def reduce(x: Signal, axes: tuple[int, ...], keep: bool, value: torch.Tensor, *, mean: bool) -> Signal:
    """Sum or mean over axes."""
    if isinstance(x.node, Image):
        raise Refused("reduces the image", "reduce spikes")
    ids, base, scale = members(x)
    axes = tuple(a % x.index.dim() for a in axes)
    others = [a for a in range(x.index.dim()) if a not in axes]
    table = ids.permute(*others, *axes, x.index.dim()).reshape(-1, int(np.prod([x.index.shape[a] for a in axes])) * ids.shape[-1])
    count = int(np.prod([x.index.shape[a] for a in axes])) if mean else 1
    return Signal(value, Reduced(0, 0, (0, 0), base, table, scale / count), numbers(value.shape))


def mean_current(x: Signal) -> Signal | None:
    """Sums or means of a current over all positions, as one current; None if they are anything else."""
    node = x.node
    if not isinstance(node, Reduced) or not isinstance(node.base, Current) or node.table.shape[1] != node.base.positions:
        return None
    base, table = node.base, node.table[x.index.reshape(-1)].sort(1).values
    if not torch.equal(table, table[:, :1] + base.channels * torch.arange(base.positions)):
        return None
    if not bool((table[:, 0] % base.size < base.channels).all()):
        return None
    inputs = tuple(s.averaged(s.out_grid, 1).scaled(node.scale * base.positions) for s in base.inputs)
    index = table[:, 0] // base.size * base.channels + table[:, 0] % base.channels
    return Signal(x.value, Current(1, base.channels, (1, 1), inputs), index.reshape(x.index.shape))


def voting(x: Signal, size: int, value: torch.Tensor) -> Signal:
    """Mean over groups of `size` on the last axis."""
    grouped = Signal(x.value, x.node, x.index.unflatten(-1, (-1, size)))
    return reduce(grouped, (-1,), False, value, mean=True)
