"""Geometry of layers on maps, and which map the first layer takes where no input layer says it: a net without an input block."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np

from spikegate.formats.netx.stock import kind_of, read_array
from spikegate.graph.ir import DeployError

MAPS = ("conv", "convT", "pool", "unpool")
GROWING = ("convT", "unpool")
SIDE_MAX = 1 << 14  # rows or columns of a map that is looked for


def pair(group: h5py.Group, key: str, where: str, usual: int) -> tuple[int, int]:
    """(rows, columns) of a field that is one number or two."""
    value = read_array(group, key, where, optional=True)
    if value is None:
        return usual, usual
    flat = value.ravel()
    if flat.size not in (1, 2):
        raise DeployError(f"{where}/{key}", f"has {flat.size} values", "give one number, or (rows, columns)")
    return int(flat[0]), int(flat[-1])


def geometry(group: h5py.Group, where: str) -> dict[str, tuple[int, int]]:
    """Stride, padding and dilation of a layer on maps."""
    found = {key: pair(group, key, where, usual) for key, usual in (("stride", 1), ("padding", 0), ("dilation", 1))}
    if min(found["stride"] + found["dilation"]) < 1 or min(found["padding"]) < 0:
        raise DeployError(where, f"has a geometry of {found}", "the file is damaged; export it again")
    return found


class FirstMap:
    """The inputs that a first layer `group` can take: its channels, and rows and columns that give the map that the file states."""

    def __init__(self, group: h5py.Group, where: str) -> None:
        self.kind = kind_of(group)
        out = read_array(group, "shape", where)
        self.out = tuple(int(v) for v in out.ravel())
        real = group["weight"] if isinstance(group.get("weight"), h5py.Dataset) else group["weight/real"]
        self.kernel: tuple[int, ...] = tuple(real.shape[2:4])
        self.stride, self.padding, self.dilation = geometry(group, where).values()
        groups = int(np.prod(group["groups"][()])) if "groups" in group else 1
        inner = real.shape[0] if self.kind == "convT" else real.shape[1] * groups
        self.channels = self.out[0] if self.kind in ("pool", "unpool") else int(inner)

    def size(self, n: int, k: int) -> int:
        """Size of the output along axis `k` for an input of `n`; 0 where there is none. As the blocks: pools work on a tall map."""
        reach = self.dilation[k] * (self.kernel[k] - 1) + 1
        tall = self.channels if self.kind in ("pool", "unpool") and k == 0 else 1
        if self.kind in GROWING:
            found = (tall * n - 1) * self.stride[k] - 2 * self.padding[k] + reach
        else:
            padded = n + n % self.kernel[k] if self.kind == "pool" else n
            found = (tall * padded + 2 * self.padding[k] - reach) // self.stride[k] + 1
        return found // tall if found % tall == 0 else 0

    def sizes(self, k: int) -> list[int]:
        """Every input size along axis `k` that gives the stated one."""
        most = self.out[1 + k] * self.stride[k] + self.dilation[k] * self.kernel[k] + self.kernel[k]
        return [n for n in range(1, min(most, SIDE_MAX) + 1) if self.size(n, k) == self.out[1 + k]]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the layer can take a map (channels, height, width)."""
        return len(shape) == 3 and shape[0] == self.channels and all(shape[1 + k] in self.sizes(k) for k in (0, 1))

    def only(self) -> tuple[int, ...] | None:
        """The map, where there is one that fits, and one only."""
        found = [self.sizes(k) for k in (0, 1)]
        return (self.channels, found[0][0], found[1][0]) if all(len(f) == 1 for f in found) else None


def first_map(layers: Sequence[h5py.Group], where: str) -> FirstMap | tuple[int, ...] | None:
    """What the first layers say about the input: a `FirstMap`, the shape itself, or None where it is stated or does not matter."""
    for i, group in enumerate(layers):
        kind = kind_of(group)
        if kind == "input" and "shape" in group:
            return None
        if kind in MAPS and "weight" in group and "shape" in group:
            if np.size(group["shape"][()]) == 3:
                return FirstMap(group, f"{where}:layer/{i}")
        if kind == "dense" and np.size(group.get("shape", ())) == 3 and np.prod(group["shape"][()][1:]) > 1:
            real = group["weight"] if isinstance(group.get("weight"), h5py.Dataset) else group.get("weight/real")
            if real is not None and real.ndim > 1:
                return int(real.shape[1]), *(int(v) for v in group["shape"][()][1:])
        if kind not in ("input", "flatten"):
            return None
    return None
