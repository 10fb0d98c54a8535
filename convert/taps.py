"""Linear synapses of any geometry of lava-dl: dense, convolution with dilation, transposed convolution.

A kernel tap (dy, dx) joins output (oy, ox) to input (iy, ix) where ``oy * stride + dy * dilation - padding = iy * up``; `up` is
the stride of a transposed convolution, 1 otherwise. A dense layer is the case of one position.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from convert.synapse import FLOAT_EXACT

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Taps:
    """Integer weights [out channels, in channels / groups, kh, kw] between two grids (height, width)."""

    weight: np.ndarray
    grid: Pair = (1, 1)
    out_grid: Pair = (1, 1)
    up: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def inputs(self) -> tuple[int, int]:
        return self.grid[0] * self.grid[1], self.weight.shape[1] * self.groups

    @property
    def outputs(self) -> tuple[int, int]:
        return self.out_grid[0] * self.out_grid[1], len(self.weight)

    def axis(self, k: int, tap: int) -> tuple[np.ndarray, np.ndarray]:
        """(output, input) indices along axis `k` that the tap joins, int [n] each."""
        out = np.arange(self.out_grid[k])
        place = out * self.stride[k] + tap * self.dilation[k] - self.padding[k]
        met = (place >= 0) & (place % self.up[k] == 0) & (place // self.up[k] < self.grid[k])
        return out[met], place[met] // self.up[k]

    @cached_property
    def joined(self) -> list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(dy, dx, output rows, output columns, input rows, input columns) of every tap that joins anything."""
        kh, kw = self.weight.shape[2:]
        found = [(dy, dx, self.axis(0, dy), self.axis(1, dx)) for dy in range(kh) for dx in range(kw)]
        return [(dy, dx, ys[0], xs[0], ys[1], xs[1]) for dy, dx, ys, xs in found if len(ys[0]) and len(xs[0])]

    @cached_property
    def _bound(self) -> int:
        return int(np.abs(self.weight.astype(np.int64)).reshape(len(self.weight), -1).sum(1).max(initial=0))

    @cached_property
    def _float(self) -> np.ndarray:
        return self.weight.astype(np.float32)

    def current(self, x: np.ndarray) -> np.ndarray:
        """Weighted sums int64 [batch, out positions, out channels] of x [batch, in positions, in channels]; exact."""
        exact = self._bound * int(np.abs(x).max(initial=0)) < FLOAT_EXACT
        kind = np.float32 if exact else np.float64  # partial sums of a float64 product stay below 2^53: 32-bit inputs, 9-bit weights
        weight = self._float if exact else self.weight.astype(np.float64)
        b, (oh, ow), o, g = len(x), self.out_grid, len(weight), self.groups
        maps = x.astype(kind).reshape(b, *self.grid, g, -1)
        out = np.zeros((b, oh, ow, g, o // g), kind)
        rows = weight.reshape(g, o // g, *weight.shape[1:])
        for dy, dx, oy, ox, iy, ix in self.joined:
            seen = maps[:, iy[:, None], ix[None]]
            for k in range(g):
                out[:, oy[:, None], ox[None], k] += seen[:, :, :, k] @ rows[k, :, :, dy, dx].T
        return out.reshape(b, oh * ow, o).astype(np.int64)

    @cached_property
    def fanout(self) -> np.ndarray:
        """Non-zero synapses that leave each input, int64 [in positions, in channels]."""
        g = self.groups
        live = (self.weight != 0).reshape(g, len(self.weight) // g, *self.weight.shape[1:]).sum(1)
        live = live.reshape(-1, *self.weight.shape[2:])
        fan = np.zeros((*self.grid, len(live)), np.int64)
        for dy, dx, _, _, iy, ix in self.joined:
            fan[iy[:, None], ix[None]] += live[:, dy, dx]
        return fan.reshape(-1, len(live))

    def accumulate(self, alu: Any, x: np.ndarray) -> np.ndarray:
        """The sums of one sample [in positions, in channels] event by event: a value n is |n| adds of the weight, or of its negative."""
        acc = np.zeros(self.outputs, np.int64)
        per, each = self.weight.shape[1], len(self.weight) // self.groups
        for p, c in zip(*np.nonzero(x)):
            y, z = divmod(int(p), self.grid[1])
            group, lane = divmod(int(c), per)
            for dy, dx, oy, ox, iy, ix in self.joined:
                w = self.weight[group * each : (group + 1) * each, lane, dy, dx].astype(np.int64)
                out = np.flatnonzero(w) + group * each
                w = w[w != 0] * (1 if x[p, c] > 0 else -1)
                for row in oy[iy == y]:
                    for column in ox[ix == z]:
                        for _ in range(abs(int(x[p, c]))):
                            alu.add(acc, (row * self.out_grid[1] + column, out), w)
        return acc


def convolution(weight: np.ndarray, grid: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Taps:
    """Convolution of torch's geometry; weight [out, in / groups, kh, kw]."""
    size = [(g + 2 * p - d * (k - 1) - 1) // s + 1 for g, p, d, k, s in zip(grid, padding, dilation, weight.shape[2:], stride)]
    return Taps(weight, grid, (size[0], size[1]), (1, 1), stride, padding, dilation, groups)


def transposed(weight: np.ndarray, grid: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Taps:
    """Transposed convolution of torch's geometry without output padding; weight [in, out / groups, kh, kw]."""
    size = [(g - 1) * s - 2 * p + d * (k - 1) + 1 for g, p, d, k, s in zip(grid, padding, dilation, weight.shape[2:], stride)]
    inner, outer, kh, kw = weight.shape
    turned = weight.reshape(groups, inner // groups, outer, kh, kw).transpose(0, 2, 1, 3, 4).reshape(groups * outer, -1, kh, kw)
    frame = tuple(d * (k - 1) - p for d, k, p in zip(dilation, (kh, kw), padding))
    return Taps(turned[:, :, ::-1, ::-1], grid, (size[0], size[1]), stride, (1, 1), frame, dilation, groups)  # type: ignore[arg-type]
