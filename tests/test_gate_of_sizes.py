"""Files that claim or unpack to more than they hold are refused before they fill the memory."""

from __future__ import annotations

import re
import resource
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph
from spikegate.reading import hdf5, limits
from tests.altered_files import altered, net
from tests.test_gate_of_nets import read_apart

BOMBS = [
    ("weight", (1 << 26,), "f8"), ("weight", (1 << 26,), "i1"), ("refDelay", (1 << 27,), "i4"), ("weight", (1 << 28,), "S64"),
    ("type", (1 << 40,), "S4"), ("gradedSpike", (1 << 40,), "i4"),
]  # fmt: skip


@pytest.mark.parametrize("key, shape, kind", BOMBS, ids=[b[0] + b[2] for b in BOMBS])
def test_a_small_file_that_claims_much_is_refused_before_it_is_read(tmp_path, key, shape, kind):
    def grow(f, folder):
        name = "layer/1/weight" if key == "weight" else f"layer/1/neuron/{key}"
        if name in f:
            del f[name]
        f.create_dataset(name, shape, kind, chunks=(1 << 16,), compression="gzip")

    path = altered(tmp_path / "m.net", grow)
    assert path.stat().st_size < 30_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DeployError, match=r"MiB of memory.*\n.*SPIKEGATE_READ_MIB"):
        read_graph(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_large_file_with_more_values_than_any_layer_is_not_read(tmp_path, monkeypatch):
    """Found by fuzzing: 256 MiB of int8 in one array would be 1.3 GB once they are 32-bit integers."""
    monkeypatch.setattr(limits, "VALUES", 999)

    def many(f, folder):
        f["beside"] = np.ones((10, 100), np.int8)

    with pytest.raises(DeployError, match=r"beside: has 1,000 values.*\n.*999 at most"):
        read_graph(altered(tmp_path / "m.net", many))


def test_many_texts_in_one_place_are_counted(tmp_path):
    def many(f, folder):
        f.create_dataset("beside", (30_000,), h5py.string_dtype())

    with pytest.raises(DeployError, match="30000 texts"):
        read_graph(altered(tmp_path / "m.net", many))


@pytest.mark.parametrize("value", [0, 8, 1 << 63])
def test_a_damaged_place_of_texts_does_not_hang_libhdf5(tmp_path, value):
    def text(f, folder):
        f.create_dataset("beside", data="a text", dtype=h5py.string_dtype())

    path = altered(tmp_path / "m.net", text)
    read_graph(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL") + 16
    first = int.from_bytes(data[at + 8 : at + 16], "little")
    free = at + 16 + (first + 7) // 8 * 8  # the rest of the collection, whose length must lead to its end
    assert data[free : free + 2] == bytes(2)
    data[free + 8 : free + 16] = value.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(DeployError, match="keeps its texts"):
        read_graph(path)


def test_a_large_chunk_of_a_small_dataset_is_counted(tmp_path):
    def large(f, folder):
        f.create_dataset("beside", (2,), "i4", chunks=(1 << 28,), maxshape=(None,), compression="gzip")

    with pytest.raises(DeployError, match="MiB of memory"):
        read_graph(altered(tmp_path / "m.net", large))


def test_a_packed_part_that_gives_more_than_it_should_is_not_unpacked(tmp_path):
    """4 kB of numbers whose gzipped bytes unpack to 256 MB: libhdf5 would make room for all of them."""

    def bomb(f, folder):
        data = f.create_dataset("beside", (1000,), "i4", chunks=(1000,), compression="gzip", fletcher32=True)
        data.id.write_direct_chunk((0,), zlib.compress(bytes(256 << 20), 9))

    path = altered(tmp_path / "m.net", bomb)
    tracemalloc.start()
    try:
        with pytest.raises(DeployError, match=r"beside: has a part that does not unpack to its 4,000 bytes"):
            read_graph(path)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


PACKED = [{}, {"shuffle": True}, {"fletcher32": True}, {"compression_opts": 9, "shuffle": True, "fletcher32": True}]


@pytest.mark.parametrize("packed", PACKED)
def test_parts_that_unpack_to_what_they_should_pass(tmp_path, packed):
    def well(f, folder):
        f.create_dataset("beside", data=np.random.default_rng(0).integers(0, 99, (130, 70)), chunks=(64, 64), compression="gzip", **packed)

    read_graph(altered(tmp_path / "m.net", well))


def test_a_text_whose_length_is_damaged_fills_no_memory(tmp_path):
    """Found by fuzzing: libhdf5 makes room for the length that stands beside a text's place before it looks there."""

    def text(f, folder):
        f["layer/0"].attrs["beside"] = "a text of its own"

    path = altered(tmp_path / "m.net", text)
    data = bytearray(path.read_bytes())
    length = len(b"a text of its own").to_bytes(4, "little")
    places = [m.start() for m in re.finditer(b"GCOL", data)]
    (at,) = (found for place in places if (found := data.find(length + place.to_bytes(8, "little"))) >= 0)  # its length, then its place
    data[at : at + 4] = (1_000_000_000).to_bytes(4, "little")
    path.write_bytes(data)
    said, peak = read_apart(path)
    assert said.startswith("DeployError") and "not a readable NetX HDF5 file" in said and peak < 700_000


def test_the_limit_can_be_raised_and_a_large_file_needs_none(tmp_path, monkeypatch):
    assert limits.allowed(10 << 30) >= 10 << 30
    monkeypatch.setenv(limits.VARIABLE, "1")
    path = net(tmp_path / "m.net", weight=np.zeros((1, 1 << 18), np.int32))
    with pytest.raises(DeployError, match="MiB of memory"):
        hdf5.opened(path, "NetX HDF5 file", "x").__enter__()
    monkeypatch.setenv(limits.VARIABLE, "8")
    hdf5.opened(path, "NetX HDF5 file", "x").__enter__()
    monkeypatch.setenv(limits.VARIABLE, "much")
    with pytest.raises(DeployError, match=r"(?s)SPIKEGATE_READ_MIB.*number of MiB"):
        read_graph(path)
