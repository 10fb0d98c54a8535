"""Candidate pairs of a token merge: fixed by the grid, so that nothing is sorted."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def neighbours(grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(kept, absorbed): token numbers of horizontal neighbours, even column and odd column; a last odd one out stays alone."""
    height, width = grid
    numbers = np.arange(height * width).reshape(height, width)
    paired = width - width % 2
    sides = numbers[:, 0:paired:2].ravel(), numbers[:, 1:paired:2].ravel()
    for side in sides:
        side.flags.writeable = False
    return sides
