"""Neurons: where a signal becomes a layer of the plan, after a check that time is time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.elementwise import per_channel
from spikegate.convert.spikingjelly.gating import met
from spikegate.convert.spikingjelly.mixing import layer_of
from spikegate.convert.spikingjelly.plan import Attention, FloatNeuron, Neurons, Refused, Synapses
from spikegate.convert.spikingjelly.reading import as_current, kind_of
from spikegate.convert.spikingjelly.signals import (
    Attended,
    Beside,
    Complement,
    Current,
    Gated,
    Image,
    Met,
    Mixed,
    Reduced,
    Signal,
    Spikes,
    alike,
)
from spikegate.convert.spikingjelly.summing import mean_current


def fire(reader: Any, x: Signal, neuron: FloatNeuron, apart: torch.Tensor | None, multi: bool) -> Signal:
    """Neurons on a signal; axis 0 is time for multi-step ones. `apart` are thresholds of one timestep's elements that differ."""
    x = mean_current(x) or met(reader, x)
    node = x.node
    if isinstance(node, Reduced) and not node.window:
        if apart is not None:
            raise Refused("thresholds that differ on counts of spikes", "use one threshold")
        return _gate(x, neuron)
    if isinstance(node, Spikes | Reduced | Image | Complement | Beside):
        x = as_current(x)
        node = x.node
    if not isinstance(node, Current | Attended | Mixed):
        raise Refused(f"neurons on {kind_of(node)}", "put a linear layer before them")
    name, call = reader.where, reader.calls[reader.where]
    if call > 1:
        if multi:
            raise Refused("is used twice in a forward pass", "give each place its own module; neurons keep a state")
        return _again(reader, name, x, call - 1)
    constant = isinstance(node, Current) and node.constant
    try:
        index = _in_time(reader, x, constant, multi)
    except Refused as e:  # listed; reading goes on as if time stood apart
        reader.refuse(e.what, e.hint)
        index = x.index
    if apart is not None:
        node = _with_thresholds(x, apart, multi)
    if isinstance(node, Attended):
        name = reader.add(
            Attention(name, (node.positions, node.channels), node.grid, node.q, node.k, node.v, node.heads, node.scale, neuron)
        )
        spikes = Spikes(node.positions, node.channels, node.grid, (name,))
    elif isinstance(node, Mixed):
        name = reader.add(layer_of(name, node, neuron))
        spikes = Spikes(node.positions, node.channels, node.grid, (name,))
    else:
        spikes, index = _used_channels(reader, name, node, index, neuron)
    out = Signal(spikes, index)
    reader.fired[reader.where] = x, out
    return out


def _again(reader: Any, name: str, x: Signal, step: int) -> Signal:
    """Neurons of step mode 's' that a loop calls once in each timestep: the same layer, `step` timesteps later."""
    if name not in reader.fired:
        raise Refused("could not be read in the first timestep", "see there")
    before, out = reader.fired[name]
    constant = isinstance(before.node, Current) and before.node.constant
    later = before.index if constant else before.index + step * reader.batch * before.node.size
    if not alike(x.node, before.node):
        what = "is called at several places, or with other layers before it in some timesteps"
        raise Refused(what, "give each place its own neurons: they keep a state")
    if x.index.shape != later.shape or not torch.equal(x.index, later):
        what = "its input in a timestep is not that timestep's signal (feedback of earlier spikes, or steps out of order)"
        raise Refused(what, "loop over the timesteps in order and call each layer once in each; recurrent connections are not imported")
    return Signal(out.node, out.index + step * reader.batch * out.node.size)


def _with_thresholds(x: Signal, apart: torch.Tensor, multi: bool) -> Current:
    """The current in units of its neurons' thresholds."""
    if not isinstance(x.node, Current):
        raise Refused("thresholds that differ between channels, on an attention's product", "use one threshold")
    table = per_channel(Signal(x.node, x.index[0] if multi else x.index), apart, "divides")
    if (table != table[0]).any():
        raise Refused("thresholds that differ between positions", "use one threshold, or one for each channel")
    node = x.node
    return Current(node.positions, node.channels, node.grid, tuple(s.scaled(1 / table[0]) for s in node.inputs))


def _used_channels(reader: Any, name: str, node: Current, index: torch.Tensor, neuron: FloatNeuron) -> tuple[Spikes, torch.Tensor]:
    """The layer with the channels that the neurons see (part of them after a chunk or split)."""
    inputs, seen = once(node.inputs), torch.unique(index % node.channels)
    if len(seen) < node.channels:
        inputs = tuple(s.rows(seen.numpy()) for s in inputs)
    name = reader.add(Neurons(name, (node.positions, len(seen)), node.grid, inputs, neuron))
    return Spikes(node.positions, len(seen), node.grid, (name,)), _renumbered(index, node.channels, seen)


def once(inputs: tuple[Synapses, ...]) -> tuple[Synapses, ...]:
    """The same map added several times (shared weights, ``x + x``) as one."""
    kept: list[Synapses] = []
    for s in inputs:
        same = next((i for i, k in enumerate(kept) if _parallel(k, s)), None)
        if same is None:
            kept.append(s)
        elif not s.from_image:
            k = kept[same]
            kept[same] = dataclasses.replace(k, weight=k.weight + s.weight, bias=k.bias + s.bias)
        else:
            kept[same] = (
                kept[same].scaled(2.0)
                if s is kept[same]
                else dataclasses.replace(kept[same], weight=kept[same].weight + s.weight, bias=_sum_maps(kept[same].bias, s.bias))
            )
    return tuple(kept)


def _sum_maps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide = max(a.ndim, b.ndim)
    return a.reshape(*a.shape, *[1] * (wide - a.ndim)) + b.reshape(*b.shape, *[1] * (wide - b.ndim))


def _parallel(a: Synapses, b: Synapses) -> bool:
    """Whether two maps of the same sources may be added up weight by weight: one is the other, called again."""
    return a is b or (a.name == b.name != "" and a.sources == b.sources and alike(a, b))


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
    if not isinstance(layer, Neurons) or not x.index.numel() or layer.name in reader.part_names:
        return x
    seen = torch.unique(x.index % node.channels)
    maps = torch.unique(x.index // node.channels)
    steps = torch.unique(maps // (reader.batch * node.positions))
    each = len(maps) == len(steps) * reader.batch * node.positions  # every sample and position of these timesteps ...
    whole = each and len(torch.unique(x.index)) == x.index.numel() == len(maps) * len(seen)  # ... with every one of these channels, once
    if len(seen) == node.channels or not whole or len(steps) not in (1, reader.timesteps):
        return x
    parts = reader.parts.setdefault(layer.name, {})
    chosen = tuple(seen.tolist())
    index = _renumbered(x.index, node.channels, seen)
    if chosen not in parts:
        name = f"{layer.name}.part{len(parts) + 1}"
        inputs = tuple(s.rows(seen.numpy()) for s in layer.inputs)
        parts[chosen] = reader.add(Neurons(name, (node.positions, len(seen)), node.grid, inputs, layer.neuron))
        reader.part_names[parts[chosen]] = layer.name, seen
        after = [layer.name, *(parts[c] for c in sorted(parts))]  # beside the whole layer, by channels, in whatever order they are read
        names = [n for n in reader.plan.layers if n not in after[1:]]
        at = names.index(layer.name)
        reader.plan.layers = {n: reader.plan.layers[n] for n in [*names[:at], *after, *names[at + 1 :]]}
    return Signal(Spikes(node.positions, len(seen), node.grid, (parts[chosen],)), index)


def _in_time(reader: Any, x: Signal, constant: bool, multi: bool) -> torch.Tensor:
    """The index of the spikes, after a check that axis 0 is time (multi-step) and nothing else."""
    index, span = x.index, reader.batch * x.node.size
    if not multi:
        if reader.expected[reader.where] != reader.timesteps:
            what = (
                f"is in step mode 's' and called {reader.expected[reader.where]} times, layers before it run {reader.timesteps} timesteps"
            )
            raise Refused(what, "set one step mode: functional.set_step_mode(net, 'm')")
        if not constant and not bool((index // span == 0).all()):
            raise Refused("reads a later timestep in the first one", "loop over the timesteps in order")
        if len(torch.unique(index)) != index.numel():
            raise Refused("holds a sample's map more than once", "call it once in each timestep, on [B, ...]")
        return index
    steps = index.shape[0]
    if steps == reader.timesteps * reader.batch and reader.batch > 1:
        what = f"axis 0 holds time and batch merged ({steps} steps, layers before it have {reader.timesteps})"
        raise Refused(f"{what}: a sample's membranes leak into the next sample's", "reshape(T, B, ...) before the neurons")
    if steps != reader.timesteps:
        what = f"runs over {steps} steps, layers before it over {reader.timesteps}"
        raise Refused(what, "axis 0 must be time, apart from the batch")
    seen = len(torch.unique(index % x.node.channels)) if x.node.channels else 0
    if not len(torch.unique(index[0])) == index[0].numel() == reader.batch * x.node.positions * seen:
        what = "axis 0 does not hold the timesteps (each step must hold every sample's map once)"
        raise Refused(what, "keep time and batch apart where neurons run: reshape(T, B, ...) before them")
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


def _gate(x: Signal, neuron: FloatNeuron) -> Signal:
    """Neurons on counts of spikes: an OR, if one count is enough."""
    node = x.node
    assert isinstance(node, Reduced)
    if not isinstance(node.base, Spikes | Met):
        raise Refused(f"neurons on sums of {kind_of(node.base)}", "sum spikes")
    if isinstance(node.base, Spikes) and len(node.base.sources) != 1:
        raise Refused("neurons on sums of several layers' spikes", "put neurons on the sum first")
    if neuron.soft:
        what = "neurons with soft reset on counts of spikes: what is above the threshold stays"
        raise Refused(what, "use a hard reset (v_reset=0.) there")
    counts = neuron.drive / node.scale
    if counts > 1:
        raise Refused(f"neurons that need a count of {counts:g} spikes", "use a threshold that one spike reaches (0.5 with tau 2): an OR")
    base, table = node.base, node.table[x.index.reshape(-1)]
    channel, rest = table % base.channels, table // base.channels
    if bool((channel == channel[:, :1]).all()) and table.shape[1] == base.positions:
        if bool((rest // base.positions == (rest // base.positions)[:, :1]).all()):
            return Signal(Gated(base.positions, base.channels, base.grid, node, "channel", base.channels), x.index)
    width = table.shape[1]
    if bool((rest == rest[:, :1]).all()) and base.channels % width == 0 and torch.equal(channel, channel[:, :1] + torch.arange(width)):
        return Signal(Gated(base.positions, base.channels, base.grid, node, "token", width), x.index)
    raise Refused("neurons on sums over neither all tokens nor a head's channels", "sum over the token axis or the channel axis")
