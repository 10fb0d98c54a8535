"""Numbers of a NIR file at the ends of the floats' range: a graph or an error that names the layer, never a warning or an infinity."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("nir")
import nir

from spikegate.errors import DeployError
from spikegate.formats.nir.importer import from_nir, import_graph, import_nir, read_nir
from spikegate.graph.ir import Graph
from tests.nir_graphs import Maker

FILES = sorted((Path(__file__).parent / "fuzz" / "corpus" / "nir").glob("*.nir"))
ENDS = (1e308, -1e308, 1e30, 5e-324, -5e-324, 1e-310, 0.0)


def told(make: Callable[[], Graph]) -> bool:
    """Whether it is refused; a graph has whole numbers, and neither comes with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)
        try:
            graph = make()
        except DeployError as e:
            assert "\n  hint: " in str(e)
            return True
    assert all(np.isfinite(v).all() for op in graph.ops.values() for v in vars(op).values() if isinstance(v, np.ndarray))
    return False


def with_end(values: np.ndarray, end: float, rng: np.random.Generator) -> np.ndarray:
    """All of the values, or one of them, at that end."""
    changed = np.array(values, float)
    changed[... if rng.random() < 0.5 else np.unravel_index(int(rng.integers(changed.size)), changed.shape)] = end
    return changed


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_numbers_at_the_ends_of_the_range_end_in_a_graph_or_a_sentence(file, tmp_path):
    rng, names = np.random.default_rng(0), []
    with h5py.File(file, "r") as f:
        f.visititems(lambda name, o: names.append(name) if isinstance(o, h5py.Dataset) and o.dtype.kind == "f" and o.size else None)
    refused = 0
    for name in names:
        for end in ENDS:
            path = Path(shutil.copy(file, tmp_path / "m.nir"))
            with h5py.File(path, "r+") as f, np.errstate(over="ignore"):
                f[name][...] = with_end(f[name][()], end, rng)
            refused += told(lambda path=path: read_nir(path))
            told(lambda path=path: import_nir(path, timesteps=2)[0])
    assert refused


@pytest.mark.parametrize("seed", range(100))
def test_nodes_of_all_kinds_with_such_numbers(seed):
    rng = np.random.default_rng([28, seed])
    maker = Maker(rng, exact=bool(seed % 2))
    graph = maker.graph()
    fields = [(node, key) for node in graph.nodes.values() for key, v in vars(node).items()
              if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.size]  # fmt: skip
    for at in rng.permutation(len(fields))[:4]:
        node, key = fields[at]
        kept = getattr(node, key)
        for end in ENDS:
            setattr(node, key, with_end(kept, end, rng))
            told(lambda: from_nir(graph, maker.timesteps, maker.dt))
            told(lambda: import_graph(graph, timesteps=maker.timesteps, dt=maker.dt)[0])
        setattr(node, key, kept)


def test_names_that_are_no_text_are_refused_or_kept_apart(tmp_path):
    """Found by fuzzing: bytes of an edge's name that UTF-8 has not."""
    path = Path(shutil.copy(FILES[0], tmp_path / "m.nir"))
    with h5py.File(path, "r+") as f:
        name = f["node/edges"][()].ravel()[0]
    data = path.read_bytes()
    for changed in (data.replace(name, b"\xef" + name[1:], 1), data.replace(name, b"\xef" + name[1:])):
        path.write_bytes(changed)
        told(lambda: read_nir(path))


@pytest.mark.parametrize("levels", ["x", b"\xef", [1, 2], 1e400, None, {}])
def test_metadata_that_is_no_number_is_refused_by_name(levels):
    ones = np.ones(2)
    facts = {"reset": "subtract", "levels": levels}
    neuron = nir.LIF(tau=2 * ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones, metadata=facts)
    nodes = {"in": nir.Input(np.array([2])), "dense": nir.Linear(np.ones((2, 2))), "lif": neuron, "out": nir.Output(np.array([2]))}
    graph = nir.NIRGraph(nodes, [("in", "dense"), ("dense", "lif"), ("lif", "out")], type_check=False)
    with pytest.raises(DeployError, match=r"lif: .*levels"):
        import_graph(graph, timesteps=2, dt=1.0)
