"""The places where an HDF5 file keeps its texts: damaged ones send libhdf5 into a loop without end, so they are checked before it looks."""

from __future__ import annotations

import struct
from pathlib import Path

from spikegate.errors import DeployError

START = b"GCOL\x01\0\0\0"  # signature and version of a collection; its size in bytes follows
HEAD = 16  # bytes of a collection's head, and of the head of each text in it


def check_heaps(path: Path) -> None:
    """Every collection of texts lies within the file, and its parts within it, one after the other."""
    data = path.read_bytes()
    at = data.find(START)
    while at >= 0:
        (size,) = struct.unpack_from("<Q", data, at + 8) if at + HEAD <= len(data) else (0,)
        end, here, whole = at + size, at + HEAD, HEAD <= size <= len(data) - at
        while whole and here + HEAD <= end:
            index, _, _, length = struct.unpack_from("<HHIQ", data, here)
            step = length if index == 0 else HEAD + (length + 7) // 8 * 8  # what has index 0 is free, and counts its own head
            whole, here = HEAD <= step <= end - here, here + step  # a step of 0 is the loop
        if not whole:
            raise DeployError(str(path), "is damaged where it keeps its texts", "get the file again from where it comes from")
        at = data.find(START, at + 1)
