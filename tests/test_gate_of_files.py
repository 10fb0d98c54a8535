"""The gate in front of every HDF5 file: nothing outside the file, no circles, no more memory than stated, no number cut."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph
from spikegate.formats.netx.pipeline import Pipeline
from spikegate.reading.numbers import HIGH, integer, integers
from tests.altered_files import altered, net

ROOT = Path(__file__).parents[1]


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
