"""Credit of tokens on a finer map: the patch of positions that belongs to each token."""

from __future__ import annotations

from functools import cache

import numpy as np

from spikegate.graph.ir import Inputs, Problems, Shapes


def patch_side(grid: tuple[int, int], tokens: int) -> int | None:
    """The smallest side f whose patches are so many; found by halving, for a damaged file may state any grid."""

    def number(f: int) -> int:
        return -(-grid[0] // f) * -(-grid[1] // f)

    low, high = 1, max(1, *grid)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if number(middle) <= tokens else (middle + 1, high)
    return low if number(low) == tokens else None


@cache
def patches(grid: tuple[int, int], tokens: int) -> np.ndarray | None:
    """Token of each position of a map, int64 [height * width]; None where no patch size gives so many tokens.

    A token's patch is ``f x f`` positions, at the lower and right edge what is left of them: a map of stride 1 has ``f = 1``, one that is
    halved on its way to the tokens 2. ``f`` is the smallest that gives ``tokens`` patches.
    """
    f, (height, width) = patch_side(grid, tokens), grid
    if f is None:
        return None
    y, x = np.divmod(np.arange(height * width), width)
    found: np.ndarray = y // f * -(-width // f) + x // f
    found.setflags(write=False)
    return found


def spread(inputs: Inputs, grid: tuple[int, int]) -> np.ndarray | None:
    """Slot ``alive``'s credit for each position of a map, int32 [batch, height * width]; None without that slot."""
    if "alive" not in inputs:
        return None
    credit = inputs["alive"]
    if credit.shape[1] == grid[0] * grid[1]:
        return np.ascontiguousarray(credit, np.int32)
    return np.ascontiguousarray(credit[:, patches(grid, credit.shape[1])], np.int32)


def patch_problems(shapes: Shapes, grid: tuple[int, int]) -> Problems:
    """Credit of a number of tokens that no patches of the map give."""
    for shape in shapes.get("alive", []):
        if len(shape) != 1 or patch_side(grid, shape[0]) is None:
            what = f"credit of shape {shape} does not match a map of {grid[0]} x {grid[1]} positions"
            yield what, "gate and layer need the same tokens, or square patches of positions for each"
