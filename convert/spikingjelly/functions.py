"""How functions and methods on tensors are read: moves of elements, sums, residuals, products of spikes."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from spikegate.convert.spikingjelly import joining, mixing, reading
from spikegate.convert.spikingjelly.firing import part_of
from spikegate.convert.spikingjelly.plan import Gate, Refused
from spikegate.convert.spikingjelly.reading import kind_of
from spikegate.convert.spikingjelly.signals import (
    Attended,
    Current,
    Gated,
    Logits,
    Met,
    Mixed,
    Product,
    Reduced,
    Signal,
    Spikes,
    numbers,
    slice_bases,
)

OUT_OF_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul, operator.itruediv: operator.truediv}
MOVES = {
    "reshape", "view", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "unsqueeze", "squeeze", "contiguous",
    "clone", "detach", "expand", "repeat", "chunk", "split", "unbind", "getitem", "select", "narrow", "getattr", "float", "to",
}  # fmt: skip


def each_tensor(value: Any, make: Callable[[torch.Tensor], Any]) -> Any:
    """`make` of every tensor in nested tuples and lists."""
    return fx.node.map_aggregate(value, lambda v: make(v) if isinstance(v, torch.Tensor) else v)


def values_of(args: Any) -> Any:
    """Arguments with the tensors of their signals."""
    return fx.node.map_aggregate(args, lambda a: a.value if isinstance(a, Signal) else a)


def signals_of(args: Any) -> list[Signal]:
    found: list[Signal] = []
    fx.node.map_aggregate(args, lambda a: found.append(a) if isinstance(a, Signal) else None)
    return found


def has_tensor(value: Any) -> bool:
    found: list[bool] = []
    each_tensor(value, lambda _: found.append(True))
    return bool(found)


def read_function(reader: Any, target: Any, args: tuple, kwargs: dict, result: Any) -> Any:
    """Signals of a call whose real result is `result`."""
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    if name in MOVES:
        return _move(target, args, kwargs, result)
    if name in joining.NAMES:
        return _join(name, args, kwargs, result)
    if name in ("matmul", "bmm") and len(signals_of(args)) == 1:
        return _times_constants(reader, args[0], args[1], result)
    args = fx.node.map_aggregate(args, lambda a: part_of(reader, a) if isinstance(a, Signal) else a)  # type: ignore[assignment]
    if name in ("add", "__add__", "__radd__"):
        return _add(args[0], args[1], result)
    if name in ("mul", "multiply", "truediv", "div"):
        return _multiply(reader, name, args[0], args[1], result)
    if name in ("matmul", "bmm"):
        return _matmul(args[0], args[1], result)
    if name in ("sum", "mean"):
        given = dict(zip(("input", "dim", "keepdim"), args), **kwargs)
        axes = given.get("dim")
        axes = tuple(range(args[0].index.dim())) if axes is None else axes if isinstance(axes, tuple | list) else (axes,)
        return reading.reduce(args[0], tuple(axes), bool(given.get("keepdim", False)), result, mean=name == "mean")
    if name in ("dropout", "relu_identity"):
        return Signal(result, args[0].node, args[0].index)
    raise Refused(f"operation {name!r} is not supported", "use linear layers, pools, neurons, residual sums and spiking attention")


def _join(name: str, args: tuple, kwargs: dict, result: torch.Tensor) -> Signal:
    given = dict(zip(("tensors", "dim"), args), **kwargs)
    parts = given.get("tensors")
    if not isinstance(parts, tuple | list) or not all(isinstance(p, Signal) for p in parts):
        raise Refused("joins a signal and constants", "join signals alone")
    return joining.join(name, list(parts), int(given.get("dim", given.get("axis", 0))) % result.dim(), result)


def _times_constants(reader: Any, a: Any, b: Any, result: torch.Tensor) -> Signal:
    """Matrix product of a signal and constants: tokens mixed, or a linear layer."""
    x, matrix = (a, b) if isinstance(a, Signal) else (b, a)
    left = x is b
    if not isinstance(matrix, torch.Tensor) or matrix.dim() < 2 or x.index.dim() < 2:
        raise Refused("multiplies by a matrix of constants", "use a linear layer")
    turned = Signal(x.value, x.node, x.index.transpose(-1, -2)) if left else x
    rows = matrix if left else matrix.transpose(-1, -2)
    if mixing.across_tokens(turned):
        out = mixing.mix(turned, rows, result)
    elif matrix.dim() == 2:
        out = reading.linear(part_of(reader, turned), rows.detach().double().numpy(), None, result, reader.batch)
    else:
        raise Refused("multiplies by several matrices of constants along another axis than the tokens", "use linear layers")
    return Signal(result, out.node, out.index.transpose(-1, -2) if left else out.index)


def _move(target: Any, args: tuple, kwargs: dict, result: Any) -> Any:
    if signals_of((args[1:], kwargs)):
        raise Refused("picks elements by another tensor", "the order of elements must be static")
    if isinstance(args[0], tuple | list):
        return args[0][args[1]]  # one of several parts (chunk, split)
    (signal,) = signals_of(args[:1])
    if isinstance(target, str) and target in ("float", "to"):
        return Signal(result, signal.node, signal.index)
    index_args = fx.node.map_aggregate(args, lambda a: a.index if isinstance(a, Signal) else a)
    moved = getattr(index_args[0], target)(*index_args[1:], **kwargs) if isinstance(target, str) else target(*index_args, **kwargs)
    if isinstance(result, torch.Tensor):
        return Signal(result, signal.node, moved)
    return type(result)(Signal(v, signal.node, i) for v, i in zip(result, moved))


def _add(a: Any, b: Any, result: torch.Tensor) -> Signal:
    if not isinstance(a, Signal) or not isinstance(b, Signal):
        raise Refused("adds a constant", "leave it out, or add it as a layer's bias")
    if isinstance(a.node, Spikes) and isinstance(b.node, Spikes):
        x, y = a, b
    else:
        for s in (a, b):
            if not isinstance(s.node, Current | Spikes):
                raise Refused(f"adds {kind_of(s.node)}", "residuals add spikes to spikes, or currents to currents")
        x, y = reading.as_current(a), reading.as_current(b)
    if a.index.shape != b.index.shape or (x.node.positions, x.node.channels) != (y.node.positions, y.node.channels):
        shapes = f"{tuple(a.index.shape)} and {tuple(b.index.shape)}"
        raise Refused(f"adds maps of different shape {shapes}", "residual branches need the same map")
    constants = [isinstance(s.node, Current) and s.node.constant for s in (x, y)]
    i, j = x.index, y.index
    if constants[0] != constants[1]:
        batch = int(min(i.max(), j.max())) + 1
        i, j = i % batch, j % batch
    if not torch.equal(i, j):
        raise Refused("adds elements of different places", "residual branches must lie alike: same order of time, batch, tokens, channels")
    index = y.index if constants[0] else x.index
    if isinstance(x.node, Spikes) and isinstance(y.node, Spikes):
        return Signal(result, Spikes(x.node.positions, x.node.channels, x.node.grid, x.node.sources + y.node.sources), index)
    grid = x.node.grid
    return Signal(result, Current(x.node.positions, x.node.channels, grid, x.node.inputs + y.node.inputs), index)  # type: ignore[attr-defined]


def _multiply(reader: Any, name: str, a: Any, b: Any, result: torch.Tensor) -> Signal:
    signals = [s for s in (a, b) if isinstance(s, Signal)]
    if len(signals) == 1:
        factor = b if isinstance(a, Signal) else a
        if not isinstance(factor, int | float):
            raise Refused("multiplies by a tensor", "fold it into a linear layer's weights")
        if name in ("truediv", "div"):
            factor = 1.0 / factor
        return _scale(signals[0], float(factor), result)
    if name in ("truediv", "div"):
        raise Refused("divides by a signal", "leave it out")
    for gate, other in ((a, b), (b, a)):
        if isinstance(gate.node, Gated) and isinstance(other.node, Spikes):
            return _gated(reader, gate, other, result)
    if isinstance(a.node, Spikes) and isinstance(b.node, Spikes) and torch.equal(a.index, b.index):
        return Signal(result, Met(a.node.positions, a.node.channels, a.node.grid, a.node.one, b.node.one), a.index)
    hint = "products are those of SSA, SDSA and QK attention: spikes with spikes"
    raise Refused(f"multiplies {kind_of(a.node)} by {kind_of(b.node)}", hint)


def _scale(x: Signal, factor: float, result: torch.Tensor) -> Signal:
    node = x.node
    if isinstance(node, Spikes):
        x = reading.as_current(x)
        node = x.node
    if isinstance(node, Current):
        inputs = tuple(s.scaled(factor) for s in node.inputs)
        return Signal(result, Current(node.positions, node.channels, node.grid, inputs), x.index)
    if isinstance(node, Mixed):
        return Signal(result, dataclasses.replace(node, matrices=node.matrices * factor), x.index)
    if isinstance(node, Product | Attended | Reduced):
        if factor <= 0:
            raise Refused(f"scales by {factor}", "use a positive scale")
        changed = type(node)(**{**vars(node), "scale": node.scale * factor})
        return Signal(result, changed, x.index)
    if isinstance(node, Logits) and factor > 0:
        return Signal(result, node, x.index)  # moves no maximum
    raise Refused(f"scales {kind_of(node)}", "scale a linear layer or an attention's product")


def _slices(x: Signal, across: bool) -> torch.Tensor | None:
    """First number of each head slice [.., positions, width] (or, `across`, [.., width, positions])."""
    index = x.index.transpose(-1, -2) if across else x.index
    return slice_bases(index.reshape(-1, *index.shape[-2:]), x.node)


def _matmul(a: Signal, b: Signal, result: torch.Tensor) -> Signal:
    x, y = a.node, b.node
    hint = "attention takes q, k, v [.., heads, tokens, width] of spikes: q k^T v, in either order"
    if isinstance(x, Spikes) and isinstance(y, Spikes):
        for order, across in (("qk", (False, True)), ("kv", (True, False))):
            i, j = _slices(a, across[0]), _slices(b, across[1])
            if i is not None and j is not None and torch.equal(i, j):
                width = a.index.shape[-2] if across[0] else a.index.shape[-1]
                node = Product(x.positions, x.channels, x.grid, order, x.one, y.one, i, width)
                return Signal(result, node, numbers(result.shape))
        raise Refused("multiplies spike maps in an order that is no attention's", hint)
    product, other = (a, b) if isinstance(x, Product) else (b, a)
    if not isinstance(product.node, Product) or not isinstance(other.node, Spikes):
        raise Refused(f"multiplies {kind_of(x)} by {kind_of(y)}", hint)
    p, bases = product.node, _slices(other, False)
    right_side = (p.order == "qk") == (product is a)
    if bases is None or not torch.equal(bases, p.bases) or not right_side or not torch.equal(product.index, numbers(product.index.shape)):
        raise Refused("multiplies an attention's product in an order that is no attention's", hint)
    q, k, v = (p.first, p.second, other.node.one) if p.order == "qk" else (other.node.one, p.first, p.second)
    attended = Attended(p.positions, p.channels, p.grid, q, k, v, p.channels // p.width, p.scale)
    inside = torch.arange(p.positions).reshape(-1, 1) * p.channels + torch.arange(p.width)
    return Signal(result, attended, (bases.reshape(-1, 1, 1) + inside).reshape(result.shape))


def _gated(reader: Any, gate: Signal, other: Signal, result: torch.Tensor) -> Signal:
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
    name = f"{reader.where}.gate" if reader.where != "forward" else reader.node_name
    shape = (node.positions, node.channels)
    if isinstance(base, Met):
        if g.over != "channel":
            raise Refused("a gate on k and v summed over channels", "SDSA sums over tokens")
        layer = Gate(name, shape, node.grid, "sdsa", {"q": node.one, "k": base.first, "v": base.second})
    else:
        kind = "qk_channel_gate" if g.over == "channel" else "qk_token_gate"
        heads = node.channels // g.width if g.over == "token" else 1
        layer = Gate(name, shape, node.grid, kind, {"q": base.one, "k": node.one}, heads)
    reader.add(layer)
    reader.keep(name, layer, result, other.index)
    return Signal(result, Spikes(node.positions, node.channels, node.grid, (name,)), other.index)
