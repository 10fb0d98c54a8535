"""Signals side by side: parts of one map moved together, heads of mixed tokens, channels of several currents."""

from __future__ import annotations

import torch

from spikegate.convert.spikingjelly import mixing
from spikegate.convert.spikingjelly.plan import Refused
from spikegate.convert.spikingjelly.reading import as_current, kind_of
from spikegate.convert.spikingjelly.signals import Current, Mixed, Signal, Spikes

NAMES = ("cat", "concat", "concatenate", "stack")


def join(name: str, parts: list[Signal], axis: int, result: torch.Tensor) -> Signal:
    """``cat`` or ``stack`` of signals."""
    nodes = [p.node for p in parts]
    stacked = name == "stack"
    if all(n is nodes[0] for n in nodes):
        index = [p.index for p in parts]
        return Signal(result, nodes[0], torch.stack(index, axis) if stacked else torch.cat(index, axis))
    if all(isinstance(n, Mixed) for n in nodes):
        index = [p.index for p in parts]
        moved = torch.stack(index, axis) if stacked else torch.cat(index, axis)
        return Signal(result, mixing.joined(nodes), moved)  # type: ignore[arg-type]
    if stacked or not all(isinstance(n, Current | Spikes) for n in nodes):
        what = " and ".join(dict.fromkeys(kind_of(n) for n in nodes))
        raise Refused(f"joins {what}", "join the channels of currents, or parts of one map")
    if all(isinstance(n, Spikes) for n in nodes):
        raise Refused("joins spikes of several layers", "give each its own convolution and add the currents")
    return _channels([as_current(p) for p in parts], axis, result)


def _channels(parts: list[Signal], axis: int, result: torch.Tensor) -> Signal:
    """Currents whose channels lie one after the other."""
    hint = "currents are joined along their channels, all of the same places, timesteps and samples"
    nodes = [p.node for p in parts]
    if len({n.grid for n in nodes}) != 1:
        raise Refused("joins currents of different maps", hint)
    sizes, span = [n.channels for n in nodes], int(nodes[0].positions)
    places, shape = [], [1] * result.dim()
    for p, n in zip(parts, nodes):
        shape[axis] = n.channels
        place = p.index.div(n.channels, rounding_mode="floor")
        inside = torch.arange(n.channels).reshape(shape)
        if p.index.shape[axis] != n.channels or not torch.equal(p.index, place.narrow(axis, 0, 1) * n.channels + inside):
            raise Refused("joins currents along an axis that does not hold all their channels in order", hint)
        places.append(place.narrow(axis, 0, 1))
    timed = [q for q, n in zip(places, nodes) if not n.constant]  # type: ignore[attr-defined]
    whole = timed[0] if timed else places[0]
    for place, node in zip(places, nodes):
        samples = (int(place.max()) // span + 1) * span
        same = whole % samples if node.constant else whole  # type: ignore[attr-defined]
        if place.shape != same.shape or not torch.equal(place, same):
            raise Refused("joins currents of different places, timesteps or samples", hint)
    inputs, at, total = [], 0, sum(sizes)
    for node in nodes:
        inputs += [s.placed(at, total) for s in node.inputs]  # type: ignore[attr-defined]
        at += node.channels
    shape[axis] = total
    index = whole * total + torch.arange(total).reshape(shape)
    return Signal(result, Current(span, total, nodes[0].grid, tuple(inputs)), index)
