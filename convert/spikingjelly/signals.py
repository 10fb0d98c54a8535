"""What a traced tensor is made of: every element knows which neuron's signal it carries.

A signal's `index` has the tensor's shape and holds, for each element, the number ``((t B + b) P + p) C + c`` of what it
carries (timestep, sample, position, channel; without t where it is constant in time). Whatever only moves elements
(reshape, permute, flatten, ...) is applied to the index as it is to the tensor, so no layout has to be guessed: a layer
checks the numbers that reach it. A tensor whose axis 0 mixes samples into time shows here, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.plan import Grid, Refused, Synapses


@dataclass(eq=False)
class Node:
    """What the numbers of an index refer to: maps (positions, channels) of samples and timesteps."""

    positions: int
    channels: int
    grid: Grid

    @property
    def size(self) -> int:
        return self.positions * self.channels


@dataclass(eq=False)
class Image(Node):
    """``gain * image + shift``, the same in every timestep; gain [channels], shift [positions, channels]."""

    gain: np.ndarray
    shift: np.ndarray

    @classmethod
    def plain(cls, c: int, h: int, w: int) -> Image:
        return cls(h * w, c, (h, w), np.ones(c), np.zeros((h * w, c)))


@dataclass(eq=False)
class Current(Node):
    """A sum of linear maps, not yet through neurons."""

    inputs: tuple[Synapses, ...]

    @property
    def constant(self) -> bool:
        return all(s.from_image for s in self.inputs)


@dataclass(eq=False)
class Spikes(Node):
    """Sum of the spikes of these layers."""

    sources: tuple[str, ...]

    @property
    def one(self) -> str:
        if len(self.sources) != 1:
            raise Refused(f"takes the sum of {len(self.sources)} spike maps, which is not binary", "put neurons on the sum first")
        return self.sources[0]


@dataclass(eq=False)
class Beside(Node):
    """Spikes of several layers, their channels one after the other."""

    parts: tuple[Spikes, ...]


@dataclass(eq=False)
class Complement(Node):
    """``1 - s`` of a layer's spikes."""

    source: Spikes


@dataclass(eq=False)
class Padded(Node):
    """Maps with zeros around them, numbered with the zeros; `pads` are top, bottom, left, right."""

    base: Node
    pads: tuple[int, int, int, int]


@dataclass(eq=False)
class Product(Node):
    """First product of an attention, in its own numbers: ``qk`` or ``kv``; `bases` [L] is the first number of each slice."""

    order: str
    first: str
    second: str
    bases: torch.Tensor
    width: int
    scale: float = 1.0


@dataclass(eq=False)
class Attended(Node):
    """``scale * q k^T v``."""

    q: str
    k: str
    v: str
    heads: int
    scale: float = 1.0


@dataclass(eq=False)
class Met(Node):
    """AND of two spike maps, multiplied in module `where`."""

    first: str
    second: str
    where: str


@dataclass(eq=False)
class Mixed(Node):
    """Spikes mixed across tokens, numbered as they are: `matrices` [n, target, source], `which` [channels] (-1: that one is not mixed)."""

    sources: tuple[str, ...]
    matrices: Any
    which: torch.Tensor


@dataclass(eq=False)
class Reduced(Node):
    """Sums over groups of a base's elements, in own numbers: element r is ``scale * sum of base[table[r]]``."""

    base: Node
    table: torch.Tensor  # [elements, members]
    scale: float = 1.0
    window: tuple[int, int] | None = None  # (kernel, stride) of an average over windows of a map


@dataclass(eq=False)
class Gated(Node):
    """Output of memoryless neurons on a `Reduced` sum; ``over`` is "channel" (all positions) or "token" (a head's channels)."""

    reduced: Reduced
    over: str
    width: int


@dataclass(eq=False)
class Logits(Node):
    """Class scores of a sample (`merged`: of these `steps`) or of each timestep: weights [classes, positions, channels] on a base."""

    base: Node
    weight: Any
    bias: Any
    merged: bool = False
    steps: tuple[int, ...] = ()


@dataclass(eq=False)
class Unknown(Node):
    """What comes out of something that cannot be imported; the cause is listed already."""


@dataclass
class Signal:
    """What a tensor carries, and which element carries what."""

    node: Node
    index: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def known(self) -> bool:
        return not isinstance(self.node, Unknown)


def unknown(shape: torch.Size) -> Signal:
    return Signal(Unknown(0, 0, (0, 0)), torch.zeros(shape, dtype=torch.int64))


def alike(a: Any, b: Any) -> bool:
    """Whether two nodes (or what they hold) say the same: a loop over timesteps makes each anew."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(alike, a, b))
    if is_dataclass(a):
        return all(alike(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)


def numbers(shape: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """0, 1, 2, ... in this shape."""
    n = 1
    for s in shape:
        n *= s
    return torch.arange(n).reshape(shape)


def map_bases(index: torch.Tensor, node: Node) -> torch.Tensor | None:
    """For maps [rows, channels, height, width] in order: which map each row holds (t B + b), [rows]; None if out of order."""
    _, c, h, w = index.shape
    if c != node.channels or h * w != node.positions:
        return None
    start = index[:, 0, 0, 0]
    inside = torch.arange(h * w).reshape(1, 1, h, w) * c + torch.arange(c).reshape(1, c, 1, 1)
    ordered = bool((start % node.size == 0).all()) and torch.equal(index, start.reshape(-1, 1, 1, 1) + inside)
    return start // node.size if ordered else None


def slice_bases(index: torch.Tensor, node: Node) -> torch.Tensor | None:
    """For head slices [L, positions, width] in order: the number of each slice's first element, [L]; None if out of order."""
    _, n, width = index.shape
    if n != node.positions or node.channels % width:
        return None
    start = index[:, 0, 0]
    inside = torch.arange(n).reshape(1, n, 1) * node.channels + torch.arange(width)
    first = start % node.size
    ordered = bool((first < node.channels).all() and (first % width == 0).all())
    return start if ordered and torch.equal(index, start.reshape(-1, 1, 1) + inside) else None


def with_signals(value: Any, change: Callable[[Signal], Any]) -> Any:
    """Nested tuples, lists and dicts with `change` of every signal."""
    if isinstance(value, Signal):
        return change(value)
    if isinstance(value, dict):
        return {k: with_signals(v, change) for k, v in value.items()}
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        return type(value)(with_signals(v, change) for v in value) if type(value) in (tuple, list) else value
    return value


def signals_in(value: Any) -> list[Signal]:
    found: list[Signal] = []
    with_signals(value, found.append)
    return found
