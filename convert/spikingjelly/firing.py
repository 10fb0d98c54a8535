"""Neurons: where a signal becomes a layer of the plan, after a check that time is time."""

from __future__ import annotations

from typing import Any

import torch

from spikegate.convert.spikingjelly.mixing import layer_of
from spikegate.convert.spikingjelly.plan import Attention, FloatNeuron, Neurons, Refused
from spikegate.convert.spikingjelly.reading import as_current, kind_of, mean_current
from spikegate.convert.spikingjelly.signals import Attended, Current, Gated, Met, Mixed, Reduced, Signal, Spikes


def fire(reader: Any, x: Signal, neuron: FloatNeuron, multi: bool, value: torch.Tensor) -> Signal:
    """Neurons on a signal; axis 0 is time for multi-step ones."""
    x = mean_current(x) or x
    node = x.node
    if isinstance(node, Mixed):
        return _mixed(reader, x, node, neuron, multi, value)
    if isinstance(node, Reduced) and not node.window:
        return _gate(x, neuron, value)
    if isinstance(node, Spikes | Reduced):
        x = as_current(x)
        node = x.node
    if not isinstance(node, Current | Attended):
        raise Refused(f"neurons on {kind_of(node)}", "put a linear layer before them")
    constant = isinstance(node, Current) and node.constant
    try:
        index = _in_time(reader, x, constant, multi)
    except Refused as e:  # listed; reading goes on as if time stood apart
        reader.refuse(e.what, e.hint)
        index = x.index
    name = reader.where
    if isinstance(node, Attended):
        reader.add(Attention(name, (node.positions, node.channels), node.grid, node.q, node.k, node.v, node.heads, node.scale, neuron))
        spikes = Spikes(node.positions, node.channels, node.grid, (name,))
    else:
        spikes, index = _used_channels(reader, name, node, index, neuron)
    reader.keep(name, reader.plan.layers[name], value, index)
    return Signal(value, spikes, index)


def _mixed(reader: Any, x: Signal, node: Mixed, neuron: FloatNeuron, multi: bool, value: torch.Tensor) -> Signal:
    """Neurons on mixed tokens."""
    name = reader.where
    reader.add(layer_of(name, node, neuron))
    index = _in_time(reader, x, False, multi)
    reader.keep(name, reader.plan.layers[name], value, index)
    return Signal(value, Spikes(node.positions, node.channels, node.grid, (name,)), index)


def _used_channels(reader: Any, name: str, node: Current, index: torch.Tensor, neuron: FloatNeuron) -> tuple[Spikes, torch.Tensor]:
    """The layer with the channels that the neurons see (part of them after a chunk or split)."""
    inputs, seen = node.inputs, torch.unique(index % node.channels)
    if len(seen) < node.channels:
        inputs = tuple(s.rows(seen.numpy()) for s in inputs)
    reader.add(Neurons(name, (node.positions, len(seen)), node.grid, inputs, neuron))
    return Spikes(node.positions, len(seen), node.grid, (name,)), _renumbered(index, node.channels, seen)


def _renumbered(index: torch.Tensor, channels: int, seen: torch.Tensor) -> torch.Tensor:
    """The index in a map that has the channels `seen` alone."""
    place = torch.zeros(channels, dtype=torch.int64)
    place[seen] = torch.arange(len(seen))
    return index // channels * len(seen) + place[index % channels]


def part_of(reader: Any, x: Signal) -> Signal:
    """Where moves left only some channels of a layer's spikes (q of a chunk), those neurons as a layer of their own.

    Anything else (all channels, part of the tokens or timesteps) stays as it is.
    """
    node = x.node
    layer = reader.plan.layers.get(node.sources[0]) if isinstance(node, Spikes) and len(node.sources) == 1 else None
    if not isinstance(layer, Neurons) or not x.index.numel():
        return x
    seen = torch.unique(x.index % node.channels)
    maps = torch.unique(x.index // node.channels)
    each = len(maps) == reader.plan.timesteps * reader.batch * node.positions  # every timestep, sample and position ...
    whole = each and len(torch.unique(x.index)) == x.index.numel() == len(maps) * len(seen)  # ... with every one of these channels, once
    if len(seen) == node.channels or not whole:
        return x
    parts = reader.parts.setdefault(layer.name, {})
    chosen = tuple(seen.tolist())
    index = _renumbered(x.index, node.channels, seen)
    if chosen not in parts:
        parts[chosen] = f"{layer.name}.part{len(parts) + 1}"
        inputs = tuple(s.rows(seen.numpy()) for s in layer.inputs)
        reader.add(Neurons(parts[chosen], (node.positions, len(seen)), node.grid, inputs, layer.neuron))
        after = [layer.name, *(parts[c] for c in sorted(parts))]  # beside the whole layer, by channels, in whatever order they are read
        names = [n for n in reader.plan.layers if n not in after[1:]]
        at = names.index(layer.name)
        reader.plan.layers = {n: reader.plan.layers[n] for n in [*names[:at], *after, *names[at + 1 :]]}
        reader.keep(parts[chosen], reader.plan.layers[parts[chosen]], x.value, index)
    return Signal(x.value, Spikes(node.positions, len(seen), node.grid, (parts[chosen],)), index)


def _in_time(reader: Any, x: Signal, constant: bool, multi: bool) -> torch.Tensor:
    """The index of the spikes, after a check that axis 0 is time (multi-step) and nothing else."""
    index, span = x.index, reader.batch * x.node.size
    if not multi:
        if reader.plan.timesteps > 1:
            raise Refused("is in step mode 's' among layers of step mode 'm'", "set one step mode: functional.set_step_mode(net, 'm')")
        reader.plan.timesteps = 1
        return index
    steps = index.shape[0]
    if steps == reader.plan.timesteps * reader.batch and reader.batch > 1:
        what = f"axis 0 holds time and batch merged ({steps} steps, layers before it have {reader.plan.timesteps})"
        raise Refused(f"{what}: a sample's membranes leak into the next sample's", "reshape(T, B, ...) before the neurons")
    if reader.plan.timesteps not in (0, steps):
        what = f"runs over {steps} steps, layers before it over {reader.plan.timesteps}"
        raise Refused(what, "axis 0 must be time, apart from the batch")
    seen = len(torch.unique(index % x.node.channels)) if x.node.channels else 0
    if not len(torch.unique(index[0])) == index[0].numel() == reader.batch * x.node.positions * seen:
        what = "axis 0 does not hold the timesteps (each step must hold every sample's map once)"
        raise Refused(what, "keep time and batch apart where neurons run: reshape(T, B, ...) before them")
    reader.plan.timesteps = steps
    each = torch.arange(steps).reshape(-1, *[1] * (index.dim() - 1))
    if constant:
        if not torch.equal(index, index[:1].expand_as(index)):
            raise Refused("a current that should be constant differs from step to step", "repeat the image along axis 0")
        return index + each * span
    if not bool((index // span == each).all()):
        raise Refused("axis 0 mixes samples into time: a sample's state would leak into another's", "reshape(T, B, ...) before the neurons")
    if not torch.equal(index - each * span, index[:1].expand_as(index)):
        raise Refused("its elements lie differently from step to step", "keep one order: neurons hold their state by place")
    return index


def _gate(x: Signal, neuron: FloatNeuron, value: torch.Tensor) -> Signal:
    """Neurons on counts of spikes: an OR, if one count is enough."""
    node = x.node
    assert isinstance(node, Reduced)
    if not isinstance(node.base, Spikes | Met):
        raise Refused(f"neurons on sums of {kind_of(node.base)}", "sum spikes")
    counts = neuron.drive / node.scale
    if counts > 1:
        raise Refused(f"neurons that need a count of {counts:g} spikes", "use a threshold that one spike reaches (0.5 with tau 2): an OR")
    base, table = node.base, node.table[x.index.reshape(-1)]
    channel, rest = table % base.channels, table // base.channels
    if bool((channel == channel[:, :1]).all()) and table.shape[1] == base.positions:
        return Signal(value, Gated(base.positions, base.channels, base.grid, node, "channel", base.channels), x.index)
    width = table.shape[1]
    if bool((rest == rest[:, :1]).all()) and base.channels % width == 0 and torch.equal(channel, channel[:, :1] + torch.arange(width)):
        return Signal(value, Gated(base.positions, base.channels, base.grid, node, "token", width), x.index)
    raise Refused("neurons on sums over neither all tokens nor a head's channels", "sum over the token axis or the channel axis")
