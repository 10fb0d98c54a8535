"""Nets that a file describes in full and that mean nothing on a chip: sums beyond their registers, kernels and sizes that fit no map."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph
from spikegate.formats.nir.importer import from_nir
from spikegate.formats.nir.reading import read_file
from spikegate.graph.ir import Graph, Payload
from spikegate.neurons.sigma_delta import Delta, Passive, Sigma, SigmaDelta
from spikegate.ops.block_dense import BlockDense
from spikegate.ops.block_input import BlockInput
from spikegate.ops.block_pool import BlockPool
from spikegate.ops.block_unpool import BlockUnpool
from spikegate.reading import limits
from spikegate.reading.heaps import check_heaps

NONE, ROOT = np.zeros((0,), np.int32), Path(__file__).parents[1]
WIDE = Payload(-(1 << 30), 1 << 30)


@pytest.mark.parametrize("neuron", [SigmaDelta(1, 0), Sigma(), Passive(), Delta(1 << 24, 6), SigmaDelta((1 << 31) - 1, 6)], ids=repr)
@pytest.mark.parametrize("span", [1, 2])
def test_a_sum_that_leaves_its_32_bits_is_an_error_and_not_cut(neuron, span):
    """Compiled and plain form alike; the largest number that fits is kept."""
    for form in ("steps", "step"):
        state = neuron.state((1, 1, 1))
        top = (1 << 31) - 1
        call = getattr(neuron, form)
        if isinstance(neuron, Sigma | Passive):
            assert np.ravel(call(state, np.full((1, 1, 1), top), 0, *[1] * (form == "steps"))[0]).max() == top
        with pytest.raises(DeployError, match="leaves its 32 bits"):
            for _ in range(3):
                call(state, np.full((span if form == "steps" else 1, 1, 1), 1 << 31), 0, *[span] * (form == "steps"))


def test_a_run_whose_changes_leave_32_bits_says_so():
    graph = Graph(timesteps=2, input_shape=(3,), input_payload=Payload(-256, 254))
    graph.add("in", BlockInput((3,), 1 << 20, 0, Delta(11)), x="input")
    graph.add("out", BlockDense(np.eye(3, dtype=np.int32), NONE, np.zeros(1, np.int32), SigmaDelta(5)), x="in")
    graph.check()
    with pytest.raises(DeployError, match="32 bits"):
        integer.run(graph, np.full((1, 3), 100, np.int32))
    assert integer.run(graph, np.zeros((1, 3), np.int32)).counts.size


def test_a_transform_beyond_64_bits_is_refused():
    graph = Graph(timesteps=2, input_shape=(3,), input_payload=WIDE)
    graph.add("in", BlockInput((3,), 1 << 30, 0, Delta(11)), x="input")
    with pytest.raises(DeployError, match="scale the transform"):
        graph.check()


@pytest.mark.parametrize("cls", [BlockPool, BlockUnpool])
@pytest.mark.parametrize("shape", [(2, 2, 1, 1), (1, 2, 2, 2), (2, 1, 2, 2)])
def test_several_kernels_for_one_tall_map_are_refused(cls, shape):
    graph = Graph(timesteps=2, input_shape=(24, 3), input_payload=Payload(0, 1))
    graph.add("pool", cls(np.full(shape, 64, np.int32), NONE, np.zeros(1, np.int32), (6, 4), 3, (2, 2)), x="input")
    with pytest.raises(DeployError, match=r"weight has shape .*, needs \[1, 1, kh, kw\]"):
        graph.check()


@pytest.mark.parametrize("field", ["stride", "padding", "dilation", "groups"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_sizes_in_nir_without_end_are_refused_by_field(field, value):
    conv = nir.Conv2d((6, 6), np.full((2, 1, 3, 3), 2.0), 1, 1, 1, 1, np.zeros(2))
    setattr(conv, field, np.array(value) if field == "groups" else np.array([1, value]))
    lif = nir.LIF(*(np.full((2, 6, 6), v) for v in (2.0, 2.0, 0.0, 3.0)))
    nodes = {"in": nir.Input({"input": np.array([1, 6, 6])}), "conv": conv, "lif": lif, "out": nir.Output({"output": np.array([2, 6, 6])})}
    with pytest.raises(DeployError, match=f"{field} is"):
        from_nir(nir.NIRGraph(nodes, [("in", "conv"), ("conv", "lif"), ("lif", "out")], type_check=False), 4)


def test_a_file_is_looked_through_piece_by_piece(tmp_path):
    """300 MB of nothing where the type should be: refused, with a small part of it in memory."""
    path = tmp_path / "m.net"
    with h5py.File(path, "w") as f:
        f.create_dataset("layer/0/type", (75 << 20,), "i4")[-1] = 1
    assert path.stat().st_size > 300_000_000
    said, peak = read_apart(path)
    assert said.startswith("DeployError") and "has no type" in said
    assert peak < 250_000


def test_a_damaged_size_that_libhdf5_believes_fills_no_memory():
    """Found by fuzzing: 22 kB of which libhdf5 wants gigabytes for a table, before anything of the file can be checked."""
    said, peak = read_apart(ROOT / "tests/fuzz/found/large_table.net")
    assert said.startswith("DeployError") and "not a readable NetX HDF5 file" in said
    assert peak < 700_000


def test_the_bound_is_lifted_when_the_file_was_looked_through(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_AS)
    with limits.bounded(100):
        bound = resource.getrlimit(resource.RLIMIT_AS)[0]
        assert 0 < bound < 1 << 60
        with pytest.raises(MemoryError):
            np.ones(1 << 30, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    with pytest.raises(DeployError):
        read_graph(ROOT / "README.md")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def read_apart(path: Path) -> tuple[str, int]:
    """(what reading a net says, peak of the memory in kB) in a process of its own."""
    code = (
        "import resource, sys; from pathlib import Path; from spikegate.formats.netx.graph_file import read_graph\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "try: read_graph(Path(sys.argv[1]))\n"
        "except Exception as e: print(type(e).__name__, str(e).splitlines()[0])\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT, check=True)
    said, peak = done.stdout.strip().splitlines()
    return said, int(peak)


def heap(parts: int, size: int | None = None) -> bytes:
    """A collection of so many texts of 8 bytes."""
    texts = b"".join((k + 1).to_bytes(8, "little") + (8).to_bytes(8, "little") + b"a text  " for k in range(parts))
    return b"GCOL\x01\0\0\0" + (size or 16 + len(texts)).to_bytes(8, "little") + texts


def test_collections_that_overlap_are_refused_in_time(tmp_path):
    """Each of 20,000 claims the rest of the file: a walk through all of them would take 10^8 steps."""
    path = tmp_path / "m.net"
    path.write_bytes(heap(3) + heap(500))
    check_heaps(path)
    whole = b"".join(heap(0, 16 * k) for k in range(20_000, 0, -1))
    path.write_bytes(whole)
    with pytest.raises(DeployError, match="keeps its texts"):
        check_heaps(path)


def test_a_collection_across_two_pieces_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("spikegate.reading.pieces.PIECE", 64)
    for before in range(50, 70):
        path = tmp_path / "m.net"
        path.write_bytes(bytes(before) + heap(4, 1 << 40))
        with pytest.raises(DeployError, match="keeps its texts"):
            check_heaps(path)
        path.write_bytes(bytes(before) + heap(4))
        check_heaps(path)


ODD_EDGES = [np.zeros(8, "i4"), np.zeros((4, 2), "i4"), np.full((2, 3), b"in"), np.full(6, b"in"), np.full((20_001, 2), b"in")]


@pytest.mark.parametrize("edges", ODD_EDGES)
def test_edges_in_nir_that_are_no_pairs_of_names_are_refused(tmp_path, edges):
    path = tmp_path / "m.nir"
    nodes = {"in": nir.Input({"input": np.array([3])}), "out": nir.Output({"output": np.array([3])})}
    nir.write(path, nir.NIRGraph(nodes, [("in", "out")], type_check=False))
    read_file(path)
    with h5py.File(path, "r+") as f:
        del f["node/edges"]
        f["node/edges"] = edges
    with pytest.raises(DeployError, match="pairs of names"):
        read_file(path)
