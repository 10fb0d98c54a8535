"""Counts of a run as they are written: rows and columns that hold any, each column as wide as its largest number. All else is zero.

A net that exits leaves most timesteps empty, most ops use few of the counters, and a digit's counts mostly fit one byte: what is written
is a fifth to a tenth of what is counted, and writing a file costs more than packing it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WIDTHS = (1, 2, 4, 8)  # bytes of an unsigned integer


def narrow(values: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds them: less to write."""
    if not values.size:
        return values
    return values.astype(np.promote_types(*(np.min_scalar_type(int(v)) for v in (values.min(), values.max()))))


def packed_counts(counts: np.ndarray, exit_step: np.ndarray) -> dict[str, Any]:
    """Arrays by name, from which `unpacked_counts` makes counts int64 [samples, timesteps, ops, counters] again.

    What lies behind a sample's exit is not looked at: it is 0, and memory that no run has touched.
    """
    ran = (np.arange(counts.shape[1]) < exit_step[:, None]).ravel()
    flat = np.ascontiguousarray(counts, np.int64).reshape(counts.shape[0] * counts.shape[1], counts.shape[2] * counts.shape[3])
    flat = flat.view(np.uint64)  # what is below 0, and so no count, takes eight bytes and is what it was when it is read
    flat = flat if ran.all() else flat.compress(ran, 0)
    rows, most = np.bitwise_or.reduce(flat, 1) != 0, flat.max(0, initial=0)
    width = sum((most > limit).astype(np.uint8) * more for limit, more in ((0, 1), (0xFF, 1), (0xFFFF, 2), (0xFFFFFFFF, 4)))
    held = flat if rows.all() else flat.compress(rows, 0)
    if held.size:
        held = held.astype(np.min_scalar_type(int(most.max())))
    ran[ran] = rows
    columns = {w: np.flatnonzero(width == w) for w in WIDTHS}
    return {
        "counts_shape": counts.shape[:2], "counts_rows": np.packbits(ran), "counts_width": np.reshape(width, counts.shape[2:]),
        **{f"counts/{w}": held.take(at, 1).astype(f"u{w}", copy=False) for w, at in columns.items() if len(at)},
    }  # fmt: skip


def unpacked_counts(shape: tuple[int, int], rows: np.ndarray, width: np.ndarray, held: dict[int, np.ndarray]) -> np.ndarray:
    """Counts int64 [samples, timesteps, ops, counters].

    Parameters
    ----------
    shape : samples, timesteps
    rows : bool [samples * timesteps], which hold any
    width : int [ops, counters], bytes of each column, 0 where there are none
    held : by width, integers [rows that hold any, columns of this width]

    Raises
    ------
    ValueError
        Where these contradict each other.
    """
    whole = np.zeros((len(rows), width.size), np.int64)
    at = np.flatnonzero(rows)
    for w, values in held.items():
        columns = np.flatnonzero(width == w)
        if values.shape != (len(at), len(columns)):
            raise ValueError(f"counts of {w} bytes are {list(values.shape)}, not {[len(at), len(columns)]}")
        whole[at[:, None], columns] = values
    return whole.reshape(*shape, *width.shape)
