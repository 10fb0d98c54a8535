"""Signals side by side: parts of one map moved together, heads of mixed tokens, channels of several currents."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from spikegate.convert.spikingjelly import mixing
from spikegate.convert.spikingjelly.plan import Refused
from spikegate.convert.spikingjelly.reading import as_current, kind_of
from spikegate.convert.spikingjelly.signals import Beside, Current, Mixed, Reduced, Signal, Spikes, alike

NAMES = ("cat", "stack", "hstack", "vstack", "dstack")


def join(name: str, parts: list[Signal], axis: int, shape: torch.Size) -> Signal:
    """``cat`` or ``stack`` of signals."""
    nodes = [p.node for p in parts]
    stacked = name == "stack"
    if all(alike(n, nodes[0]) for n in nodes):
        index = [p.index for p in parts]
        return Signal(nodes[0], torch.stack(index, axis) if stacked else torch.cat(index, axis))
    if all(isinstance(n, Reduced) for n in nodes) and all(_same_sums(n, nodes[0]) for n in nodes):
        return _sums(parts, stacked, axis)
    if all(isinstance(n, Mixed) for n in nodes):
        index = [p.index for p in parts]
        moved = torch.stack(index, axis) if stacked else torch.cat(index, axis)
        return Signal(mixing.joined(nodes), moved)  # type: ignore[arg-type]
    if stacked or not all(isinstance(n, Current | Spikes) for n in nodes):
        what = " and ".join(dict.fromkeys(kind_of(n) for n in nodes))
        raise Refused(f"joins {what}", "join the channels of currents or spikes, or parts of one map")
    if all(isinstance(n, Spikes) for n in nodes):
        joined = _channels(parts, axis, len(shape))
        node = Beside(joined.node.positions, joined.node.channels, joined.node.grid, tuple(nodes))  # type: ignore[arg-type]
        return Signal(node, joined.index)
    return _channels([as_current(p) for p in parts], axis, len(shape))


def _same_sums(a: Any, b: Any) -> bool:
    return alike(a.base, b.base) and (a.scale, a.window, a.grid, a.channels) == (b.scale, b.window, b.grid, b.channels)


def _sums(parts: list[Signal], stacked: bool, axis: int) -> Signal:
    """Sums of one map's elements, as a loop over timesteps makes them one by one; those over windows are numbered as maps are."""
    first: Any = parts[0].node
    tables, index, at = [], [], 0
    for p in parts:
        table = p.node.table  # type: ignore[attr-defined]
        tables.append(table)
        index.append(p.index if first.window else p.index + at)
        at += len(table)
    if len({t.shape[1] for t in tables}) > 1:
        raise Refused("joins sums over different numbers of elements", "join sums that are alike")
    whole = torch.cat(tables)
    if first.window:
        whole = torch.zeros(max(map(len, tables)), whole.shape[1], dtype=torch.int64)
        for i, table in zip(index, tables):
            rows = i.reshape(-1)
            whole[rows] = table[rows]
    moved = torch.stack(index, axis) if stacked else torch.cat(index, axis)
    return Signal(dataclasses.replace(first, table=whole), moved)


def _channels(parts: list[Signal], axis: int, dims: int) -> Signal:
    """Currents whose channels lie one after the other."""
    hint = "currents are joined along their channels, all of the same places, timesteps and samples"
    nodes = [p.node for p in parts]
    if len({n.grid for n in nodes}) != 1:
        raise Refused("joins currents of different maps", hint)
    sizes, span = [n.channels for n in nodes], int(nodes[0].positions)
    places, shape = [], [1] * dims
    for p, n in zip(parts, nodes):
        shape[axis] = n.channels
        place = p.index.div(n.channels, rounding_mode="floor")
        inside = torch.arange(n.channels).reshape(shape)
        if p.index.shape[axis] != n.channels or not torch.equal(p.index, place.narrow(axis, 0, 1) * n.channels + inside):
            raise Refused("joins currents along an axis that does not hold all their channels in order", hint)
        places.append(place.narrow(axis, 0, 1))
    constant = [isinstance(n, Current) and n.constant for n in nodes]
    timed = [q for q, c in zip(places, constant) if not c]
    whole = timed[0] if timed else places[0]
    for place, still in zip(places, constant):
        samples = (int(place.max()) // span + 1) * span
        same = whole % samples if still else whole
        if place.shape != same.shape or not torch.equal(place, same):
            raise Refused("joins currents of different places, timesteps or samples", hint)
    inputs, at, total = [], 0, sum(sizes)
    for node in nodes:
        inputs += [s.placed(at, total) for s in getattr(node, "inputs", ())]
        at += node.channels
    shape[axis] = total
    index = whole * total + torch.arange(total).reshape(shape)
    return Signal(Current(span, total, nodes[0].grid, tuple(inputs)), index)
