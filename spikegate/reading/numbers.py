"""The one way in for numbers of files and callers: whole, finite, within 32 bits; nothing is cut or rounded."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.errors import DeployError

HIGH = 2**31 - 1
LOW = -HIGH  # int32's least number has no opposite: abs() of it is negative
FOREIGN = "the file is damaged or foreign"


def integers(value: Any, where: str, *, low: int = LOW, high: int = HIGH) -> np.ndarray:
    """Numbers as int32; a DeployError under `where` for other types, fractions, NaN and numbers outside `low` .. `high`."""
    given = np.asarray(value)
    if given.dtype.kind not in "iuf" or given.dtype.itemsize > 8:
        raise DeployError(where, f"has type {given.dtype}, not numbers", FOREIGN)
    if not given.size:
        return given.astype(np.int32)
    if given.dtype.kind == "f":
        if not np.isfinite(given).all():
            raise DeployError(where, "holds NaN or infinity", "check the training; nothing was converted")
        if (given != np.rint(given)).any():
            raise DeployError(where, "holds fractions, a chip takes integers", "export with quantised weights (pre_hook_fx)")
    least, most = given.min().item(), given.max().item()
    if least < low or most > high:
        odd = int(least) if least < low else int(most)
        raise DeployError(where, f"holds {odd}, outside {low} .. {high}", "scale the net down; nothing was cut to fit")
    return given.astype(np.int32)


def integer(value: Any, where: str, *, low: int = LOW, high: int = HIGH) -> int:
    """One whole number of at most 32 bits, alone or as an array of one."""
    given = integers(value, where, low=low, high=high)
    if given.size != 1:
        raise DeployError(where, f"has {given.size} values, not one", FOREIGN)
    return int(given.flat[0])


def int32(value: np.ndarray, where: str) -> np.ndarray:
    """Whole numbers that we computed, as int32; a DeployError instead of cutting those that do not fit."""
    return integers(value, where)


def wide(value: np.ndarray, where: str) -> np.ndarray:
    """Whole numbers that fit 32 bits, as int64, to be added up without a second thought."""
    return integers(value, where).astype(np.int64)
