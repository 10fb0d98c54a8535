"""Search trees whose siblings lead back: libhdf5 would follow them for ever, so the file is refused before it looks."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikegate.errors import DeployError
from spikegate.reading import hdf5
from spikegate.reading.trees import check_trees

RIGHT = 16  # bytes from a node's begin to its right sibling


def tree_file(path: Path, userblock: int) -> list[int]:
    """A file with trees of groups and of 200 chunks; returns the offsets of its nodes."""
    with h5py.File(path, "w", userblock_size=userblock) as f:
        for k in range(20):
            f.create_group(f"g{k}")
        f.create_dataset("chunks", data=np.arange(20_000).reshape(100, 200), chunks=(10, 10), compression="gzip")
    data = path.read_bytes()
    return [at for at in range(len(data)) if data[at : at + 4] == b"TREE"]


@pytest.mark.parametrize("userblock", [0, 512, 2048])
def test_every_circle_of_siblings_is_refused_and_the_good_file_is_read(tmp_path, userblock):
    path = tmp_path / "m.net"
    nodes = tree_file(path, userblock)
    whole = path.read_bytes()
    with hdf5.opened(path, "file", "x") as f:
        assert len(f) == 21 and len(nodes) > 10
    chains = [at for at in nodes if struct.unpack_from("<Q", whole, at + RIGHT)[0] < len(whole)]
    assert chains, "no node has a sibling: the file is too small for this test"
    for first, last in [(at, at) for at in nodes] + [(a, b) for a in chains for b in chains if a != b]:
        data = bytearray(whole)
        struct.pack_into("<Q", data, first + RIGHT, last - userblock)
        struct.pack_into("<Q", data, last + RIGHT, first - userblock)
        path.write_bytes(data)
        with pytest.raises(DeployError, match="leads back to itself"), hdf5.opened(path, "file", "x"):
            pass


def test_a_long_chain_is_followed_once(tmp_path):
    """100,000 nodes, each the sibling of the one before: every one followed to the end would take 5 * 10^9 steps."""
    path, size = tmp_path / "m.net", 24
    path.write_bytes(b"".join(b"TREE\0\0\0\0" + bytes(8) + struct.pack("<Q", size * (k + 1)) for k in range(100_000)))
    check_trees(path)
