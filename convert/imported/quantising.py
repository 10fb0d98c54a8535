"""From the float plan to integers: one scale for each layer, 8-bit weights, 12-bit decays, thresholds on the chip's side of ">=".

A layer of leaky neurons with reset to 0 may be scaled by any positive number (weights, bias and threshold together) without
changing a spike. The scale is chosen such that the weights use their 8 bits well and the float threshold falls where
the chip's strict comparison means the same: one state unit (2^-6 of a mantissa) above the mantissa vth for neurons that leak,
where states are multiples of that unit; right after it for neurons without leak, whose states are whole mantissas
(``vth = theta - 1``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from convert.host import host_bound
from convert.imported.laying import side_by_side
from convert.imported.plan import Attention, Gate, Grid, Head, Layer, Neurons, Plan, Pool, Synapses
from convert.ir import INPUT, DeployError, Graph, Op, Payload
from convert.neuron import DECAY_ONE, MANT_SHIFT, VTH_MANT_MAX, Cuba
from convert.ops.conv import Conv
from convert.ops.current import Current
from convert.ops.exit_gate import NEVER, ExitGate
from convert.ops.inject import Inject
from convert.ops.lif import Lif
from convert.ops.max_pool import MaxPool
from convert.ops.membrane import Membrane
from convert.ops.qk_channel_gate import QkChannelGate
from convert.ops.qk_token_gate import QkTokenGate
from convert.ops.readout import REACH, Readout
from convert.ops.sdsa import Sdsa
from convert.ops.spiking_attention import SpikingAttention
from convert.synapse import FLOAT_EXACT, WEIGHT_MAX, WEIGHT_MIN, Padding

BIAS_MAX = 4095
ROOM = 0.99  # share of a register that a layer may use
CLIPPED = np.geomspace(1, 4, 17)  # how far beyond the largest weight's scale the search goes
REPLAY = "host.replay"


@dataclass
class HostLayer:
    """The first convolution in integers: ``floor((W x + b) 2^-shift)`` of uint8 pixels; b is [out] or [out, height, width]."""

    weight: np.ndarray
    bias: np.ndarray
    shift: int
    low: int
    high: int
    stride: int
    padding: int
    out_grid: Grid

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.out_grid[0] * self.out_grid[1] * self.weight.size

    def encode(self, images: np.ndarray) -> np.ndarray:
        """What the host sends for images uint8 [N, C, H, W], int32 [N, positions, channels]; the ONNX file computes the same."""
        from convert.synapse import conv_current

        grid = images.shape[2], images.shape[3]
        maps = images.reshape(len(images), images.shape[1], -1).transpose(0, 2, 1)
        sums = conv_current(maps, self.weight, grid, self.stride, self.padding, 1)
        bias = self.bias.reshape(len(self.weight), -1).T
        return np.clip(np.floor((sums + bias) * 2.0**-self.shift), self.low, self.high).astype(np.int32)


@dataclass
class Quantised:
    """A plan in integers. `latent` holds each synaptic op's weights and bias in the same units before rounding."""

    graph: Graph
    host: HostLayer
    latent: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)


def rounded(weight: np.ndarray) -> np.ndarray:
    """Even 8-bit weights."""
    return np.clip(2 * np.round(weight / 2), WEIGHT_MIN, WEIGHT_MAX).astype(np.int64)


def best_scale(weights: list[np.ndarray], limit: float) -> float:
    """The scale up to `limit` with the least mean squared error of the rounded weights, outliers clipped where that pays."""
    flat = np.concatenate([w.ravel() for w in weights])
    largest = float(np.abs(flat).max())
    if largest == 0:
        return limit
    scales = sorted({min(limit, f * WEIGHT_MAX / largest) for f in CLIPPED})
    return min(scales, key=lambda s: float(np.square(rounded(s * flat) / s - flat).mean()))


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
    fed = [n for n in plan.layers.values() if isinstance(n, Neurons) and any(s.from_image for s in n.inputs)]
    if len(fed) != 1 or len(fed[0].inputs) != 1:
        names = ", ".join(n.name for n in fed) or "none"
        raise DeployError(names, "the host computes one convolution of the image, which must feed one layer of neurons alone",
                          "start with Conv, BatchNorm and neurons; every other layer reads spikes")
    assert plan.head is not None
    first = fed[0]
    host, neuron, scale = _host(plan, first, levels, gain, shift)
    shape = first.shape
    graph = Graph(timesteps=plan.timesteps, input_shape=shape, input_payload=Payload(host.low, host.high))
    out = Quantised(graph, host, scales={first.name: scale})
    graph.add(REPLAY, Inject(shape, host.low, host.high), x=INPUT)
    graph.add(first.name, Lif(shape, neuron), x=REPLAY)
    for layer in plan.layers.values():
        if layer is not first:
            _add(out, plan, layer)
    _head(out, plan.head, plan.timesteps)
    graph.check()
    return out


def _neuron(layer: Neurons, scale: float, whole: bool = False) -> Cuba:
    """Integer neurons for a threshold of ``scale * drive`` mantissas; `whole`: their states are whole mantissas though they leak."""
    decay = round((1 - layer.neuron.keep) * DECAY_ONE)
    theta = scale * layer.neuron.drive
    vth = math.ceil(theta - 1e-6) - 1 if whole or decay in (0, DECAY_ONE) else math.floor(theta + 1e-6)
    return Cuba(DECAY_ONE, decay, max(1, vth))


def _exact_scale(layer: Neurons, timesteps: int, limit: float) -> float | None:
    """A scale at which every weight and bias is whole and stays so through the leak's halvings, if there is one.

    Then ties with the threshold are real (counts of spikes, ternary weights), and they fall as in the float model.
    """
    values = np.concatenate([np.concatenate([s.weight.ravel(), s.bias.ravel()]) for s in layer.inputs])
    used = np.abs(values[values != 0])
    if not len(used) or layer.neuron.keep not in (0.5, 1.0):
        return None
    steps = used / used.min()
    grain = 2 ** (max(1, timesteps - 1) if layer.neuron.keep == 0.5 else 1)
    heaviest = max(float(np.abs(s.weight).max()) for s in layer.inputs) / used.min()
    if np.abs(steps - np.round(steps)).max() > 1e-6 or grain * heaviest > WEIGHT_MAX:
        return None
    scale = grain / used.min()
    if scale > limit:
        return None
    while 2 * scale <= limit and 2 * scale * used.min() * heaviest <= WEIGHT_MAX:
        scale *= 2
    return float(scale) if scale * layer.neuron.drive > 1 + 1e-6 else None


def _on_threshold(layer: Neurons, scale: float) -> float:
    """The scale next below at which the float threshold lies right for the strict comparison."""
    drive = layer.neuron.drive
    leaks = round((1 - layer.neuron.keep) * DECAY_ONE) not in (0, DECAY_ONE)
    mantissas = max(1 if leaks else 2, math.floor(scale * drive + 1e-9))
    return (mantissas + (2.0**-MANT_SHIFT if leaks else 0)) / drive


def _host(plan: Plan, layer: Neurons, levels: int, gain: np.ndarray, shift: np.ndarray) -> tuple[HostLayer, Cuba, float]:
    (s,) = layer.inputs
    if s.groups != 1 or s.padding[0] != s.padding[1]:
        raise DeployError(layer.name, "the first convolution has groups or uneven padding", "use a plain convolution on the image")
    weight = s.weight * gain[:, None, None]
    bias = s.bias
    if shift.any():
        bias = s.bias[:, None, None] + _constant(s, shift) if any(s.padding) else s.bias + (s.weight * shift[:, None, None]).sum((1, 2, 3))
    rows = weight.reshape(len(weight), -1)
    edge = bias.reshape(len(bias), -1)
    above, below = (np.maximum(sign * rows, 0).sum(1) * levels + (sign * edge).max(1) for sign in (1, -1))
    reach = max(float(above.max()), float(below.max()))
    room = ROOM * (1 << 23 - MANT_SHIFT) / Cuba(DECAY_ONE, round((1 - layer.neuron.keep) * DECAY_ONE), 1).gain(plan.timesteps)
    scale = _on_threshold(layer, min(VTH_MANT_MAX / layer.neuron.drive, room / reach))
    bits = 12
    while True:
        unit = scale * 2.0**bits
        w, b = np.round(weight * unit).astype(np.int64), np.round(bias * unit + 2.0 ** (bits - 1)).astype(np.int64)
        if host_bound(w, b, levels) < FLOAT_EXACT or bits == 0:
            break
        bits -= 1
    most = int(scale * reach) + 1
    host = HostLayer(w, b, bits, -most - 1, most, s.stride, s.padding[0], s.out_grid)
    return host, _neuron(layer, scale), scale


def _constant(s: Synapses, value: np.ndarray) -> np.ndarray:
    """Sums [out, height, width] that an image of one constant colour causes, borders padded with zeros."""
    from convert.synapse import windows

    plain = np.broadcast_to(value, (1, s.grid[0] * s.grid[1], len(value)))
    patches = windows(plain, s.grid, s.weight.shape[2:], s.stride, s.padding)[0]  # type: ignore[arg-type]
    return (patches @ s.weight.transpose(0, 2, 3, 1).reshape(len(s.weight), -1).T).T.reshape(-1, *s.out_grid)


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
    else:
        assert isinstance(layer, Neurons)
        _neurons(out, plan.timesteps, layer)


def _neurons(out: Quantised, timesteps: int, layer: Neurons) -> None:
    graph = out.graph
    drive, total = layer.neuron.drive, sum(s.bias for s in layer.inputs)
    limit = min(VTH_MANT_MAX / drive, BIAS_MAX / max(float(np.abs(total).max()), 1e-12))
    exact = _exact_scale(layer, timesteps, limit)
    scale = exact or _on_threshold(layer, best_scale([s.weight for s in layer.inputs], limit))
    gain = _neuron(layer, scale).gain(timesteps)
    while True:
        bound = sum(
            np.abs(rounded(s.weight * scale)).reshape(len(s.weight), -1).sum(1) * len(s.sources) + np.abs(s.bias * scale)
            for s in layer.inputs
        )
        room = ROOM * (1 << 23 - MANT_SHIFT) / gain
        if bound.max() < room:
            break
        if scale * drive < 4:
            what = f"its worst-case input needs {bound.max() / room:.1f} times the 24-bit register"
            raise DeployError(layer.name, what, "use a smaller fan-in")
        exact, scale = None, _on_threshold(layer, scale * min(0.95, room / bound.max()))
    out.scales[layer.name] = scale
    neuron = _neuron(layer, scale, whole=exact is not None)
    if len(layer.inputs) == 1:
        (s,) = layer.inputs
        weight, bias = _rounded(out, layer.name, s, scale)
        op = Conv(weight=weight, bias=bias, grid=s.grid, stride=s.stride, padding=_padding(s.padding), groups=s.groups, neuron=neuron)
        graph.add(layer.name, op, x=list(s.sources))
        return
    names = []
    for i, s in enumerate(layer.inputs):
        name = f"{layer.name}.branch{i + 1}"
        if s.padding[0] != s.padding[1]:
            raise DeployError(layer.name, "a branch with uneven padding", "use the same padding in both directions")
        weight, bias = _rounded(out, name, s, scale)
        names.append(graph.add(name, Current(weight, bias, s.grid, s.stride, s.padding[0], s.groups), x=list(s.sources)))
    graph.add(layer.name, Membrane(layer.shape, neuron), current=names)


def _rounded(out: Quantised, name: str, s: Synapses, scale: float) -> tuple[np.ndarray, np.ndarray]:
    out.latent[name] = s.weight * scale, s.bias * scale
    return rounded(s.weight * scale).astype(np.int32), np.clip(np.round(s.bias * scale), -BIAS_MAX, BIAS_MAX).astype(np.int32)


def _attention(layer: Attention, timesteps: int) -> SpikingAttention:
    """A count of coincidences against ``drive / scale``: exact while the leak's halves stay whole (exponent T - 1), or without leak."""
    tokens, channels = layer.shape
    counts = layer.neuron.drive / layer.scale
    peak = tokens * channels // layer.heads
    decay = round((1 - layer.neuron.keep) * DECAY_ONE)
    exponent = 0 if decay in (0, DECAY_ONE) else timesteps - 1

    def made(e: int) -> Cuba:
        return Cuba(DECAY_ONE, decay, max(1, math.ceil(counts * 2**e - 1e-6) - 1))

    while exponent > 0 and (made(exponent).overflows(peak << exponent, timesteps) or made(exponent).vth > VTH_MANT_MAX):
        exponent -= 1
    if counts * 2**exponent < 1 + 1e-6 and exponent == 0:
        exponent = 1  # a threshold below one count still needs a mantissa of at least 1
    order = "kv" if tokens > channels // layer.heads else "qk"
    return SpikingAttention(tokens, channels, layer.heads, exponent, made(exponent), order)


def _head(out: Quantised, head: Head, timesteps: int) -> None:
    weight, sources = side_by_side(out.graph, head)
    classes, high = len(head.bias), max(len(p.sources) for p in head.parts)
    reach = (np.abs(weight).reshape(classes, -1).sum(1) * high + np.abs(head.bias)).max() * timesteps
    limit = min(ROOM * REACH / reach, BIAS_MAX / max(float(np.abs(head.bias).max()), 1e-12))
    scale = best_scale([weight], limit)
    while np.abs(rounded(weight * scale)).reshape(classes, -1).sum(1).max() * len(sources) * timesteps > ROOM * REACH:
        scale *= 0.9
    out.scales["readout"] = scale
    out.latent["readout"] = weight * scale, head.bias * scale
    bias = np.clip(np.round(head.bias * scale), -BIAS_MAX, BIAS_MAX).astype(np.int32)
    out.graph.add("readout", Readout(rounded(weight * scale).astype(np.int32), bias, timesteps), x=sources)
    out.graph.add("exit", ExitGate(classes, timesteps, np.full(timesteps, NEVER)), logits="readout")
