"""How calls on tensors are read: one table from what they are called to what they do to signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from spikegate.convert.spikingjelly import attending, joining, mixing, summing
from spikegate.convert.spikingjelly.elementwise import arithmetic
from spikegate.convert.spikingjelly.firing import part_of
from spikegate.convert.spikingjelly.gating import met
from spikegate.convert.spikingjelly.layers import ARGUMENTS, read_layer
from spikegate.convert.spikingjelly.moves import MOVES, move
from spikegate.convert.spikingjelly.plan import Refused
from spikegate.convert.spikingjelly.signals import Signal, signals_in, with_signals

ARITHMETIC = {"add", "sub", "rsub", "mul", "div", "rdiv", "neg"}
NEURONS = "replace it by neurons"
NORM = "it needs statistics of each input; train with BatchNorm, which folds into the weights"
THEIRS = "use SpikingJelly's neurons"
DIRECT = "give the pixels to the first layer as they are (direct coding): a net must answer the same each time"
HINTS = {
    **dict.fromkeys(("relu", "gelu", "sigmoid", "tanh", "leaky_relu", "silu"), NEURONS),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm"), NORM), **dict.fromkeys(("gt", "ge", "lt", "le"), THEIRS),
    **dict.fromkeys(("rand_like", "bernoulli"), DIRECT), "softmax": "leave it out: it changes no answer, and spiking attention has none",
    "log_softmax": "leave it out: it changes no answer", "interpolate": "use a stride of 1 before, or convolutions",
    "einsum": "write attention as matrix products: q @ k.transpose(-2, -1), then @ v", "conv_transpose2d": "use Conv2d",
    "conv3d": "use Conv2d over timesteps", "setitem": "collect the parts in a list and use torch.stack or torch.cat",
}  # fmt: skip
DEFAULT = "use linear layers, pools, neurons, residual sums and spiking attention"


def read_function(reader: Any, name: str, func: Callable, args: tuple, kwargs: dict, result: Any) -> Any:
    """Signals of a call whose real result is `result`: one, or a list of them."""
    if name in MOVES:
        return move(name, func, args, kwargs, result)
    if not isinstance(result, torch.Tensor):
        raise Refused(f"operation {name!r} is not supported", HINTS.get(name, DEFAULT))
    if name in joining.NAMES:
        return _join(reader, name, args, kwargs, result)
    if name == "matmul" and len(signals_in(args)) == 1 and len(args) == 2:
        return attending.times_constants(reader, args[0], args[1])
    shape = result.shape
    if name == "linear" and isinstance(args[0], Signal) and mixing.across_tokens(args[0]):
        return read_layer(reader, name, args, kwargs, shape)
    args = with_signals(args, lambda s: part_of(reader, s))
    if name in ("sum", "mean"):
        given = dict(zip(("input", "dim", "keepdim"), args), **kwargs)
        axes = given.get("dim", given.get("axis"))
        axes = tuple(range(args[0].index.dim())) if axes is None or axes == () else axes if isinstance(axes, tuple | list) else (axes,)
        return summing.reduce(args[0], tuple(axes), shape, mean=name == "mean")
    if name in ARITHMETIC:
        if name != "mul" or not all(isinstance(s, Signal) for s in args[:2]):
            args = with_signals(args, lambda s: met(reader, s))
        return arithmetic(reader, name, args, kwargs, shape)
    args = with_signals(args, lambda s: met(reader, s))
    if name == "matmul" and len(args) == 2:
        return attending.matmul(args[0], args[1], shape)
    if name in ARGUMENTS:
        return read_layer(reader, name, args, with_signals(kwargs, lambda s: met(reader, part_of(reader, s))), shape)
    if name == "addmm" and len(args) == 3 and not kwargs and isinstance(args[1], Signal):
        return read_layer(reader, "linear", (args[1], args[2].T, args[0]), {}, shape)
    raise Refused(f"operation {name!r} is not supported", HINTS.get(name, DEFAULT))


def _join(reader: Any, name: str, args: tuple, kwargs: dict, result: torch.Tensor) -> Signal:
    given = dict(zip(("tensors", "dim"), args), **kwargs)
    parts = given.get("tensors")
    if not isinstance(parts, tuple | list) or not all(isinstance(p, Signal) for p in parts):
        raise Refused("joins a signal and constants", "join signals alone")
    axis = int(given.get("dim", given.get("axis", 0))) % result.dim()
    return joining.join(name, [met(reader, p) for p in parts], axis, result.shape)
