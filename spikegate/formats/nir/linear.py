"""Linear maps between layers of a NIR graph: one to one, a window (convolution, pool) or a matrix; how two of them become one.

Shapes are NIR's: (channels, height, width), (channels, length) or (features,). Flat indices count channels first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.errors import DeployError

Shape = tuple[int, ...]
Grid = tuple[int, int]
LARGEST = 1 << 24  # entries of a matrix that stands for joined maps


def size_of(shape: Shape) -> int:
    return math.prod(shape)


def as_map(shape: Shape) -> tuple[int, int, int]:
    """(channels, height, width) of a map; a vector is one position."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (size_of(shape), 1, 1)


@dataclass(frozen=True, eq=False)
class Each:
    """One to one: ``y = factor * x`` in flat order; `factor` is one number, or float [size]."""

    in_shape: Shape
    out_shape: Shape
    factor: float | np.ndarray = 1.0


@dataclass(frozen=True, eq=False)
class Window:
    """Convolution with zero padding, torch's geometry; weight float64 [out, in / groups, kh, kw]."""

    in_shape: Shape
    out_shape: Shape
    weight: np.ndarray
    stride: Grid
    padding: Grid
    groups: int = 1

    @property
    def grid(self) -> Grid:
        return as_map(self.in_shape)[1:]

    @property
    def out_grid(self) -> Grid:
        return as_map(self.out_shape)[1:]

    @property
    def depthwise(self) -> bool:
        return self.groups == len(self.weight) == as_map(self.in_shape)[0]


@dataclass(frozen=True, eq=False)
class Matrix:
    """weight float64 [outputs, inputs], both in flat order."""

    in_shape: Shape
    out_shape: Shape
    weight: np.ndarray


LinearMap = Each | Window | Matrix


def patches(m: Window, x: np.ndarray) -> np.ndarray:
    """Windows of maps [..., channels, height, width] as [..., channels, h, w, kh, kw]."""
    (above, left), kernel = m.padding, m.weight.shape[2:]
    framed = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(above, above), (left, left)])
    view: np.ndarray = np.lib.stride_tricks.sliding_window_view(framed, kernel, (-2, -1))  # type: ignore[call-overload]
    return view[..., :: m.stride[0], :: m.stride[1], :, :]


def applied(m: LinearMap, x: np.ndarray) -> np.ndarray:
    """The map on flat signals, float [n, inputs] -> [n, outputs]."""
    if isinstance(m, Each):
        return x * m.factor
    if isinstance(m, Matrix):
        return np.asarray(x @ m.weight.T)
    channels, height, width = as_map(m.in_shape)
    seen = patches(m, x.reshape(len(x), m.groups, channels // m.groups, height, width))
    weight = m.weight.reshape(m.groups, -1, *m.weight.shape[1:])
    sums: np.ndarray = np.einsum("ngchwyx,gocyx->ngohw", seen, weight, optimize=True)
    return sums.reshape(len(x), -1)


def matrix(where: str, m: LinearMap) -> Matrix:
    """The same as a matrix; a DeployError where it would be too large."""
    if isinstance(m, Matrix):
        return m
    inputs, outputs = size_of(m.in_shape), size_of(m.out_shape)
    if inputs * outputs > LARGEST:
        what = f"joins maps of {inputs} and {outputs} values in a way that no convolution says"
        raise DeployError(where, what, "put neurons between its linear nodes")
    if isinstance(m, Each):
        return Matrix(m.in_shape, m.out_shape, np.diag(np.broadcast_to(np.asarray(m.factor, float), (outputs,))))
    channels, height, width = as_map(m.in_shape)
    per, group = channels // m.groups, len(m.weight) // m.groups
    places = patches(m, np.arange(1, height * width + 1).reshape(1, height, width))[0]  # [h, w, kh, kw], 0 is padding
    h, w = places.shape[:2]
    out = np.zeros((len(m.weight), h * w, channels, height * width + 1))
    rows = np.arange(h * w)[:, None]
    for o in range(len(m.weight)):
        for c in range(per):
            out[o, rows, o // group * per + c, places.reshape(h * w, -1)] = m.weight[o, c].ravel()
    return Matrix(m.in_shape, m.out_shape, out[..., 1:].reshape(outputs, inputs))


def scaled(m: LinearMap, factor: Any, where: str) -> LinearMap:
    """``factor * m``; `factor` is one number or float [outputs]."""
    factor = np.asarray(factor, float)
    if factor.ndim == 0 or (factor == factor.flat[0]).all():
        factor = factor.reshape(-1)[0]
        if factor == 1.0:
            return m
    if isinstance(m, Each):
        return Each(m.in_shape, m.out_shape, m.factor * factor)
    if isinstance(m, Window):
        by_channel = per_channel(factor, m.out_shape)
        if by_channel is not None:
            weight = m.weight * by_channel[:, None, None, None]
            return Window(m.in_shape, m.out_shape, weight, m.stride, m.padding, m.groups)
        m = matrix(where, m)
    return Matrix(m.in_shape, m.out_shape, m.weight * np.broadcast_to(factor, (len(m.weight),))[:, None])


def per_channel(values: Any, shape: Shape) -> np.ndarray | None:
    """Flat values of a map as float [channels], if they are equal all over each channel."""
    channels = as_map(shape)[0]
    rows = np.broadcast_to(np.asarray(values, float), (size_of(shape),)).reshape(channels, -1)
    return rows[:, 0].copy() if (rows == rows[:, :1]).all() else None


def joined(where: str, outer: LinearMap, inner: LinearMap) -> LinearMap:
    """``outer(inner(x))`` as one map."""
    if isinstance(outer, Each):
        m = scaled(inner, outer.factor, where)
        return m if outer.in_shape == outer.out_shape else reshaped(where, m, outer.out_shape)
    if isinstance(inner, Each):
        if np.all(np.asarray(inner.factor) == 1.0) and inner.in_shape == inner.out_shape:
            return outer
        found = _window_after_factor(outer, inner) if isinstance(outer, Window) else None
        if found is not None:
            return found
        m = matrix(where, outer)
        return Matrix(inner.in_shape, m.out_shape, m.weight * np.asarray(inner.factor))
    if isinstance(outer, Window) and isinstance(inner, Window):
        found = _windows(outer, inner)
        if found is not None:
            return found
    a, b = matrix(where, outer), matrix(where, inner)
    return Matrix(b.in_shape, a.out_shape, a.weight @ b.weight)


def reshaped(where: str, m: LinearMap, shape: Shape) -> LinearMap:
    """The same values in another shape, flat order kept."""
    if isinstance(m, Each):
        return Each(m.in_shape, shape, m.factor)
    return Matrix(m.in_shape, shape, matrix(where, m).weight)


def _window_after_factor(outer: Window, inner: Each) -> Window | None:
    """A window over scaled inputs, where the factors are one for each channel."""
    factor = per_channel(inner.factor, inner.out_shape)
    if factor is None or as_map(inner.in_shape) != as_map(inner.out_shape):
        return None
    per = outer.weight.shape[1]
    rows = np.repeat(np.arange(outer.groups), len(outer.weight) // outer.groups)
    weight = outer.weight * factor.reshape(outer.groups, per)[rows][:, :, None, None]
    return Window(inner.in_shape, outer.out_shape, weight, outer.stride, outer.padding, outer.groups)


def _windows(outer: Window, inner: Window) -> Window | None:
    """A convolution of sums over windows as one convolution, where the windows tile and the frames of zeros agree."""
    if not inner.depthwise or inner.padding != (0, 0) or inner.stride != inner.weight.shape[2:]:
        return None
    step = inner.stride
    if any(g % s and p for g, s, p in zip(inner.grid, step, outer.padding)):
        return None  # what the pool leaves out at the border would be taken for padding
    channel = inner.weight[:, 0].reshape(len(inner.weight), *step)
    per = outer.weight.shape[1]
    rows = np.repeat(np.arange(outer.groups), len(outer.weight) // outer.groups)
    inside = channel.reshape(outer.groups, per, *step)[rows]  # [out, per, sh, sw]
    kh, kw = outer.weight.shape[2:]
    weight = np.einsum("ocyx,ocij->ocyixj", outer.weight, inside).reshape(len(outer.weight), per, kh * step[0], kw * step[1])
    stride, padding = ((a[0] * step[0], a[1] * step[1]) for a in (outer.stride, outer.padding))
    return Window(inner.in_shape, outer.out_shape, weight, stride, padding, outer.groups)
