"""Linear synapses of any geometry of lava-dl: dense, convolution with dilation, transposed convolution.

A kernel tap (dy, dx) joins output (oy, ox) to input (iy, ix) where ``oy * stride + dy * dilation - padding = iy * up``; `up` is
the stride of a transposed convolution, 1 otherwise. A dense layer is the case of one position.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikegate.graph.alu import Alu
from spikegate.graph.signals import NO_CREDIT, Merged
from spikegate.kernels import gather, scatter
from spikegate.kernels.counting import FEW_ADDS
from spikegate.kernels.lanes import padded
from spikegate.synapses.synapse import FLOAT_EXACT

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
    def bound(self) -> int:
        return int(np.abs(self.weight.astype(np.int64)).reshape(len(self.weight), -1).sum(1).max(initial=0))

    @cached_property
    def narrow(self) -> bool:
        """Whether the weights have at most 9 bits, as the chip's, so that the kernels may add some of them in 16 bits."""
        return bool(np.abs(self.weight).max(initial=0) <= 256)

    @cached_property
    def _float(self) -> np.ndarray:
        return self.weight.astype(np.float32)

    def current(self, x: np.ndarray) -> np.ndarray:
        """Weighted sums int64 [batch, out positions, out channels] of x [batch, in positions, in channels]; exact."""
        exact = self.bound * int(np.abs(x).max(initial=0)) < FLOAT_EXACT
        kind = np.float32 if exact else np.float64  # partial sums of a float64 product stay below 2^53: 32-bit inputs, 9-bit weights
        weight = self._float if exact else self.weight.astype(np.float64)
        b, (oh, ow), o, g = len(x), self.out_grid, len(weight), self.groups
        maps: np.ndarray = x.astype(kind).reshape(b, *self.grid, g, -1)
        out: np.ndarray = np.zeros((b, oh, ow, g, o // g), kind)
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

    @cached_property
    def synapse_arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Arrays of `scatter.scatter`: range of targets by input position, targets, their taps; int16 weights by tap."""
        found: list[list[tuple[int, int]]] = [[] for _ in range(self.inputs[0])]
        kw = self.weight.shape[3]
        for dy, dx, oy, ox, iy, ix in self.joined:
            sources = (iy[:, None] * self.grid[1] + ix[None]).ravel().tolist()
            for source, into in zip(sources, (oy[:, None] * self.out_grid[1] + ox[None]).ravel().tolist()):
                found[source].append((into, dy * kw + dx))
        start = np.concatenate([[0], np.cumsum([len(f) for f in found])])
        ends = np.array([end for f in found for end in f], np.int64).reshape(-1, 2)
        g, (o, per, kh, kw) = self.groups, self.weight.shape
        lanes = self.weight.reshape(g, o // g, per, kh * kw).transpose(3, 0, 2, 1).reshape(kh * kw, g * per, o // g)
        return start, ends[:, 0].copy(), ends[:, 1].copy(), np.ascontiguousarray(lanes, np.int16)

    @cached_property
    def fan(self) -> np.ndarray:
        """`fanout` in one row, int32."""
        return np.ascontiguousarray(self.fanout.ravel(), np.int32)

    @cached_property
    def share(self) -> float:
        """Share of active inputs from which the product in float32 is faster than adding event by event (bench/engine.py)."""
        lanes, channels = self.weight.shape[0] // self.groups, self.weight.shape[1]
        if not self._pointwise:
            return 2.0 if channels < 16 else 0.7  # a product for each tap of so few channels costs more than its events
        if lanes < 32:
            return 0.35 if channels >= 256 else 0.15
        return 0.4 if lanes < 128 else 0.7

    def sums(self, merged: Merged, credit: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weighted sums [rows, out positions, out channels] of merged sources; accumulates and arriving events by row.

        The sums are int32, or int64 where they may exceed 32 bits.

        Event by event, or as one product where many inputs are active: equal integers. Positions whose `credit` [rows, positions] is not
        above 0 are left out; their rows of the sums are undefined.
        """
        events, peak = merged.events, merged.peak
        x = merged.total.reshape(len(merged.total), *self.inputs)
        live = NO_CREDIT if credit is None else credit
        synops, arrived = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
        wide = self.bound * peak
        if self.event_driven(merged):
            acc = np.empty((len(x), *self.outputs), np.int32)
            given = self.arguments(merged, live)
            if given is not None:
                gather.sums(*given, acc, synops, arrived)  # type: ignore[call-arg]
            else:
                scatter.scatter(x, live, self.fan, events, *self.plan, acc, synops, arrived)
            return acc, synops, arrived
        scatter.count(x, live, self.fan, events, synops, arrived)
        if self._pointwise and wide < FLOAT_EXACT:
            if credit is None:
                acc = x.reshape(-1, x.shape[2]).astype(np.float32).dot(self._columns).astype(np.int32)
                return acc.reshape(len(x), *self.outputs), synops, arrived
            acc = np.empty((len(x), *self.outputs), np.int32)
            lives = credit > 0
            acc[lives] = x[lives].astype(np.float32).dot(self._columns)
            return acc, synops, arrived
        if self.groups == 1 and wide < FLOAT_EXACT:
            # taps beyond the edge read the last position, zeros
            padded = np.zeros((len(x), self.inputs[0] + 1, self.inputs[1]), np.float32)
            padded[:, :-1] = x
            patches = padded[:, self._patches].reshape(len(x) * self.outputs[0], -1)
            return patches.dot(self._rows).astype(np.int32).reshape(len(x), *self.outputs), synops, arrived
        sums = self.current(x)
        return sums.astype(np.int32) if wide < (1 << 31) else sums, synops, arrived

    def event_driven(self, merged: Merged) -> bool:
        """Whether adding event by event is faster than a matrix product for these inputs.

        It is where few inputs are active, or where there is less to add than starting a product costs.
        """
        if merged.low < 0 or merged.high > gather.UNITS:  # each event's weights are multiplied
            sparse = merged.found < (0.05 if self.weight.shape[1] >= 16 else 0.15) * merged.total.size
        else:
            sparse = merged.units < self.share * merged.total.size or merged.units * self.reach < FEW_ADDS
        return sparse and self.narrow and self.bound * merged.peak < (1 << 31)

    def arguments(self, merged: Merged, credit: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """The arguments of `gather.sums` and `gather.spiking` up to the weights; None where only `scatter` applies."""
        if merged.total.shape[1:] != self.inputs:
            flat = merged.total.reshape(-1, *self.inputs)
            merged = Merged(flat, merged.events.sum(1, keepdims=True), merged.found, merged.high, merged.low, merged.units)
        lists = None if self.groups > 1 else merged.lists
        if lists is None:
            return None
        weight = self.inward[3] if lists[1].size else self.sets
        return merged.total, *lists, credit, self.fan, merged.events, *self.inward[:3], weight

    @cached_property
    def reach(self) -> float:
        """Synapses that leave an input, on average."""
        return float(self.fan.mean())

    @cached_property
    def inward(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Arrays of `gather`: range of sources by output position, sources, their taps; weights [taps * inputs, lanes]."""
        start, target, tap, lanes = self.synapse_arrays
        source = np.repeat(np.arange(self.inputs[0]), np.diff(start))
        order = np.argsort(target, kind="stable")
        begin = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=self.outputs[0]))])
        return begin, source[order], tap[order], padded(lanes.reshape(-1, lanes.shape[2]))

    @cached_property
    def ends(self) -> np.ndarray:
        """Sources and taps of `inward`, one after the other."""
        return np.concatenate(self.inward[1:3])

    @cached_property
    def sets(self) -> np.ndarray:
        """Sums of the weights of every set of input channels (`gather.coded`), int16 [taps * 2^channels, lanes]; for a few channels."""
        channels = self.inputs[1]
        lanes = self.synapse_arrays[3]
        chosen = (np.arange(1 << channels)[:, None] >> np.arange(channels) & 1).astype(bool)
        table = np.stack([lanes[:, c].sum(1, dtype=np.int64) for c in chosen], 1)
        return padded(table.reshape(-1, len(self.weight)))

    @cached_property
    def plan(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """The constant arguments of `scatter.scatter` from `start` on."""
        return *self.synapse_arrays, self.weight.shape[1]

    @cached_property
    def _pointwise(self) -> bool:
        plain = (self.up, self.stride, self.padding, self.groups) == ((1, 1), (1, 1), (0, 0), 1)
        return self.weight.shape[2:] == (1, 1) and (plain or self.inputs[0] == self.outputs[0] == 1)

    @cached_property
    def _patches(self) -> np.ndarray:
        """Input position that each output sees through each tap, int64 [out positions * taps]."""
        kh, kw = self.weight.shape[2:]
        seen = np.full((*self.out_grid, kh * kw), self.inputs[0])
        for dy, dx, oy, ox, iy, ix in self.joined:
            seen[oy[:, None], ox[None], dy * kw + dx] = iy[:, None] * self.grid[1] + ix[None]
        return seen.ravel()

    @cached_property
    def _rows(self) -> np.ndarray:
        """Weights float32 [taps * in channels, out channels]."""
        return np.ascontiguousarray(self._float.transpose(2, 3, 1, 0).reshape(-1, len(self.weight)))

    @cached_property
    def _columns(self) -> np.ndarray:
        return np.ascontiguousarray(self._float[:, :, 0, 0].T)

    def accumulate(self, alu: Alu, x: np.ndarray) -> np.ndarray:
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
    return Taps(turned[:, :, ::-1, ::-1], grid, (size[0], size[1]), stride, (1, 1), frame, dilation, groups)
