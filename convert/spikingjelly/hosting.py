"""What the host computes of the image: one or several integer convolutions, laid into one map of channels, and their way onto the chip.

A coarser map than the finest lies in it folded (f x f positions hold one position's channels); one whose values are larger
than the range of host values is sent in parts that add up to it again. See `spikegate.formats.host.HostConv`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikegate.convert.spikingjelly.plan import Grid, Synapses
from spikegate.formats.host import HostConv, host_bound, write_host
from spikegate.graph.ir import INPUT, DeployError, Graph
from spikegate.ops.inject import Inject
from spikegate.ops.route import Route
from spikegate.synapses.synapse import FLOAT_EXACT, windows

REPLAY = "host.replay"
FINE_BITS = 12  # below a mantissa, for the host's weights; fewer where float32 would not be exact
COARSEST = 0.05  # relative error of the host's rounded weights beyond which an import is refused


@dataclass(frozen=True)
class RawPixels:
    """Raw pixels 0 .. `levels`; the model was trained on ``gain * pixel + shift``, each [channels]."""

    levels: int
    gain: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, eq=False)
class HostMap:
    """One convolution and what its readers see of it: `channels` on `grid`, its own ones from `at` on; `most`: the largest |value| sent."""

    name: str
    conv: HostConv
    grid: Grid
    channels: int
    most: int
    at: int = 0


def affine(s: Synapses, pixels: RawPixels) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias (of each place, where an offset meets padding) for raw pixels."""
    s = s.rows(np.arange(len(s.weight))) if s.groups > 1 else s
    weight, bias = s.weight * pixels.gain[:, None, None], s.bias
    if pixels.shift.any():
        more = _constant(s, pixels.shift) if any(s.padding) else (s.weight * pixels.shift[:, None, None]).sum((1, 2, 3))
        wide = max(more.ndim, bias.ndim)
        more, bias = (v.reshape(*v.shape, *[1] * (wide - v.ndim)) for v in (more, bias))
        bias = bias + more
    return weight, bias


def reach(s: Synapses, pixels: RawPixels) -> float:
    """Largest |current| that an image can cause."""
    weight, bias = affine(s, pixels)
    rows, edge = weight.reshape(len(weight), -1), bias.reshape(len(bias), -1)
    above, below = (np.maximum(sign * rows, 0).sum(1) * pixels.levels + (sign * edge).max(1) for sign in (1, -1))
    return max(float(above.max()), float(below.max()))


def host_map(name: str, s: Synapses, scale: float, pixels: RawPixels, parts: int = 1) -> HostMap:
    """The map in integers, ``scale`` mantissas for a float 1."""
    if s.padding[0] != s.padding[1]:
        raise DeployError(name, "a convolution of the image has uneven padding", "use the same padding in both directions")
    weight, bias = affine(s, pixels)
    bits = FINE_BITS
    while True:
        unit = scale * 2.0**bits
        w, b = np.round(weight * unit).astype(np.int64), np.round(bias * unit + 2.0 ** (bits - 1)).astype(np.int64)
        if host_bound(w, b, pixels.levels) < FLOAT_EXACT or bits == 0:
            break
        bits -= 1
    error = np.linalg.norm(w - weight * unit) / max(float(np.linalg.norm(weight * unit)), 1e-12)
    if weight.any() and error > COARSEST:
        what = f"what the host computes of the image for it loses {100 * error:.0f} % of its weights to rounding"
        raise DeployError(name, what, "use smaller images, or put neurons before it")
    most = int(scale * reach(s, pixels)) + 1
    conv = HostConv(w, b, bits, s.stride, s.padding[0], parts)
    return HostMap(name, conv, s.out_grid, len(w), most // parts + 2 if parts > 1 else most)


def _constant(s: Synapses, value: np.ndarray) -> np.ndarray:
    """Sums [out, height, width] that an image of one constant colour causes, borders padded with zeros."""
    even = np.broadcast_to(value, (1, s.grid[0] * s.grid[1], len(value)))
    patches = windows(even, s.grid, s.weight.shape[2:], s.stride, s.padding)[0]  # type: ignore[arg-type]
    return (patches @ s.weight.transpose(0, 2, 3, 1).reshape(len(s.weight), -1).T).T.reshape(-1, *s.out_grid)


@dataclass(frozen=True, eq=False)
class HostLayer:
    """All maps as one: ``clip(floor((W * x + b) 2^-shift), low, high)`` of uint8 pixels on the finest map's grid."""

    maps: list[HostMap]
    low: int
    high: int

    @property
    def grid(self) -> Grid:
        return max(m.grid for m in self.maps)

    @property
    def shape(self) -> tuple[int, int]:
        """(positions, channels) of what is sent."""
        return self.grid[0] * self.grid[1], sum(m.conv.channels for m in self.maps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(m.grid[0] * m.grid[1] * m.conv.weight.size for m in self.maps)

    @property
    def parameters(self) -> int:
        return sum(m.conv.weight.size + m.conv.bias.size for m in self.maps)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """What the host sends for images uint8 [N, C, H, W], int32 [N, positions, channels]; the ONNX file computes the same."""
        return np.clip(np.concatenate([m.conv.encode(images) for m in self.maps], -1), self.low, self.high).astype(np.int32)

    def write(self, path: Path, image_shape: tuple[int, int, int], levels: int) -> int:
        """Write it as ONNX; returns the proven bound."""
        c = self.maps[0].conv
        return write_host(path, weight=c.weight, bias=c.bias, shift=c.shift, low=self.low, high=self.high, stride=c.stride,
                          padding=c.padding, image_shape=image_shape, pixels=levels, more=[m.conv for m in self.maps[1:]])  # fmt: skip


def side_by_side(maps: list[HostMap]) -> HostLayer:
    """The maps laid on the finest one's grid, without channels that are always 0; the first must be of the finest."""
    maps = sorted(maps, key=lambda m: m.grid, reverse=True)
    most = max(m.most for m in maps)
    if len(maps) > 1:
        maps = [_folded(m, maps[0].grid) for m in maps]
    return HostLayer(maps, -most - 1, most)


def _folded(m: HostMap, fine: Grid) -> HostMap:
    fold = fine[0] // m.grid[0]
    if (m.grid[0] * fold, m.grid[1] * fold) != fine:
        what = f"the host's map of {m.grid[0]} x {m.grid[1]} positions does not fold onto the one of {fine[0]} x {fine[1]}"
        raise DeployError(m.name, what, "use strides that divide the image, and square images where class scores are read from the image")
    c = m.conv
    still = np.floor(c.bias.reshape(len(c.bias), -1) * 2.0**-c.shift) == 0
    used = np.flatnonzero(c.weight.any((1, 2, 3)) | ~still.all(1)) if c.parts == 1 else np.arange(m.channels)
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    own = (last - first) * c.parts
    rows = -(-own // fold**2) * fold**2
    at = min(first, max(0, m.channels - rows))
    silent = first - at, rows - own - (first - at)
    conv = dataclasses.replace(c, weight=c.weight[first:last], bias=c.bias[first:last], silent=silent, fold=fold)
    return dataclasses.replace(m, conv=conv, at=at)


def add_replays(graph: Graph, host: HostLayer) -> dict[str, str]:
    """Append, for each map, its wiring and the op that holds it; their names by the maps'."""
    if len(host.maps) == 1 and host.maps[0].conv.parts == 1:
        (m,) = host.maps
        return {m.name: graph.add(REPLAY, Inject(host.shape, host.low, host.high), x=INPUT)}
    found, first = {}, 0
    for m in host.maps:
        c, places = m.conv, m.grid[0] * m.grid[1]
        wide = max(c.rows, m.channels)
        name = graph.add(f"host.{m.name}", Route(host.grid, first, c.channels, wide, host.low, host.high, c.fold, m.at), x=INPUT)
        names, first = [name], first + c.channels
        if wide > m.channels:
            slices = [Route(m.grid, j * m.channels, m.channels, m.channels, host.low, host.high) for j in range(c.parts)]
            names = [graph.add(f"{name}.part{j + 1}", op, x=name) for j, op in enumerate(slices)]
        held = Inject((places, m.channels), c.parts * host.low, c.parts * host.high)
        found[m.name] = graph.add(f"{name}.replay", held, x=names)
    return found
