"""The gate in front of every HDF5 file: nothing outside the file, no circles, no more memory than stated, no number cut."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph
from spikegate.formats.netx.pipeline import Pipeline
from spikegate.reading import hdf5, limits
from spikegate.reading.numbers import HIGH, integer, integers
from tests.test_gate_of_nets import read_apart

ROOT = Path(__file__).parents[1]
NEURON = {"type": "CUBA", "iDecay": 4095, "vDecay": 4095, "vThMant": 100}


def net(path: Path, **changes) -> Path:
    """A stock file of two inputs and one neuron, with some of its fields changed."""
    fields = {"weight": np.array([[2, 4]]), **NEURON, **changes}
    with h5py.File(path, "w") as f:
        f["layer/0/type"], f["layer/0/shape"] = np.array([b"input"]), np.array([2])
        f["layer/1/type"], f["layer/1/shape"] = np.array([b"dense"]), np.array([1])
        for key, value in fields.items():
            name = f"layer/1/{key}" if key in ("weight", "bias") else f"layer/1/neuron/{key}"
            f[name] = value
    return path


def altered(path: Path, change) -> Path:
    net(path)
    with h5py.File(path, "a") as f:
        change(f, path.parent)
    return path


def external(f, folder):
    (folder / "secret").write_bytes(b"s3")
    del f["layer/1/weight"]
    f["layer/1"].create_dataset("weight", (1, 2), "u1", external=[(str(folder / "secret"), 0, 2)])


def virtual(f, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = np.array([[2, 4]])
    layout = h5py.VirtualLayout((1, 2), "i8")
    layout[:] = h5py.VirtualSource(folder / "other.h5", "x", (1, 2))
    del f["layer/1/weight"]
    f["layer/1"].create_virtual_dataset("weight", layout)


def unused_external(f, folder):
    f.create_dataset("beside", (1,), "u1", external=[("/etc/hostname", 0, 1)])


def soft(f, folder):
    f["beside"] = h5py.SoftLink("/layer")


def outside(f, folder):
    f["beside"] = h5py.ExternalLink("other.h5", "/")


def circle(f, folder):
    f["layer/1/loop"] = f["/"]


def ladder(f, folder):
    at = f.create_group("wide")
    for _ in range(60):  # 2^60 paths
        inner = at.create_group("a")
        at["b"] = inner
        at = inner


def deep(f, folder):
    f.create_group("/".join("d" * 100))


def plugin(f, folder):
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((2,))
    made.set_filter(32004, h5py.h5z.FLAG_OPTIONAL)  # LZ4, of a plugin
    h5py.h5d.create(f.id, b"beside", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((2,)), made)


def compound(f, folder):
    f["beside"] = np.zeros(2, [("a", "i4")])


def reference(f, folder):
    f.create_dataset("beside", (1,), h5py.ref_dtype)


def named_type(f, folder):
    f["beside"] = np.dtype("i4")


def attribute(f, folder):
    f["layer"].attrs["x"] = np.zeros(2, [("a", "i4")])


ODD = "neither numbers nor text"
REFUSED = {
    external: "external storage", virtual: "virtual", unused_external: "external storage", soft: "link", outside: "link",
    circle: "two names", ladder: "two names", deep: "deep", plugin: "filter 32004", compound: ODD, reference: ODD, attribute: ODD,
    named_type: "neither a group nor a dataset",
}  # fmt: skip


@pytest.mark.parametrize("change", REFUSED, ids=lambda c: c.__name__)
@pytest.mark.parametrize("read", [read_graph, Pipeline], ids=["netx", "pipeline"])
def test_what_leads_out_of_the_file_or_round_in_it_is_refused_by_name(tmp_path, change, read):
    with pytest.raises(DeployError, match=REFUSED[change]):
        read(altered(tmp_path / "m.net", change))


@pytest.mark.parametrize("change", [external, virtual, ladder, circle, plugin], ids=lambda c: c.__name__)
def test_the_same_gate_stands_before_nir_and_pilotnet(tmp_path, change):
    from spikegate.formats.nir.importer import read_nir
    from spikegate.hw_sim.chip.pilotnet import read

    path = altered(tmp_path / "m.h5", change)
    for reader in (read_nir, read):
        with pytest.raises(DeployError, match=REFUSED[change]):
            reader(path)


def test_a_good_file_passes(tmp_path):
    assert read_graph(net(tmp_path / "m.net")).ops["layer1"].weight.tolist() == [[2, 4]]


def test_only_the_gate_opens_files():
    """No other module makes an h5py.File to read, an onnxruntime session or a NumPy archive."""
    allowed = {
        "h5py.File(": {"spikegate/reading/hdf5.py", "spikegate/formats/netx/graph_file.py"},  # the second writes in memory
    }
    for words, homes in allowed.items():
        found = {
            str(p.relative_to(ROOT))
            for top in ("spikegate", "train", "convert", "deploy", "hw_sim")
            for p in (ROOT / top).rglob("*.py")
            if words in p.read_text() and not any((ROOT / q).is_symlink() for q in p.relative_to(ROOT).parents)
        }
        assert found == homes


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


TOO_LARGE = {
    "int64": np.array([[2**32 + 2, 4]]), "uint32": np.array([[2**32 - 6, 4]], "u4"), "float64": np.array([[2.0**32 + 2, 4]]),
    "uint64": np.array([[2**64 - 2, 4]], "u8"), "least int32": np.array([[-(2**31), 4]]), "1e300": np.array([[1e300, 4]]),
}  # fmt: skip


@pytest.mark.parametrize("weight", TOO_LARGE.values(), ids=TOO_LARGE)
def test_numbers_beyond_32_bits_are_refused_and_not_cut(tmp_path, weight):
    with pytest.raises(DeployError, match="outside"):
        read_graph(net(tmp_path / "m.net", weight=weight))
    with pytest.raises(DeployError, match="vThMant: holds"):
        read_graph(net(tmp_path / "t.net", vThMant=weight.flat[0]))


def test_numbers_of_nir_beyond_32_bits_are_refused(tmp_path):
    from spikegate.formats.nir.exporter import write_nir
    from spikegate.formats.nir.importer import read_nir

    plain = read_graph(net(tmp_path / "m.net", iDecay=4096))
    plain.timesteps = 3
    write_nir(plain, tmp_path / "m.nir")
    assert read_nir(tmp_path / "m.nir").ops
    for value in (2.0**32, 2.0**40, 1e300, -(2.0**31)):
        path = tmp_path / "wide.nir"
        path.write_bytes((tmp_path / "m.nir").read_bytes())
        with h5py.File(path, "a") as f:
            names: list[str] = []
            f.visit(names.append)
            name = next(n for n in names if n.endswith("/bias"))
            old = f[name][()]
            del f[name]
            f[name] = np.full(old.shape, value)
        with pytest.raises(DeployError):
            read_nir(path)


def test_a_bias_that_leaves_the_registers_is_refused(tmp_path):
    read_graph(net(tmp_path / "m.net", bias=np.array([1 << 24])))
    with pytest.raises(DeployError, match="leaves the registers"):
        read_graph(net(tmp_path / "m.net", bias=np.array([1 << 26])))


NO_NUMBERS = ([1.5], [np.nan], [np.inf], ["a"], [1j], [True], np.zeros(1, [("a", "i4")]), [2**31], [-(2**31)])


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_one_conversion_takes_whole_numbers_of_32_bits_alone(value):
    with pytest.raises(DeployError, match="here"):
        integers(np.array(value), "here")


def test_one_conversion_keeps_what_it_takes():
    assert integers(np.array([-HIGH, HIGH]), "here").tolist() == [-HIGH, HIGH]
    assert integers(np.array([3.0, -0.0], ">f4"), "here").tolist() == [3, 0] and integers(np.array([7], "u8"), "x").dtype == np.int32
    assert integer(np.array([[5]]), "here") == 5 and integers(np.zeros((0, 3)), "here").shape == (0, 3)
    with pytest.raises(DeployError, match="2 values"):
        integer([1, 2], "here")
    with pytest.raises(DeployError, match="outside 0"):
        integer(-1, "here", low=0)


def test_readers_convert_numbers_in_one_place():
    """No reader casts to 32 bits or fewer by itself: what does not fit would be cut without a word."""
    casts = [f"astype(np.{kind}" for kind in ("int32", "int16", "int8", "uint", "float16")]
    narrow = (*casts, "astype('i", 'astype("i', "np.int32(", "np.int16(", "np.int8(")
    for folder in ("spikegate/formats", "spikegate/data"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not [w for w in narrow if w in path.read_text()], path


def test_readers_decode_names_in_one_place():
    """Bytes that are no text end some other decoding with a UnicodeDecodeError."""
    for folder in ("spikegate/formats", "spikegate/data", "spikegate/engine", "convert", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            assert ".decode(" not in path.read_text(), path


def test_the_bytes_of_another_file_do_not_reach_the_outputs(tmp_path):
    path = altered(tmp_path / "m.net", external)
    np.save(tmp_path / "x.npy", np.ones((1, 2, 2), int))
    words = [ROOT / "deploy/run.py", path, "--input", tmp_path / "x.npy", "--target", "int", "--output", tmp_path / "o"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "external storage" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()
