"""From the float plan to integers: one scale for each layer, 8-bit weights, 12-bit decays, thresholds on the chip's side of ">=".

A layer of leaky neurons with reset to 0 may be scaled by any positive number (weights, bias and threshold together) without
changing a spike. The scale is chosen such that the weights use their 8 bits well and the float threshold falls where
the chip's strict comparison means the same: one state unit (2^-6 of a mantissa) above the mantissa vth for neurons that leak,
where states are multiples of that unit; right after it for neurons without leak, whose states are whole mantissas
(``vth = theta - 1``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from spikegate.convert.spikingjelly.counting import with_highs
from spikegate.convert.spikingjelly.heading import HEAD, HeadScale, add_head
from spikegate.convert.spikingjelly.hosting import HostLayer, RawPixels, add_replays, host_map, side_by_side
from spikegate.convert.spikingjelly.plan import Attention, Gate, Layer, Mixing, Neurons, Plan, Pool, Synapses
from spikegate.convert.spikingjelly.recordings import EventLayer
from spikegate.convert.spikingjelly.scaling import (
    BIAS_MAX,
    beside,
    best_scale,
    cuba,
    exact_scale,
    integers,
    on_threshold,
    room,
    rounded,
    whole_bias,
)
from spikegate.convert.spikingjelly.streams import FedOps, add_branch, choose_scales, fed_groups
from spikegate.graph.ir import DeployError, Graph, Op, Payload
from spikegate.neurons.cuba import DECAY_ONE, VTH_MANT_MAX, Cuba
from spikegate.neurons.resets import SUBTRACT
from spikegate.ops.conv import Conv
from spikegate.ops.max_pool import MaxPool
from spikegate.ops.membrane import Membrane
from spikegate.ops.qk_channel_gate import QkChannelGate
from spikegate.ops.qk_token_gate import QkTokenGate
from spikegate.ops.sdsa import Sdsa
from spikegate.ops.spiking_attention import SpikingAttention
from spikegate.ops.token_mix import TokenMix
from spikegate.synapses.synapse import Padding


@dataclass
class Quantised:
    """A plan in integers. `latent` holds each synaptic op's weights and bias in the same units before rounding."""

    graph: Graph
    host: HostLayer | EventLayer
    latent: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    embedding: list[str] = field(default_factory=list)  # the host's wiring and the neurons that read the image alone


def quantise(plan: Plan, levels: int, gain: np.ndarray, shift: np.ndarray) -> Quantised:
    """The plan as a checked graph.

    Parameters
    ----------
    levels : largest pixel value
    gain, shift : [channels]; the model was trained on ``gain * pixel + shift``

    Raises
    ------
    DeployError
        Where no scale fits the registers, or the graph breaks a design rule.
    """
    assert plan.head is not None
    with_highs(plan)
    if plan.events:
        return _of_events(plan)
    pixels = RawPixels(levels, gain, shift)
    groups = fed_groups(plan)
    if not groups:
        raise DeployError("image", "reaches no neurons", "start with a convolution of the image and neurons")
    host_range = choose_scales(groups, pixels, plan.timesteps)
    maps, names = [], dict[int, str]()
    for group in groups:
        for s in group.maps:
            label = s.name or group.name
            names[id(s)] = label if label not in names.values() else f"{label}.{len(names)}"
            maps.append(host_map(names[id(s)], s, group.scale, pixels))
    head = HeadScale.of(plan.head, plan.timesteps, pixels, host_range)
    if plan.head.image is not None:
        maps.append(host_map(HEAD, plan.head.image, head.scale, pixels, head.parts))
    host = side_by_side(maps)
    graph = Graph(timesteps=plan.timesteps, input_shape=host.shape, input_payload=Payload(host.low, host.high))
    out = Quantised(graph, host, scales={r.name: g.scale for g in groups for r in g.readers})
    replays = add_replays(graph, host)
    out.embedding = list(graph.ops)
    fed = FedOps(groups, {key: replays[label] for key, label in names.items()}, out.latent)
    first = [r for g in groups if g.first for r in g.readers]
    for layer in [*first, *(v for v in plan.layers.values() if v not in first)]:
        if isinstance(layer, Neurons) and layer.name in fed.of:
            fed.add(graph, layer)
        else:
            _add(out, plan, layer)
    out.embedding += [r.name for r in first]
    add_head(graph, plan.head, head, plan.timesteps, out.latent, replays.get(HEAD))
    out.scales["readout"] = head.scale
    graph.check()
    return out


def _of_events(plan: Plan) -> Quantised:
    """A net whose input are spikes: no host."""
    assert plan.head is not None
    channels, h, w = plan.image_shape
    graph = Graph(timesteps=plan.timesteps, input_shape=(h * w, channels), input_payload=Payload(0, 1))
    out = Quantised(graph, EventLayer(graph, (plan.timesteps, *plan.image_shape)))
    for layer in plan.layers.values():
        _add(out, plan, layer)
    nothing = RawPixels(1, np.ones(channels), np.zeros(channels))
    head = HeadScale.of(plan.head, plan.timesteps, nothing, 0)
    add_head(graph, plan.head, head, plan.timesteps, out.latent, None)
    out.scales["readout"] = head.scale
    graph.check()
    return out


def _padding(padding: tuple[int, int]) -> Padding:
    return padding[0] if padding[0] == padding[1] else padding


def _add(out: Quantised, plan: Plan, layer: Layer) -> None:
    """Append one layer's ops."""
    graph = out.graph
    tokens, channels = layer.shape
    if isinstance(layer, Pool):
        op: Op = MaxPool(layer.source_grid, channels, layer.kernel, layer.stride, layer.padding)
        graph.add(layer.name, op, x=layer.source)
    elif isinstance(layer, Attention):
        graph.add(layer.name, _attention(layer, plan.timesteps), q=layer.q, k=layer.k, v=layer.v)
    elif isinstance(layer, Gate):
        makes = {"sdsa": Sdsa, "qk_channel_gate": QkChannelGate}
        op = QkTokenGate(tokens, channels, layer.heads) if layer.kind == "qk_token_gate" else makes[layer.kind](tokens, channels)
        graph.add(layer.name, op, **layer.slots)
    elif isinstance(layer, Mixing):
        _mixing(out, plan.timesteps, layer)
    else:
        assert isinstance(layer, Neurons)
        _neurons(out, plan.timesteps, layer)


def _neurons(out: Quantised, timesteps: int, layer: Neurons) -> None:
    graph = out.graph
    weights, biases = [s.weight for s in layer.inputs], [s.bias for s in layer.inputs]

    def bound(scale: float) -> float:
        sums = (np.abs(integers(s, scale)).reshape(len(s.weight), -1).sum(1) * s.high + np.abs(s.bias * scale)
                for s in layer.inputs)
        return float(sum(sums).max())  # type: ignore[union-attr]

    scale, neuron = _fitting(layer, weights, biases, timesteps, bound)
    out.scales[layer.name] = scale
    if len(layer.inputs) == 1:
        (s,) = layer.inputs
        weight, bias = _rounded(out, layer.name, s, scale)
        op = Conv(weight=weight, bias=bias, grid=s.grid, stride=s.stride, padding=_padding(s.padding), groups=s.groups, neuron=neuron)
        graph.add(layer.name, op, x=list(s.sources))
        return
    names = []
    for i, s in enumerate(layer.inputs):
        names += add_branch(graph, f"{layer.name}.branch{i + 1}", s, scale, out.latent)
    graph.add(layer.name, Membrane(layer.shape, neuron), current=names)


def _fitting(
    layer: Neurons | Mixing, weights: list[np.ndarray], biases: list[np.ndarray], timesteps: int, bound: Callable[[float], float]
) -> tuple[float, Cuba]:
    """(scale, neurons) of a layer by itself; `bound` gives the largest input in mantissas at a scale."""
    neuron = layer.neuron
    limit = min(VTH_MANT_MAX / neuron.drive, BIAS_MAX / max(float(np.abs(sum(biases)).max()), 1e-12))
    most = room(neuron, timesteps)
    exact = exact_scale(weights, biases, neuron, timesteps, lambda scale: scale <= limit and bound(scale) < most)
    scale = exact or on_threshold(neuron, best_scale(weights, limit))
    while bound(scale) >= most:
        if scale * neuron.drive < 4:
            what = f"its worst-case input needs {bound(scale) / most:.1f} times the 24-bit register"
            raise DeployError(layer.name, what, "use a smaller fan-in")
        scale = on_threshold(neuron, scale * min(0.95, most / bound(scale)))
    return scale, cuba(neuron, scale, whole=exact is not None)


def _mixing(out: Quantised, timesteps: int, layer: Mixing) -> None:
    def bound(scale: float) -> float:
        return float(np.abs(rounded(layer.weight * scale)).sum(2).max() * (sum(layer.highs) or len(layer.sources)))

    scale, neuron = _fitting(layer, [layer.weight], [np.zeros(1)], timesteps, bound)
    out.scales[layer.name] = scale
    out.latent[layer.name] = layer.weight * scale, np.zeros(0)
    op = TokenMix(rounded(layer.weight * scale).astype(np.int32), layer.shape[1], neuron)
    out.graph.add(layer.name, op, x=list(layer.sources))


def _rounded(out: Quantised, name: str, s: Synapses, scale: float) -> tuple[np.ndarray, np.ndarray]:
    weight = integers(s, scale).astype(np.int32)
    out.latent[name] = beside(s.weight * scale, weight), s.bias * scale
    return weight, whole_bias(s.bias * scale)


def _attention(layer: Attention, timesteps: int) -> SpikingAttention:
    """A count of coincidences against ``drive / scale``: exact while the leak's halves stay whole (exponent T - 1), or without leak."""
    tokens, channels = layer.shape
    counts = layer.neuron.drive / layer.scale
    peak = tokens * channels // layer.heads
    decay = round((1 - layer.neuron.keep) * DECAY_ONE)
    exponent = 0 if decay in (0, DECAY_ONE) else timesteps - 1

    def made(e: int) -> Cuba:
        if layer.neuron.step:
            return Cuba(DECAY_ONE, decay, max(1, math.floor(counts * 2**e + 1e-6)), SUBTRACT,
                        max(1, round(layer.neuron.fall / layer.scale * 2**e)), layer.neuron.levels)  # fmt: skip
        vth = max(1, math.ceil(counts * 2**e - 1e-6) - 1)
        return Cuba(DECAY_ONE, decay, vth, SUBTRACT, max(1, round(counts * 2**e))) if layer.neuron.soft else Cuba(DECAY_ONE, decay, vth)

    while exponent > 0 and (made(exponent).overflows(peak << exponent, timesteps) or made(exponent).vth > VTH_MANT_MAX):
        exponent -= 1
    if counts * 2**exponent < 1 + 1e-6 and exponent == 0:
        exponent = 1  # a threshold below one count still needs a mantissa of at least 1
    order = "kv" if tokens > channels // layer.heads else "qk"
    return SpikingAttention(tokens, channels, layer.heads, exponent, made(exponent), order)
