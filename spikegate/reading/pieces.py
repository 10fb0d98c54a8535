"""Finds byte strings in an open file, a piece at a time: a large file does not fill the memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

PIECE = 16 << 20  # bytes


def found(file: int, size: int, wanted: bytes) -> Iterator[int]:
    """Offsets of `wanted` in the open file descriptor of `size` bytes, ascending."""
    for begin in range(0, size, PIECE):
        data = os.pread(file, min(PIECE, size - begin) + len(wanted) - 1, begin)
        at = data.find(wanted)
        while at >= 0:
            yield begin + at
            at = data.find(wanted, at + 1)
