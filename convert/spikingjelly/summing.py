"""Sums over elements of a map: what each row of features takes, linear layers on them, means over positions and time, votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.gating import met
from spikegate.convert.spikingjelly.plan import Refused, Synapses
from spikegate.convert.spikingjelly.reading import NEURONS_BETWEEN, fed_by, kind_of, seen
from spikegate.convert.spikingjelly.signals import Beside, Complement, Current, Image, Logits, Met, Node, Reduced, Signal, Spikes, numbers

ALL_STEPS = "take the sum or mean over the timesteps that count, each with the same weight, and train again: the chip's class sums add up"


@dataclass(frozen=True)
class Rows:
    """What rows of features take: `cells` [features, members] of the map in one timestep, whether summed over time, the map of each row.

    Of rows that are summed over time `which` is the sample, and `steps` are the timesteps that are summed, from 0.
    """

    cells: torch.Tensor
    merged: bool
    which: torch.Tensor
    steps: tuple[int, ...] = ()

    def spread(self, weight: np.ndarray, size: int) -> np.ndarray:
        """Weights [out, features] on the features as weights [out, size] on the map."""
        out = torch.zeros(size, len(weight), dtype=torch.float64)
        rows = torch.from_numpy(np.ascontiguousarray(weight.T))
        for m in range(self.cells.shape[1]):
            out.index_add_(0, self.cells[:, m], rows)
        return out.numpy().T


def rows_of(ids: torch.Tensor, size: int, batch: int) -> Rows:
    """What rows of features [R, K, M] sum of maps of `size`.

    Raises Refused where the rows differ in what they take, mix samples, or weigh the timesteps differently.
    """
    inside, which = ids % size, ids // size
    sample, time = which % batch, which // batch
    if not torch.equal(inside, inside[:1].expand_as(inside)) or not bool((sample == sample[:, :1, :1]).all()):
        raise Refused("its rows take different parts of the maps, or mix samples", "keep the batch apart from time and positions")
    if bool((time == time[:, :1, :1]).all()):
        return Rows(inside[0], False, which[:, 0, 0])
    if not torch.equal(time, time[:1].expand_as(time)):
        raise Refused("its rows take different timesteps", ALL_STEPS)
    features = torch.arange(ids.shape[1]).reshape(-1, 1).expand_as(inside[0])
    steps, first = torch.unique(time[0]), time[0]
    taken = [(features * size + inside[0])[first == t].sort().values for t in steps]
    if not all(torch.equal(t, taken[0]) for t in taken):
        raise Refused("weighs the timesteps differently", ALL_STEPS)
    at = first == steps[0]
    if not bool((at.sum(1) == at.sum(1)[0]).all()):
        raise Refused("its features sum different numbers of elements", ALL_STEPS)
    return Rows(inside[0][at].reshape(ids.shape[1], -1), True, sample[:, 0, 0], tuple(steps.tolist()))


def members(x: Signal) -> tuple[torch.Tensor, Node, float]:
    """Elements of the base that each element sums [..., M], the base, and the factor."""
    if isinstance(x.node, Reduced):
        return x.node.table[x.index], x.node.base, x.node.scale
    return x.index[..., None], x.node, 1.0


def linear(reader: Any, x: Signal, weight: np.ndarray, bias: np.ndarray | None) -> Signal:
    """Linear layer on the last axis: token-wise, of a whole map, or of sums."""
    bias = np.zeros(len(weight)) if bias is None else bias
    node, index, out = x.node, x.index, len(weight)
    start = index[..., :1]
    token = isinstance(node, Spikes | Image | Beside) and index.shape[-1] == node.channels and bool((start % node.channels == 0).all())
    if token and torch.equal(index, start + torch.arange(node.channels)):
        fed = fed_by(node, weight[:, :, None, None], bias)
        inputs = tuple(seen(node, Synapses(sources, w, b, node.grid, name=reader.where)) for sources, w, b in fed)
        return Signal(Current(node.positions, out, node.grid, inputs), start // node.channels * out + torch.arange(out))
    ids, base, scale = members(x)
    base = met(reader, Signal(base, ids)).node
    if not isinstance(base, Spikes | Current | Image | Beside):
        raise Refused(f"takes {kind_of(base)}", NEURONS_BETWEEN)
    rows = rows_of(ids.reshape(-1, *ids.shape[-2:]), base.size, reader.batch)
    whole = rows.spread(weight * scale, base.size)
    lead = (*index.shape[:-1], 1)
    if rows.merged or isinstance(base, Current):
        maps = whole.reshape(out, base.positions, base.channels)
        steps = reader.timesteps if rows.merged else 1  # a bias counts once in a mean over time
        logits = Logits(1, out, (1, 1), base, maps, bias / steps, rows.merged, rows.steps)
        where = rows.which.reshape(lead)
        return Signal(logits, where * out + torch.arange(out))
    kernel = np.ascontiguousarray(whole.reshape(out, *base.grid, base.channels).transpose(0, 3, 1, 2))
    fed = fed_by(base, kernel, bias)
    inputs = tuple(seen(base, Synapses(sources, np.ascontiguousarray(w), b, base.grid, name=reader.where)) for sources, w, b in fed)
    return Signal(Current(1, out, (1, 1), inputs), rows.which.reshape(lead) * out + torch.arange(out))


def reduce(x: Signal, axes: tuple[int, ...], shape: torch.Size, *, mean: bool) -> Signal:
    """Sum or mean over axes."""
    if isinstance(x.node, Complement):
        raise Refused(f"sums {kind_of(x.node)}", "sum spikes")
    ids, base, scale = members(x)
    axes = tuple(a % x.index.dim() for a in axes)
    others = [a for a in range(x.index.dim()) if a not in axes]
    count = int(np.prod([x.index.shape[a] for a in axes]))
    table = ids.permute(*others, *axes, x.index.dim()).reshape(-1, count * ids.shape[-1])
    return Signal(Reduced(0, 0, (0, 0), base, table, scale / (count if mean else 1)), numbers(shape))


def together(a: Signal, b: Signal, shape: torch.Size) -> Signal:
    """Sum of different elements of one map, such as a loop over timesteps adds up."""
    (i, base, scale), (j, _, other) = members(a), members(b)
    if scale != other:
        raise Refused("adds elements with different factors", ALL_STEPS)
    table = torch.cat([i, j], -1)
    return Signal(Reduced(0, 0, (0, 0), base, table.reshape(-1, table.shape[-1]), scale), numbers(shape))


def summable(node: Node) -> Node | None:
    """The map whose elements a node sums, if it is one that class scores can be read from."""
    base = node.base if isinstance(node, Reduced) else node
    return base if isinstance(base, Spikes | Current | Logits | Met | Beside) else None


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
    return Signal(Current(1, base.channels, (1, 1), inputs), index.reshape(x.index.shape))
