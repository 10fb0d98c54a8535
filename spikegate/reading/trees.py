"""The search trees of an HDF5 file: siblings that lead back send libhdf5 into a loop without end, so they are checked before."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from spikegate.errors import DeployError
from spikegate.reading.pieces import found

SIGNATURE, SUPERBLOCK = b"TREE", b"\x89HDF\r\n\x1a\n"
NODE = struct.Struct("<4sBBHQQ")  # signature, kind, level, entries, left and right sibling
KINDS = (0, 1)  # of groups, of chunks
MOST = 1 << 20  # nodes with a sibling; a file of the largest size that is read has a hundredth of it


def check_trees(path: Path) -> None:
    """Whoever goes from sibling to sibling to the right comes to an end."""
    with path.open("rb") as f:
        file, size = f.fileno(), os.fstat(f.fileno()).st_size
        base = next((at for at in _places(size) if os.pread(file, len(SUPERBLOCK), at) == SUPERBLOCK), 0)
        right: dict[int, int] = {}
        for at in found(file, size, SIGNATURE):
            head = os.pread(file, NODE.size, at)
            if len(head) == NODE.size:
                _, kind, _, _, _, sibling = NODE.unpack(head)
                if kind in KINDS and sibling < size - base:
                    right[at] = base + sibling
            if len(right) > MOST:
                raise _damaged(path)
    ended: set[int] = set()
    for start in right:
        chain: set[int] = set()
        here: int | None = start
        while here is not None and here not in ended:
            if here in chain:
                raise _damaged(path)
            chain.add(here)
            here = right.get(here)
        ended |= chain


def _places(size: int) -> list[int]:
    """Where a file of HDF5 may begin: at 0, or after a block of the user's own, of 512 bytes times a power of two."""
    return [0, *(512 << k for k in range(max(0, size.bit_length() - 9)))]


def _damaged(path: Path) -> DeployError:
    what = "is damaged: a search tree of its groups or chunks leads back to itself"
    return DeployError(str(path), what, "get the file again from where it comes from")
