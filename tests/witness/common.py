"""What all ops of the witness are called with and return."""

from __future__ import annotations

from typing import Any

import numpy as np

Fields = dict[str, Any]
State = dict[str, Any]
Slots = dict[str, list[np.ndarray]]  # slot -> what its sources send, each int64 [*shape]
Result = tuple[np.ndarray, dict[str, int]]  # output and the counters that are not 0

SKIP, OPEN, MUTE, HOLD = 0, 1, 2, 3


def nz(arrays: list[np.ndarray]) -> int:
    """Events in all sources together, each source apart."""
    return sum(int(np.count_nonzero(a)) for a in arrays)


def living(slots: Slots, tokens: int) -> np.ndarray:
    """Which tokens live, bool [tokens]."""
    return slots["alive"][0] > 0 if "alive" in slots else np.ones(tokens, bool)


def in_patches(lives: np.ndarray, height: int, width: int) -> np.ndarray:
    """Which positions of a map live whose tokens have square patches of it, bool [height * width]."""
    for side in range(1, height + width):
        rows, columns = (height + side - 1) // side, (width + side - 1) // side
        if rows * columns == len(lives):
            return lives.reshape(rows, columns).repeat(side, 0).repeat(side, 1)[:height, :width].ravel()
    raise ValueError("no patches")


def masked(arrays: list[np.ndarray], lives: np.ndarray) -> list[np.ndarray]:
    """Maps with the rows of tokens that do not live set to 0."""
    return [np.where(lives[:, None], a, 0) for a in arrays]


def held(slots: Slots) -> bool:
    """Whether the neurons integrate without firing."""
    return "open" in slots and int(slots["open"][0][0]) == HOLD


def once(fields: Fields, make: Any) -> Any:
    """What `make` builds from an op's constants, built at the first call."""
    if "built" not in fields:
        fields["built"] = make()
    return fields["built"]
