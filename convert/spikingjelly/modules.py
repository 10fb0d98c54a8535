"""How SpikingJelly's and torch's layers are read into the plan."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from spikegate.convert.spikingjelly import mixing, reading
from spikegate.convert.spikingjelly.firing import fire, part_of
from spikegate.convert.spikingjelly.plan import FloatNeuron, Refused
from spikegate.convert.spikingjelly.signals import Current, Signal

CONTAINERS = ("SeqToANNContainer",)
MOVES = (nn.Identity, nn.Flatten, nn.Unflatten)
SOFT = "train with v_reset=0. (hard reset), the chip's reset"


def is_neuron(m: nn.Module) -> bool:
    home, name = type(m).__module__, type(m).__name__.removeprefix("MultiStep")
    return home.startswith("spikingjelly") and name in ("IFNode", "LIFNode", "ParametricLIFNode")


def multi_step(m: nn.Module) -> bool:
    """Whether its axis 0 is time."""
    return getattr(m, "step_mode", "s") == "m" or type(m).__name__.startswith("MultiStep") or type(m).__name__ in CONTAINERS


def supported(m: nn.Module) -> bool:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, *MOVES)
    by_name = type(m).__name__ in (*CONTAINERS, "VotingLayer", "Dropout", "Dropout2d")
    return (isinstance(m, kinds) and not isinstance(m, nn.BatchNorm3d)) or is_neuron(m) or by_name


HINTS = {
    "QIFNode": "train with LIFNode: the chip's neuron is linear",
    "EIFNode": "train with LIFNode: the chip's neuron is linear",
    "IzhikevichNode": "train with LIFNode: the chip's neuron is linear",
    "KLIFNode": "train with ParametricLIFNode",
    "LayerNorm": "it needs statistics of each input; train with BatchNorm, which folds into the weights",
    "GroupNorm": "it needs statistics of each input; train with BatchNorm, which folds into the weights",
    "ReLU": "replace it by neurons",
    "GELU": "replace it by neurons",
    "Softmax": "spiking attention has none; leave it out",
    "SynapseFilter": "leave it out, or use LIFNode",
    "Delay": "leave it out",
    "MultiheadAttention": "use spiking self-attention: q, k, v through neurons, products, neurons",
    "ConvTranspose2d": "use Conv2d",
    "Conv3d": "use Conv2d over timesteps",
}


def hint_for(m: nn.Module) -> str:
    known = "Conv1d, Conv2d, Linear, BatchNorm, MaxPool2d, AvgPool2d, Flatten, Dropout, IF, LIF and PLIF nodes"
    return HINTS.get(type(m).__name__, f"supported: {known}")


def neuron_of(m: Any) -> FloatNeuron:
    """The neuron's three numbers."""
    name = type(m).__name__.removeprefix("MultiStep")
    if m.v_reset is None:
        raise Refused("soft reset (v_reset=None) subtracts the threshold, the chip's neuron resets to 0", SOFT)
    threshold = float(m.v_threshold) - float(m.v_reset)
    if threshold <= 0:
        raise Refused(f"threshold {m.v_threshold} is not above v_reset {m.v_reset}", "such neurons fire all the time")
    if name == "IFNode":
        return FloatNeuron(1.0, 1.0, threshold)
    rate = float(m.w.detach().double().sigmoid()) if name == "ParametricLIFNode" else 1.0 / float(m.tau)
    return FloatNeuron(1.0 - rate, rate if getattr(m, "decay_input", True) else 1.0, threshold)


def numbers_of(reader: Any, m: Any) -> FloatNeuron:
    """`neuron_of`; a neuron that the chip lacks is listed, and reading goes on with a stand-in."""
    try:
        return neuron_of(m)
    except Refused as e:
        reader.refuse(e.what, e.hint)
        return FloatNeuron(0.5, 0.5, 1.0)


def read_module(reader: Any, m: nn.Module, x: Signal, value: torch.Tensor) -> Signal:
    """The signal that leaves module `m`, whose real output is `value`."""
    if isinstance(m, nn.Linear) and mixing.across_tokens(x):
        return mixing.linear(x, m.weight, m.bias, value)
    if not isinstance(m, MOVES) and "Dropout" not in type(m).__name__ and type(m).__name__ not in CONTAINERS:
        x = part_of(reader, x)
    if is_neuron(m):
        return fire(reader, x, numbers_of(reader, m), multi_step(m), value)
    if type(m).__name__ in CONTAINERS:
        return _container(reader, m, x, value)
    if isinstance(m, nn.Identity) or "Dropout" in type(m).__name__:
        return Signal(value, x.node, x.index)
    if isinstance(m, nn.Linear):
        return _named(reader, reading.linear(x, _array(m.weight), None if m.bias is None else _array(m.bias), value, reader.batch))
    if not multi_step(m):
        return _layer(reader, m, x, value)
    if x.index.dim() < 3:
        raise Refused(f"in step mode 'm' takes [T, B, ...], got {tuple(x.index.shape)}", "set step_mode 's', or keep the time axis")
    flat = Signal(x.value.flatten(0, 1), x.node, x.index.flatten(0, 1))
    out = _layer(reader, m, flat, value.flatten(0, 1))
    return Signal(value, out.node, out.index.reshape(value.shape))


def _layer(reader: Any, m: Any, x: Signal, value: torch.Tensor) -> Signal:
    """A layer of torch on [N, ...]."""
    if isinstance(m, nn.Flatten):
        return Signal(value, x.node, x.index.flatten(m.start_dim, m.end_dim))
    if isinstance(m, nn.Unflatten):
        return Signal(value, x.node, x.index.unflatten(m.dim, m.unflattened_size))
    if isinstance(m, nn.Conv2d | nn.Conv1d):
        return _named(reader, _conv(m, x, value))
    if isinstance(m, nn.modules.batchnorm._BatchNorm):
        return _norm(m, x, value)
    if isinstance(m, nn.MaxPool2d):
        return reading.max_pool(reader, x, *_window(m), value)
    if isinstance(m, nn.AvgPool2d):
        kernel, stride, padding = _window(m)
        if padding or m.divisor_override:
            raise Refused("average with padding or another divisor", "use AvgPool2d without padding")
        return reading.average(x, kernel, stride, value)
    if isinstance(m, nn.AdaptiveAvgPool2d):
        if tuple(value.shape[-2:]) != (1, 1):
            raise Refused(f"adaptive average to {tuple(value.shape[-2:])}", "pool to 1, or use AvgPool2d")
        if x.index.shape[-1] != x.index.shape[-2]:
            return reading.reduce(x, (-2, -1), True, value, mean=True)
        return reading.average(x, x.index.shape[-1], x.index.shape[-1], value)
    return reading.voting(x, m.voting_size, value)


def _named(reader: Any, x: Signal) -> Signal:
    """The same with the module's path on its synapses, which a shared branch of a stream goes by."""
    if isinstance(x.node, Current):
        x.node.inputs = tuple(dataclasses.replace(s, name=reader.where) for s in x.node.inputs)
    return x


def _container(reader: Any, m: Any, x: Signal, value: torch.Tensor) -> Signal:
    flat = Signal(x.value.flatten(0, 1), x.node, x.index.flatten(0, 1))
    for child in m:
        if not supported(child) or is_neuron(child):
            raise Refused(f"holds a {type(child).__name__}", "it is for layers without state" if is_neuron(child) else hint_for(child))
        flat = read_module(reader, child, flat, child(flat.value))
    return Signal(value, flat.node, flat.index.reshape(value.shape))


def _array(t: torch.Tensor) -> np.ndarray:
    return t.detach().double().numpy()


def _pair(v: Any) -> tuple[int, int]:
    return (int(v[0]), int(v[-1])) if isinstance(v, tuple | list) else (int(v), int(v))


def _window(m: Any) -> tuple[int, int, int]:
    kernel, stride, padding = (_pair(v) for v in (m.kernel_size, m.stride if m.stride is not None else m.kernel_size, m.padding))
    if any(a != b for a, b in (kernel, stride, padding)):
        raise Refused(f"window {kernel}, stride {stride}, padding {padding} is not square", "use square windows")
    if m.ceil_mode or _pair(getattr(m, "dilation", 1)) != (1, 1):
        raise Refused("ceil_mode or dilation", "pool without them")
    return kernel[0], stride[0], padding[0]


def _conv(m: Any, x: Signal, value: torch.Tensor) -> Signal:
    weight = _array(m.weight)
    index = x.index
    line = weight.ndim == 3  # Conv1d: along the positions
    if line:
        weight = weight[:, :, None, :]
        grid = x.node.grid if weight.shape[3] == 1 and index.shape[-1] == x.node.positions else (1, index.shape[-1])
        index = index.unflatten(-1, grid)
    stride, dilation = _pair(m.stride), _pair(m.dilation)
    if stride[0] != stride[1]:
        raise Refused(f"stride {stride}", "use the same stride in both directions")
    if m.padding_mode != "zeros":
        raise Refused(f"padding mode {m.padding_mode}", "use zeros: a missing spike is a zero")
    reach = tuple((k - 1) * (1 if line and i == 0 else d) for i, (k, d) in enumerate(zip(weight.shape[2:], dilation)))
    if isinstance(m.padding, str):
        if m.padding == "same" and (reach[0] % 2 or reach[1] % 2):
            raise Refused("padding 'same' with an even kernel is not symmetric", "use an odd kernel")
        padding = (reach[0] // 2, reach[1] // 2) if m.padding == "same" else (0, 0)
    else:
        padding = (0, _pair(m.padding)[1]) if line else _pair(m.padding)
    if dilation != (1, 1):
        wide = np.zeros((*weight.shape[:2], reach[0] + 1, reach[1] + 1))
        wide[:, :, :: (1 if line else dilation[0]), :: dilation[1]] = weight
        weight = wide
    bias = np.zeros(len(weight)) if m.bias is None else _array(m.bias)
    out = reading.conv(Signal(x.value, x.node, index), weight, bias, stride[0], padding, m.groups)
    return Signal(value, out.node, out.index.reshape(value.shape))


def _norm(m: Any, x: Signal, value: torch.Tensor) -> Signal:
    if m.running_mean is None or m.running_var is None:
        raise Refused("keeps no running statistics", "train with track_running_stats=True: they fold into the weights")
    gain = 1 / np.sqrt(_array(m.running_var) + m.eps)
    shift = np.zeros(len(gain))
    if m.affine:
        gain, shift = gain * _array(m.weight), _array(m.bias)
    return reading.affine(x, gain, shift - gain * _array(m.running_mean), value)
