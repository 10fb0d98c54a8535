"""Targets: files that hold a net, and the arrays that go into one."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np

from spikegate.data import array_file
from spikegate.deploy.netx_run import prepared
from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import Graph
from tests.fuzz import hdf5_changes, mutate
from tests.fuzz.cases import ASKED, CORPUS, WORK, Case, Differs, witnessed
from tests.fuzz.mutate import Rng
from tests.graphs import halting_graph, halting_input


class Ours:
    """model.net of an export, hashes or not: any value that it gets through must mean what it says."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "ours"
        for k, more in enumerate(({}, {"order": "rectangle"}, {"delta": 2}, {"spiking": True}, {"gated": False})):
            (self.folder / str(k)).mkdir(parents=True)
            write_graph(halting_graph(k, **more), self.folder / str(k) / "model.net")

    def case(self, rng: Rng, work: Path) -> Case:
        path = Path(shutil.copy(mutate.one(rng, sorted(self.folder.glob("*/model.net"))), work / "m.net"))
        what, ask = hdf5_changes.hdf5_changed(path, rng), rng.random() < ASKED

        def main() -> None:
            graph = read_graph(path)
            shape = graph.input_shape
            x = halting_input(1) if shape == (9, 8) else np.zeros((1, *shape), np.int32) if np.prod(shape) < WORK else None
            if x is not None and graph.input_payload.low <= x.min() and x.max() <= graph.input_payload.high:
                witnessed(graph, x, path, ask)

        return Case(what, main)


class NetX:
    """Files of lava-dl with an array. What is read is written as our own file for the witness; numbers must be those of the file."""

    def __init__(self, root: Path) -> None:
        self.seeds = sorted((CORPUS / "netx").glob("*.net"))

    def case(self, rng: Rng, work: Path) -> Case:
        seed = mutate.one(rng, self.seeds)
        path, x = Path(shutil.copy(seed, work / "m.net")), np.load(seed.with_suffix(".npy"))
        what, ask = f"{seed.stem}: {hdf5_changes.hdf5_changed(path, rng)}", rng.random() < ASKED

        def main() -> None:
            graph, placed = prepared(path, x)
            same_numbers(graph, path)
            write_graph(graph, work / "ours.net")
            witnessed(graph, placed, work / "ours.net", ask)

        return Case(what, main)


def same_numbers(graph: Graph, path: Path) -> None:
    """Weights that were read have the sum that they have in the file, whatever type they have there."""
    with h5py.File(path, "r") as f:
        for name, op in graph.ops.items():
            data = f.get(f"layer/{name.removeprefix('layer')}/weight")
            if isinstance(data, h5py.Dataset) and hasattr(op, "weight") and isinstance(op.weight, np.ndarray):
                there, here = float(np.sum(data[()], dtype=np.float64)), float(op.weight.sum(dtype=np.float64))
                if there != here:
                    raise Differs(f"{name}: weights add up to {here}, in the file to {there}")


class Npy:
    """Inputs of a net."""

    def __init__(self, root: Path) -> None:
        self.seeds = sorted((CORPUS / "netx").glob("*.net"))

    def case(self, rng: Rng, work: Path) -> Case:
        seed = mutate.one(rng, self.seeds)
        (work / "x.npy").write_bytes(mutate.npy_changed(np.load(seed.with_suffix(".npy")), rng))

        def main() -> None:
            graph, x = prepared(seed, array_file.load_array(work / "x.npy"))
            if x[:1].size < WORK:
                integer.run(graph, x[:1])

        return Case(seed.stem, main)


class Nir:
    """A NIR file, read exactly."""

    def __init__(self, root: Path) -> None:
        from spikegate.formats.nir.exporter import write_nir

        graph = read_graph(CORPUS / "netx" / "cuba-dense.net")
        graph.timesteps = 3
        self.seeds = [*sorted((CORPUS / "nir").glob("*.nir")), root / "dense.nir"]
        try:
            write_nir(graph, self.seeds[-1])
        except DeployError:
            self.seeds.pop()

    def case(self, rng: Rng, work: Path) -> Case:
        from spikegate.formats.nir.importer import import_nir, read_nir

        path = Path(shutil.copy(mutate.one(rng, self.seeds), work / "m.nir"))
        what, exact, ask = hdf5_changes.hdf5_changed(path, rng), rng.random() < 0.7, rng.random() < ASKED

        def main() -> None:
            graph = read_nir(path) if exact else import_nir(path, timesteps=2)[0]
            if np.prod(graph.input_shape) < WORK:
                write_graph(graph, work / "ours.net")
                witnessed(graph, np.zeros((1, *graph.input_shape), np.int32), work / "ours.net", ask)

        return Case(what, main)
