"""What ops receive in a timestep: sums and counts of their sources, living tokens, words of timestep masks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from convert import kernels, scatter

SKIP, OPEN, MUTE, HOLD = 0, 1, 2, 3  # words of a timestep mask on slot `open`: see ops/timestep_gate.py
Inputs = dict[str, Any]  # slot -> array, or tuple of arrays for the many-source slot "x"; absent slots are missing


def delayed(source: str) -> str:
    """Name under which a source's output of the timestep before travels."""
    return f"delayed:{source}"


class Sources(tuple):
    """Arrays of a many-source slot; their sum and the events in them are worked out once for all ops that read the same ones."""

    _merged: tuple[np.ndarray, np.ndarray, int, int] | None = None

    @property
    def merged(self) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Sum int32 [rows, positions, channels], non-zero values of all sources at each position, their number, largest |sum|."""
        if self._merged is not None:
            return self._merged
        arrays = [np.ascontiguousarray(x, np.int32).reshape(len(x), -1, x.shape[-1]) for x in self]
        total, events = arrays[0], np.empty(arrays[0].shape[:2], np.int32)
        found, peak = scatter.first(total, events)
        for x in arrays[1:]:
            into = np.empty_like(x) if total is arrays[0] else total
            more, peak = scatter.added(total, x, into, events)
            total, found = into, found + more
        self._merged = total, events, found, peak
        return self._merged


def total(sources: tuple[np.ndarray, ...]) -> np.ndarray:
    """Sum of a slot's sources, int32."""
    if len(sources) == 1:
        return sources[0]
    if isinstance(sources, Sources):
        return sources.merged[0].reshape(sources[0].shape)
    out = sources[0].astype(np.int32)
    for more in sources[1:]:
        out += more
    return out


def merged(sources: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray, int, int]:
    """`Sources.merged` of a slot's sources."""
    return (sources if isinstance(sources, Sources) else Sources(sources)).merged


def per_sample(values: np.ndarray) -> np.ndarray:
    """Sum over all but the first axis, int64 [batch]."""
    return kernels.sums(values.reshape(len(values), -1))


def held(inputs: Inputs) -> np.ndarray | None:
    """Samples whose neurons integrate without firing in this timestep, bool [batch]; None where no mask is connected."""
    return inputs["open"][:, 0] == HOLD if "open" in inputs else None


def credit_of(inputs: Inputs) -> np.ndarray | None:
    """Credit of each token int32 [rows, tokens], or None where none is connected."""
    return np.ascontiguousarray(inputs["alive"], np.int32) if "alive" in inputs else None


def updates(credit: np.ndarray | None, rows: int, tokens: int, channels: int) -> np.ndarray:
    """Neurons that are updated in each row, int64 [rows]."""
    return np.full(rows, tokens * channels) if credit is None else kernels.living(credit) * channels


def living(sources: tuple[np.ndarray, ...], inputs: Inputs) -> tuple[np.ndarray, ...]:
    """Sources [batch, tokens, ...] without the dead tokens of slot ``alive``; as they are where none is connected."""
    return tuple(x * (inputs["alive"] > 0)[..., None] for x in sources) if "alive" in inputs else sources


def nonzero(sources: Iterable[np.ndarray]) -> np.ndarray:
    """Number of events of a slot's sources, int64 [batch]."""
    return sum(kernels.nonzeros(s.reshape(len(s), -1)) for s in sources)
