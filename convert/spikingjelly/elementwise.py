"""Sums, differences, products and quotients of two tensors, element by element."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly import reading, summing
from spikegate.convert.spikingjelly.gating import gated, logic, met
from spikegate.convert.spikingjelly.plan import Refused
from spikegate.convert.spikingjelly.reading import kind_of
from spikegate.convert.spikingjelly.signals import (
    Attended,
    Beside,
    Complement,
    Current,
    Gated,
    Image,
    Logits,
    Met,
    Mixed,
    Node,
    Product,
    Reduced,
    Signal,
    Spikes,
    alike,
)


def arithmetic(reader: Any, name: str, args: tuple, kwargs: dict, shape: torch.Size) -> Signal:
    """add, sub, rsub, mul, div, rdiv, neg."""
    if name == "neg":
        return changed(args[0], -1.0, 0.0, shape)
    a, b = args[:2] if len(args) > 1 else (args[0], kwargs["other"])
    alpha = float(kwargs.get("alpha", 1))
    if name == "rsub":
        a, b, name = b, a, "sub"
    if name in ("add", "sub"):
        if isinstance(a, Signal) and isinstance(b, Signal):
            sign = alpha if name == "add" else -alpha
            return added(a, b if sign == 1 else changed(b, sign, 0.0, b.index.shape), shape)
        if isinstance(b, Signal):
            return changed(b, alpha if name == "add" else -alpha, a, shape)
        value: Any = constant(b) * alpha
        return changed(a, 1.0, value if name == "add" else -value, shape)
    if isinstance(a, Signal) and isinstance(b, Signal):
        if name != "mul":
            raise Refused("divides by a signal", "leave it out")
        return product(reader, a, b, shape)
    if name == "rdiv" or (name == "div" and not isinstance(a, Signal)):
        raise Refused("divides by a signal", "leave it out")
    if kwargs.get("rounding_mode"):
        raise Refused("rounds a quotient", "divide without rounding")
    x, factor = (a, constant(b)) if isinstance(a, Signal) else (b, constant(a))
    return changed(x, 1.0 / factor if name == "div" else factor, 0.0, shape)


def constant(value: Any) -> torch.Tensor:
    return torch.as_tensor(value).detach().double()


def per_channel(x: Signal, value: torch.Tensor, what: str) -> np.ndarray:
    """A constant that meets a signal element by element, as [positions, channels].

    Raises Refused where it differs between samples, timesteps, or elements that carry the same.
    """
    node = x.node
    if value.numel() == 1:
        return np.full((node.positions, node.channels), float(value))
    if not node.size:
        raise Refused(f"{what} {kind_of(node)} by a tensor", "use one number")
    spread = value.broadcast_to(x.index.shape)
    found = torch.full((node.size,), float("nan"), dtype=torch.float64)
    place = x.index % node.size
    found[place] = spread
    if not torch.equal(found[place], spread):
        raise Refused(f"{what} {kind_of(node)} by constants that differ between timesteps or samples", "use the same for all of them")
    table = found.reshape(node.positions, node.channels)
    return torch.where(table.isnan(), table.nan_to_num(0).amax(0), table).numpy()  # places that are not read


def changed(x: Signal, factor: Any, shift: Any, shape: torch.Size) -> Signal:
    """``factor x + shift`` by constants."""
    factor, shift = constant(factor), constant(shift)
    if tuple(shape) != tuple(x.index.shape):
        raise Refused("meets a constant of more dimensions", "repeat it first")
    if not shift.any() and bool((factor == 1).all()):
        return x
    node = x.node
    if isinstance(node, Spikes) and len(node.sources) == 1 and factor.numel() == shift.numel() == 1 and (factor, shift) == (-1, 1):
        return Signal(Complement(node.positions, node.channels, node.grid, node), x.index)
    if isinstance(node, Product | Attended | Mixed | Logits) or (isinstance(node, Reduced) and not node.window):
        if shift.any() or factor.numel() > 1:
            raise Refused(f"adds constants to {kind_of(node)}, or scales them one by one", "use one positive scale")
        return scaled(x, float(factor))
    gain = per_channel(x, factor, "multiplies")
    if (gain != gain[0]).any():
        raise Refused("multiplies by a tensor that differs between positions", "fold it into a linear layer's weights")
    return reading.affine(x, gain[0], per_channel(x, shift, "shifts"))


def scaled(x: Signal, factor: float) -> Signal:
    """Products and sums times one number."""
    node = x.node
    if isinstance(node, Mixed):
        return Signal(dataclasses.replace(node, matrices=node.matrices * factor), x.index)
    if isinstance(node, Logits):
        return Signal(dataclasses.replace(node, weight=node.weight * factor, bias=node.bias * factor), x.index)
    if factor <= 0 and not (isinstance(node, Reduced) and summing.summable(node)):
        raise Refused(f"scales by {factor}", "use a positive scale")
    assert isinstance(node, Product | Attended | Reduced)
    return Signal(dataclasses.replace(node, scale=node.scale * factor), x.index)


def added(a: Signal, b: Signal, shape: torch.Size) -> Signal:
    """Residuals: spikes to spikes, currents to currents; or elements of one map, as a loop over timesteps adds them up."""
    base = summing.summable(a.node), summing.summable(b.node)
    same = a.index.shape == b.index.shape and base[0] is not None and alike(*base)
    if same and not (alike(a.node, b.node) and torch.equal(a.index, b.index)):
        sums = isinstance(a.node, Reduced) or isinstance(b.node, Reduced)
        if sums or not _residual(a.node, b.node) or _apart(a, b):
            return summing.together(a, b, shape)
    if isinstance(a.node, Spikes) and isinstance(b.node, Spikes):
        x, y = a, b
    else:
        for s in (a, b):
            if not isinstance(s.node, Current | Spikes | Image | Complement | Beside) and not (
                isinstance(s.node, Reduced) and s.node.window
            ):
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
        return Signal(Spikes(x.node.positions, x.node.channels, x.node.grid, x.node.sources + y.node.sources), index)
    grid = x.node.grid
    return Signal(Current(x.node.positions, x.node.channels, grid, x.node.inputs + y.node.inputs), index)  # type: ignore[attr-defined]


def _residual(a: Node, b: Node) -> bool:
    return isinstance(a, Spikes | Current) and isinstance(b, Spikes | Current)


def _apart(a: Signal, b: Signal) -> bool:
    return not torch.equal(a.index, b.index)


def product(reader: Any, a: Signal, b: Signal, shape: torch.Size) -> Signal:
    """Gates, AND and IAND of spikes."""
    for gate, other in ((a, b), (b, a)):
        if isinstance(gate.node, Gated) and isinstance(other.node, Spikes):
            return gated(reader, gate, other)
    for one, other in ((a, b), (b, a)):
        if isinstance(one.node, Spikes) and isinstance(other.node, Complement) and torch.equal(one.index, other.index):
            return logic(reader, one, other)
    if isinstance(a.node, Met) or isinstance(b.node, Met):
        return product(reader, met(reader, a), met(reader, b), shape)
    x, y = a.node, b.node
    if isinstance(x, Spikes) and isinstance(y, Spikes) and a.index.shape == b.index.shape and torch.equal(a.index, b.index):
        if (x.positions, x.channels) == (y.positions, y.channels):
            return Signal(Met(x.positions, x.channels, x.grid, x.one, y.one, reader.where), a.index)
    hint = "products are those of SSA, SDSA, QK attention, AND and IAND: spikes with spikes of the same places"
    raise Refused(f"multiplies {kind_of(a.node)} by {kind_of(b.node)}", hint)
