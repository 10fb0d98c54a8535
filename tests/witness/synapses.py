"""Synapses as lists of (target position, source position, weights): sums and fan-outs by going through the list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Tap = tuple[int, int, np.ndarray, int]  # target position, source position, weight [out, in] of a group, number of the group


def pair(value: Any) -> tuple[int, int]:
    """One number for rows and columns, or both."""
    return (int(value), int(value)) if np.ndim(value) == 0 else (int(value[0]), int(value[1]))


class Synapses:
    """All synapses between a map of `places` positions and one of `targets`; weights [out channels, in channels] by group."""

    def __init__(self, places: int, inputs: int, targets: int, outputs: int, groups: int, taps: list[Tap]) -> None:
        self.inputs, self.outputs, self.groups = (places, inputs), (targets, outputs), groups
        self.taps = taps
        self.fan = np.zeros(self.inputs, np.int64)
        for _, source, weight, g in taps:
            per = inputs // groups
            self.fan[source, g * per : (g + 1) * per] += (weight != 0).sum(0)

    def sums(self, x: np.ndarray) -> np.ndarray:
        """Weighted sums of a map [places, inputs], int64 [targets, outputs]."""
        out = np.zeros(self.outputs, np.int64)
        per, each = self.inputs[1] // self.groups, self.outputs[1] // self.groups
        busy = x.any(1)
        for target, source, weight, g in self.taps:
            if busy[source]:
                out[target, g * each : (g + 1) * each] += weight @ x[source, g * per : (g + 1) * per]
        return out

    def cost(self, sources: list[np.ndarray]) -> int:
        """Accumulates that maps cause."""
        return sum(int((np.abs(x) * self.fan).sum()) for x in sources)


def convolution(
    weight: np.ndarray, grid: Any, stride: Any, padding: Any, dilation: Any = 1, groups: int = 1
) -> tuple[Synapses, tuple[int, int]]:
    """Cross-correlation of a map with weight [out, in / groups, kh, kw]; also the output's (height, width)."""
    out, per, kh, kw = weight.shape
    (h, w), (sy, sx), (py, px), (dy_, dx_) = (pair(v) for v in (grid, stride, padding, dilation))
    oh, ow = (h + 2 * py - dy_ * (kh - 1) - 1) // sy + 1, (w + 2 * px - dx_ * (kw - 1) - 1) // sx + 1

    def taps() -> Iterator[Tap]:
        each = out // groups
        for oy in range(oh):
            for ox in range(ow):
                for dy in range(kh):
                    for dx in range(kw):
                        iy, ix = oy * sy + dy * dy_ - py, ox * sx + dx * dx_ - px
                        if 0 <= iy < h and 0 <= ix < w:
                            for g in range(groups):
                                yield oy * ow + ox, iy * w + ix, weight[g * each : (g + 1) * each, :, dy, dx], g

    return Synapses(h * w, per * groups, oh * ow, out, groups, list(taps())), (oh, ow)


def transposed(weight: np.ndarray, grid: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> tuple[Synapses, tuple[int, int]]:
    """Transposed convolution with weight [in, out / groups, kh, kw]; also the output's (height, width)."""
    inputs, each, kh, kw = weight.shape
    (h, w), (sy, sx), (py, px), (dy_, dx_) = (pair(v) for v in (grid, stride, padding, dilation))
    oh, ow = (h - 1) * sy - 2 * py + dy_ * (kh - 1) + 1, (w - 1) * sx - 2 * px + dx_ * (kw - 1) + 1
    per = inputs // groups

    def taps() -> Iterator[Tap]:
        for iy in range(h):
            for ix in range(w):
                for dy in range(kh):
                    for dx in range(kw):
                        oy, ox = iy * sy + dy * dy_ - py, ix * sx + dx * dx_ - px
                        if 0 <= oy < oh and 0 <= ox < ow:
                            for g in range(groups):
                                yield oy * ow + ox, iy * w + ix, weight[g * per : (g + 1) * per, :, dy, dx].T, g

    return Synapses(h * w, inputs, oh * ow, each * groups, groups, list(taps())), (oh, ow)


def dense(weight: np.ndarray) -> Synapses:
    """All to all, one position on either side."""
    return Synapses(1, weight.shape[1], 1, len(weight), 1, [(0, 0, weight, 0)])
