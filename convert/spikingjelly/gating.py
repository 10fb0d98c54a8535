"""Products of spikes: gates, AND, AND NOT."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.plan import FloatNeuron, Gate, Neurons, Refused, Synapses
from spikegate.convert.spikingjelly.signals import Complement, Gated, Met, Signal, Spikes

BOTH = FloatNeuron(0.0, 1.0, 1.5)  # without memory: fires where two of two spikes arrive
ONE = FloatNeuron(0.0, 1.0, 0.5)  # where x - y is 1


def met(reader: Any, x: Signal) -> Signal:
    """AND of two maps as neurons without memory, where it is more than a part of an attention."""
    node = x.node
    if not isinstance(node, Met):
        return x
    ones = np.ones((node.channels, 1, 1, 1))
    s = Synapses((node.first, node.second), ones, np.zeros(node.channels), node.grid, groups=node.channels)
    layer = Neurons(f"{node.where}.and", (node.positions, node.channels), node.grid, (s,), BOTH)
    return Signal(Spikes(node.positions, node.channels, node.grid, (reader.add(layer),)), x.index)


def logic(reader: Any, x: Signal, y: Signal) -> Signal:
    """``x (1 - y)`` of spikes: neurons without memory on x - y."""
    assert isinstance(x.node, Spikes) and isinstance(y.node, Complement)
    node = x.node
    if (node.positions, node.channels) != (y.node.positions, y.node.channels):
        raise Refused("multiplies maps of different shape", "IAND takes two maps of one shape")
    ones, none = np.ones((node.channels, 1, 1, 1)), np.zeros(node.channels)
    inputs = (
        Synapses((node.one,), ones, none, node.grid, groups=node.channels),
        Synapses((y.node.source.one,), -ones, none, node.grid, groups=node.channels),
    )
    layer = Neurons(f"{reader.where}.iand", (node.positions, node.channels), node.grid, inputs, ONE)
    return Signal(Spikes(node.positions, node.channels, node.grid, (reader.add(layer),)), x.index)


def gated(reader: Any, gate: Signal, other: Signal) -> Signal:
    """AND of a map with a gate's bits."""
    g, node, base = gate.node, other.node, gate.node.reduced.base  # type: ignore[attr-defined]
    assert isinstance(g, Gated) and isinstance(node, Spikes)
    rows = g.reduced.table[gate.index.expand(other.index.shape)][..., 0]
    same_channel = (rows % node.channels) // g.width == (other.index % node.channels) // g.width
    if g.over == "channel":
        fits = torch.equal(rows // node.size, other.index // node.size) and torch.equal(rows % node.channels, other.index % node.channels)
    else:
        fits = torch.equal(rows // node.channels, other.index // node.channels) and bool(same_channel.all())
    if not fits or (base.positions, base.channels) != (node.positions, node.channels):
        raise Refused("a gate that meets other tokens or channels than it was computed from", "gate the map of the same tokens and heads")
    name, shape = f"{reader.where}.gate", (node.positions, node.channels)
    if isinstance(base, Met):
        if g.over != "channel":
            raise Refused("a gate on k and v summed over channels", "SDSA sums over tokens")
        layer = Gate(name, shape, node.grid, "sdsa", {"q": node.one, "k": base.first, "v": base.second})
    else:
        kind = "qk_channel_gate" if g.over == "channel" else "qk_token_gate"
        heads = node.channels // g.width if g.over == "token" else 1
        layer = Gate(name, shape, node.grid, kind, {"q": base.one, "k": node.one}, heads)
    return Signal(Spikes(node.positions, node.channels, node.grid, (reader.add(layer),)), other.index)
