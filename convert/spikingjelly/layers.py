"""Torch's layers as functions: convolutions, linear layers, normalisations, pools, with their arguments in torch's order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly import mixing, pooling, reading, summing
from spikegate.convert.spikingjelly.plan import Refused
from spikegate.convert.spikingjelly.signals import Signal

Given = dict[str, Any]
ARGUMENTS = {
    "conv1d": "input weight bias stride padding dilation groups", "conv2d": "input weight bias stride padding dilation groups",
    "linear": "input weight bias", "batch_norm": "input running_mean running_var weight bias training momentum eps",
    "max_pool2d": "input kernel_size stride padding dilation ceil_mode return_indices",
    "avg_pool2d": "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "avg_pool1d": "input kernel_size stride padding ceil_mode count_include_pad",
    "adaptive_avg_pool2d": "input output_size", "adaptive_avg_pool1d": "input output_size", "pad": "input pad mode value",
    "dropout": "input p training inplace", "feature_dropout": "input p training inplace", "dropout1d": "input p training inplace",
    "dropout2d": "input p training inplace",
}  # fmt: skip


def read_layer(reader: Any, name: str, args: tuple, kwargs: dict, shape: torch.Size) -> Signal:
    """The signal of a call of one of ARGUMENTS."""
    given: Given = dict(zip(ARGUMENTS[name].split(), args), **kwargs)
    x = given["input"]
    if not isinstance(x, Signal):
        raise Refused(f"takes a signal as its weights ({name})", "weights must be constants")
    if "dropout" in name:
        if given.get("training", True) and given.get("p", 0.5):
            hint = "call model.eval(), and nn.Dropout in place of F.dropout(training=True)"
            raise Refused("drops elements at random, as in training", hint)
        return x
    if name == "linear":
        if mixing.across_tokens(x):
            return mixing.linear(x, given["weight"], given.get("bias"))
        return summing.linear(reader, x, _array(given["weight"]), _bias(given))
    if name == "batch_norm":
        return _norm(given, x)
    if name == "pad":
        return _pad(given, x, shape)
    if name == "adaptive_avg_pool2d":
        return pooling.adaptive_average(x, shape)
    if name == "adaptive_avg_pool1d":
        wide = Signal(x.node, x.index.unsqueeze(-2))
        out = pooling.adaptive_average(wide, torch.Size([*shape[:-1], 1, shape[-1]]))
        return Signal(out.node, out.index.reshape(shape))
    if name == "avg_pool1d":
        kernel, stride = _pair(given["kernel_size"])[0], _pair(given.get("stride") or given["kernel_size"])[0]
        if _pair(given.get("padding", 0))[0] or given.get("ceil_mode"):
            raise Refused("average with padding or ceil_mode", "leave them out")
        return pooling.line(x, kernel, stride)
    dims = x.index.dim()
    plane = 2 if name.endswith("2d") else 1
    if dims == plane + 1:  # torch also takes one sample without the batch
        out = _maps(reader, name, given, Signal(x.node, x.index.unsqueeze(0)), torch.Size([1, *shape]))
        return Signal(out.node, out.index.reshape(shape))
    return _maps(reader, name, given, x, shape)


def _maps(reader: Any, name: str, given: Given, x: Signal, shape: torch.Size) -> Signal:
    if name.startswith("conv"):
        out = _conv(reader, given, x)
        return Signal(out.node, out.index.reshape(shape))
    kernel = _pair(given["kernel_size"])
    stride = _pair(s) if (s := given.get("stride")) not in (None, [], ()) else kernel
    padding = _pair(given.get("padding", 0))
    if given.get("ceil_mode") or _pair(given.get("dilation", 1)) != (1, 1):
        raise Refused("ceil_mode or dilation", "pool without them")
    if stride[0] != stride[1]:
        raise Refused(f"stride {stride}", "use the same stride in both directions")
    if name == "max_pool2d":
        if kernel[0] != kernel[1] or padding[0] != padding[1]:
            raise Refused(f"window {kernel}, padding {padding} is not square", "use square windows")
        return pooling.max_pool(reader, x, kernel[0], stride[0], padding[0], shape)
    if given.get("divisor_override") or (padding != (0, 0) and not given.get("count_include_pad", True)):
        raise Refused("average with another divisor than the window", "use AvgPool2d without them")
    return pooling.average(x, kernel, stride[0], padding, shape)


def _conv(reader: Any, given: Given, x: Signal) -> Signal:
    weight, index = _array(given["weight"]), x.index
    line = weight.ndim == 3  # along the positions
    if line:
        weight = weight[:, :, None, :]
        grid = x.node.grid if weight.shape[3] == 1 and index.shape[-1] == x.node.positions else (1, index.shape[-1])
        index = index.unflatten(-1, grid)
    stride, dilation = _pair(given.get("stride", 1)), _pair(given.get("dilation", 1))
    if stride[0] != stride[1]:
        raise Refused(f"stride {stride}", "use the same stride in both directions")
    reach = tuple((k - 1) * (1 if line and i == 0 else d) for i, (k, d) in enumerate(zip(weight.shape[2:], dilation)))
    if isinstance(wanted := given.get("padding", 0), str):
        if wanted == "same" and (reach[0] % 2 or reach[1] % 2):
            raise Refused("padding 'same' with an even kernel is not symmetric", "use an odd kernel")
        padding = (reach[0] // 2, reach[1] // 2) if wanted == "same" else (0, 0)
    else:
        padding = (0, _pair(wanted)[1]) if line else _pair(wanted)
    if dilation != (1, 1):
        wide = np.zeros((*weight.shape[:2], reach[0] + 1, reach[1] + 1))
        wide[:, :, :: (1 if line else dilation[0]), :: dilation[1]] = weight
        weight = wide
    bias = np.zeros(len(weight)) if (b := _bias(given)) is None else b
    return reading.conv(Signal(x.node, index), weight, bias, stride[0], padding, int(given.get("groups", 1)), reader.where)


def _norm(given: Given, x: Signal) -> Signal:
    mean, var = given.get("running_mean"), given.get("running_var")
    if mean is None or var is None or given.get("training"):
        raise Refused("normalises by the statistics of the batch", "train with track_running_stats=True: they fold into the weights")
    gain = 1 / np.sqrt(_array(var) + given.get("eps", 1e-5))
    shift = np.zeros(len(gain))
    if (weight := given.get("weight")) is not None:
        gain = gain * _array(weight)
    if (bias := given.get("bias")) is not None:
        shift = _array(bias)
    return reading.normalised(x, gain, shift - gain * _array(mean))


def _pad(given: Given, x: Signal, shape: torch.Size) -> Signal:
    pads = [int(p) for p in given["pad"]]
    mode, value = given.get("mode", "constant"), given.get("value") or 0
    if mode != "constant" or value:
        raise Refused(f"padding mode {mode!r}" if mode != "constant" else f"pads with {value:g}", "use zeros: a missing spike is a zero")
    if any(pads[4:]) or len(pads) == 2:
        raise Refused("pads along another axis than height and width", "pad whole maps by zeros")
    left, right, top, bottom = (pads + [0, 0])[:4]
    return reading.padded(x, (top, bottom, left, right), shape)


def _array(t: torch.Tensor) -> np.ndarray:
    return t.detach().double().numpy()


def _bias(given: Given) -> np.ndarray | None:
    return None if given.get("bias") is None else _array(given["bias"])


def _pair(v: Any) -> tuple[int, int]:
    return (int(v[0]), int(v[-1])) if isinstance(v, tuple | list) else (int(v), int(v))
