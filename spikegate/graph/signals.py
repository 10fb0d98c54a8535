"""What ops receive in a timestep: sums and counts of their sources, living tokens, words of timestep masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np

from spikegate.kernels import counting, gather, scatter

SKIP, OPEN, MUTE, HOLD = 0, 1, 2, 3  # words of a timestep mask on slot `open`: see ops/timestep_gate.py
NO_NUMBERS = np.zeros((0, 0), np.int32)
NO_CREDIT = np.zeros((0, 0), np.int32)  # for compiled loops where no credit is connected
Inputs = dict[str, Any]  # slot -> array, or tuple of arrays for the many-source slot "x"; absent slots are missing
State = dict[str, np.ndarray]  # name -> array [batch, ...], updated in place
Counts = dict[str, np.ndarray]  # counter -> int64 [batch]
Shapes = dict[str, list[tuple[int, ...]]]  # slot -> shape of each source
Problems = Iterator[tuple[str, str]]  # (what is wrong, what to do)


@dataclass(frozen=True)
class Payload:
    """Values that an edge may carry: ``low <= value <= high``. Binary spikes are 0 and 1."""

    low: int
    high: int

    @property
    def binary(self) -> bool:
        return (self.low, self.high) == (0, 1)

    @property
    def bits(self) -> int:
        span = max(abs(self.low), abs(self.high))
        return max(1, int(span).bit_length()) + (self.low < 0)

    def __str__(self) -> str:
        return "binary" if self.binary else f"graded {self.bits} bit [{self.low}, {self.high}]"


@dataclass(frozen=True)
class Size:
    """Size of an op on a chip. `synapses` are counted unrolled; `weight_bits` as stored once."""

    neurons: int = 0
    synapses: int = 0
    weight_bits: int = 0
    state_bits: int = 0


Payloads = dict[str, list[Payload]]  # slot -> payload of each source


def delayed(source: str) -> str:
    """Signal name of a source's output of the previous timestep."""
    return f"delayed:{source}"


@dataclass(eq=False)
class Merged:
    """Sum of a slot's sources and its statistics, computed once for all ops that read the same sources.

    `total` int32 [rows, positions, channels]; `events` int32 [rows, positions], non-zero values of all sources; `found`, their number;
    `high` and `low`, the largest and the least of total and 0; `units`, the sum of total: events where a value n is n of them.
    """

    total: np.ndarray
    events: np.ndarray
    found: int
    high: int
    low: int
    units: int

    @property
    def peak(self) -> int:
        """Largest |total|."""
        return max(self.high, -self.low)

    @cached_property
    def lists(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(lists, offsets) of `gather.listed`, or (codes, empty) of `gather.coded`; None where values are negative or large."""
        rows, positions, channels = self.total.shape
        if self.low < 0 or self.high > gather.UNITS:
            return None
        if self.high <= 1 and channels <= gather.FEW:
            codes = np.empty((rows, positions), np.int32)
            gather.coded(self.total, codes)
            return codes, NO_NUMBERS
        lists = np.empty((rows, positions * channels * max(1, self.high) + gather.BLOCK), np.int32)
        offsets = np.empty((rows, positions + 1), np.int32)
        gather.listed(self.total, self.high, lists, offsets)
        return lists, offsets


class Sources(tuple[np.ndarray, ...]):
    """Arrays of a many-source slot."""

    _merged: Merged | None = None

    @property
    def merged(self) -> Merged:
        """Their sum and the events in them."""
        if self._merged is not None:
            return self._merged
        arrays = [np.ascontiguousarray(x, np.int32).reshape(len(x), -1, x.shape[-1]) for x in self]
        total, events = arrays[0], np.empty(arrays[0].shape[:2], np.int32)
        found, high, low, units = scatter.first(total, events)
        for x in arrays[1:]:
            into = np.empty_like(x) if total is arrays[0] else total
            more, high, low, units = scatter.added(total, x, into, events)
            total, found = into, found + more
        self._merged = Merged(total, events, found, high, low, units)
        return self._merged


def total(sources: tuple[np.ndarray, ...]) -> np.ndarray:
    """Sum of a slot's sources, int32."""
    if len(sources) == 1:
        return sources[0]
    if isinstance(sources, Sources):
        return sources.merged.total.reshape(sources[0].shape)
    out = sources[0].astype(np.int32)
    for more in sources[1:]:
        out += more
    return out


def merged(sources: tuple[np.ndarray, ...]) -> Merged:
    """`Sources.merged` of a slot's sources."""
    return (sources if isinstance(sources, Sources) else Sources(sources)).merged


def per_sample(values: np.ndarray) -> np.ndarray:
    """Sum over all but the first axis, int64 [batch]."""
    return counting.sums(values.reshape(len(values), -1))


def held(inputs: Inputs) -> np.ndarray | None:
    """Samples whose neurons integrate without firing in this timestep, bool [batch]; None where no mask is connected."""
    return inputs["open"][:, 0] == HOLD if "open" in inputs else None


def credit_of(inputs: Inputs) -> np.ndarray | None:
    """Credit of each token int32 [rows, tokens], or None where none is connected."""
    return np.ascontiguousarray(inputs["alive"], np.int32) if "alive" in inputs else None


def updates(credit: np.ndarray | None, rows: int, tokens: int, channels: int) -> np.ndarray:
    """Neurons that are updated in each row, int64 [rows]."""
    return np.full(rows, tokens * channels) if credit is None else counting.alive_tokens(credit) * channels


def only_alive(sources: tuple[np.ndarray, ...], inputs: Inputs) -> tuple[np.ndarray, ...]:
    """Sources [batch, tokens, ...] without the dead tokens of slot ``alive``; as they are where none is connected."""
    return tuple(x * (inputs["alive"] > 0)[..., None] for x in sources) if "alive" in inputs else sources


def summed(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Sum of one or more arrays of the same shape."""
    return reduce(add, arrays)


def nonzero(sources: Iterable[np.ndarray]) -> np.ndarray:
    """Number of events of a slot's sources, int64 [batch]."""
    return summed(counting.nonzeros(s.reshape(len(s), -1)) for s in sources)
