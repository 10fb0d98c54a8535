"""The places where an HDF5 file keeps its texts: damaged ones send libhdf5 into a loop without end, so they are checked before it looks."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from spikegate.errors import DeployError
from spikegate.reading.pieces import found

START = b"GCOL\x01\0\0\0"  # signature and version of a collection; its size in bytes follows
HEAD = 16  # bytes of a collection's head, and of the head of each text in it


def check_heaps(path: Path) -> None:
    """Every collection of texts lies within the file, its parts within it, one after the other, and no two collections overlap."""
    with path.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        left = size // HEAD  # parts that there is place for
        for at in found(f.fileno(), size, START):
            parts = _parts(f.fileno(), at, size, left)
            left -= parts
            if not parts or left < 0:
                raise DeployError(str(path), "is damaged where it keeps its texts", "get the file again from where it comes from")


def _parts(file: int, at: int, size: int, most: int) -> int:
    """Parts of the collection at `at`, its head among them; 0 if it is damaged. Counts no further than `most`."""
    head = os.pread(file, HEAD, at)
    (length,) = struct.unpack_from("<Q", head, 8) if len(head) == HEAD else (0,)
    if not HEAD <= length <= size - at:
        return 0
    end, here, parts = at + length, at + HEAD, 1
    while here + HEAD <= end and parts <= most:
        index, _, _, long = struct.unpack("<HHIQ", os.pread(file, HEAD, here))
        step = long if index == 0 else HEAD + (long + 7) // 8 * 8  # what has index 0 is free, and counts its own head
        if not HEAD <= step <= end - here:  # a step of 0 is the loop
            return 0
        here, parts = here + step, parts + 1
    return parts
