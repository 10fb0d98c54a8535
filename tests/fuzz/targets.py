"""One target for each reader: a small good file, changed, and what a user would do with it."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikegate.data import archive, array_file
from spikegate.deploy.bundle import open_export
from spikegate.deploy.netx_run import prepared
from spikegate.engine import integer
from spikegate.engine.record import Record
from spikegate.errors import DeployError
from spikegate.formats.host import write_host
from spikegate.formats.manifest import read_manifest, write_manifest
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.credit import gates
from spikegate.graph.ir import Graph
from tests.fuzz import mutate
from tests.graphs import halting_graph, halting_input
from tests.test_witness import equal
from tests.witness import files, simulator

CORPUS = Path(__file__).parent / "corpus"
ASKED = 0.3  # share of cases in which the witness is asked
WORK = 2_000_000  # neurons x timesteps that a case is run with, and that the slow witness is asked about at most, in hundredths
Rng = np.random.Generator


class Differs(Exception):
    """Two programs read one file in two ways."""


@dataclass
class Case:
    """What was changed, what a user does with it, and whether it must be refused."""

    what: str
    main: Callable[[], object]
    must_refuse: bool = False


class Alone(Exception):
    """The second simulator, which knows the documents alone, does not take what our reader takes (a pair written as one number, say)."""


def witnessed(graph: Graph, x: np.ndarray, file: Path, ask: bool) -> None:
    """Run a net; where `ask` says so and the net is small, the second simulator must see the same. It reads the file by itself."""
    size = graph.timesteps * sum(int(np.prod(op.out_shape)) for op in graph.ops.values())
    if size > WORK:
        return
    ask = ask and size <= WORK // 100
    record = integer.run(graph, x[:1], spikes=ask)
    if not ask:
        return
    try:
        samples = simulator.run(files.read(file), x[:1])
    except (LookupError, ValueError, TypeError, AssertionError, ArithmeticError) as e:
        raise Alone(repr(e)) from e
    try:
        equal(record, samples, list(graph.ops))
    except AssertionError as e:
        raise Differs(str(e)[:300]) from e


class Ours:
    """model.net of an export, hashes or not: any value that it gets through must mean what it says."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "ours"
        for k, more in enumerate(({}, {"order": "rectangle"}, {"delta": 2}, {"spiking": True}, {"gated": False})):
            (self.folder / str(k)).mkdir(parents=True)
            write_graph(halting_graph(k, **more), self.folder / str(k) / "model.net")

    def case(self, rng: Rng, work: Path) -> Case:
        path = Path(shutil.copy(mutate.one(rng, sorted(self.folder.glob("*/model.net"))), work / "m.net"))
        what, ask = mutate.hdf5_changed(path, rng), rng.random() < ASKED

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
        what, ask = f"{seed.stem}: {mutate.hdf5_changed(path, rng)}", rng.random() < ASKED

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
        what, exact, ask = mutate.hdf5_changed(path, rng), rng.random() < 0.7, rng.random() < ASKED

        def main() -> None:
            graph = read_nir(path) if exact else import_nir(path, timesteps=2)[0]
            if np.prod(graph.input_shape) < WORK:
                write_graph(graph, work / "ours.net")
                witnessed(graph, np.zeros((1, *graph.input_shape), np.int32), work / "ours.net", ask)

        return Case(what, main)


class Export:
    """embedding.onnx or manifest.json of an export, and files that its hashes vouch for."""

    part = "embedding.onnx"

    def __init__(self, root: Path) -> None:
        self.folder = root / f"export-{self.part}"
        self.folder.mkdir()
        graph = halting_graph()
        write_graph(graph, self.folder / "model.net")
        weight = np.random.default_rng(5).integers(-2, 6, (8, 1, 2, 2))
        write_host(self.folder / "embedding.onnx", weight=weight, bias=np.zeros(8, int), shift=5, low=0, high=3, stride=2, padding=0,
                   image_shape=(1, 6, 6), pixels=16)  # fmt: skip
        write_manifest(self.folder, {
            "name": "tiny", "model": "halting", "dataset": "noise", "data": {"name": "digits"}, "classes": 3, "labels": ["a", "b", "c"],
            "timesteps": graph.timesteps, "halting": True, "grid": [3, 3], "image_shape": [1, 6, 6], "host_macs": 1,
            "dense_ops": {n: op.dense_ops for n, op in graph.ops.items()}, "embedding_ops": ["inject"], "gates": gates(graph),
        })  # fmt: skip

    def copy(self, work: Path) -> Path:
        return Path(shutil.copytree(self.folder, work / "e"))

    def case(self, rng: Rng, work: Path) -> Case:
        export = self.copy(work)
        what = onnx_changed(export / "embedding.onnx", rng)
        renewed(export)
        return Case(what, functools.partial(self.run, export))

    def run(self, export: Path) -> None:
        bundle = open_export(export)
        shape = bundle.host.image_shape
        if np.prod(shape) < WORK:
            integer.run(bundle.graph, bundle.host.encode(np.full((1, *shape), bundle.host.pixels, np.uint8)))


class Manifest(Export):
    part = "manifest.json"

    def case(self, rng: Rng, work: Path) -> Case:
        export = self.copy(work)
        path = export / self.part
        if rng.random() < 0.3:  # any change to what it vouches for must be refused
            target = export / mutate.one(rng, ("model.net", "embedding.onnx"))
            before = target.read_bytes()
            target.write_bytes(mutate.damaged(before, rng))
            return Case(target.name, functools.partial(self.run, export), target.read_bytes() != before)
        path.write_text(mutate.json_changed(path.read_text(), rng))
        return Case("manifest", functools.partial(self.run, export))


def renewed(export: Path) -> None:
    content = json.loads((export / "manifest.json").read_text())
    content["sha256"] = {n: hashlib.sha256((export / n).read_bytes()).hexdigest() for n in content["sha256"]}
    (export / "manifest.json").write_text(json.dumps(content))


def onnx_changed(path: Path, rng: Rng) -> str:
    """One field of the model another one."""
    import onnx

    model = onnx.load(path)
    pick, tensor, node = int(rng.integers(12)), mutate.one(rng, model.graph.initializer), mutate.one(rng, model.graph.node)
    if pick == 0:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", mutate.one(rng, (mutate.OUTSIDE, "../x", "x.bin"))
    elif pick == 1:
        tensor.dims[:] = [int(mutate.one(rng, (0, 1, 7, 1 << 20, 1 << 40))) for _ in range(int(rng.integers(0, 5)))]
    elif pick == 2:
        node.op_type = mutate.one(rng, ("Exp", "Loop", "If", "Reshape", "Tile", "ConstantOfShape", "Nope", "Resize", "Mul", "Add", "Floor"))
    elif pick == 3:
        for entry in model.metadata_props:
            entry.value = mutate.one(rng, ("-1", "nan", "", "9" * 24, "x", "1e5", "0", "255", "٣"))
    elif pick == 4:
        mutate.one(rng, model.graph.input[0].type.tensor_type.shape.dim).dim_value = mutate.one(rng, (0, 1, 7, 100_000, 1 << 40))
    elif pick == 5:
        model.graph.input[0].type.tensor_type.elem_type = int(rng.integers(1, 14))
    elif pick == 6:
        node.output[0] = "other"
    elif pick == 7:
        for a in node.attribute:
            a.ints[:] = [int(mutate.one(rng, (-1, 0, 9, 1000, 1 << 30))) for _ in a.ints]
    elif pick == 8:
        values = onnx.numpy_helper.to_array(tensor).copy()
        odd = (np.nan, np.inf, 1e30, 3, 0) if values.dtype.kind == "f" else (1 << 40, -3, 7)
        values.reshape(-1)[int(rng.integers(values.size))] = mutate.one(rng, odd)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    elif pick == 9:
        del model.graph.node[int(rng.integers(len(model.graph.node)))]
    elif pick == 10:
        model.opset_import[0].version = mutate.one(rng, (0, 1, 99, -1))
    path.write_bytes(mutate.damaged(path.read_bytes(), rng) if pick == 11 else model.SerializeToString())
    return f"field {pick}"


class Npz:
    """An image set."""

    def __init__(self, root: Path) -> None:
        self.data = (CORPUS / "images.npz").read_bytes()

    def case(self, rng: Rng, work: Path) -> Case:
        from spikegate.data.parts import load_parts

        (work / "d.npz").write_bytes(mutate.npz_changed(self.data, rng))
        return Case("npz", lambda: load_parts("npz", work / "d.npz") and archive.read_npz(work / "d.npz"))


class Events:
    """Recorded events, and what is priced of them."""

    def __init__(self, root: Path) -> None:
        from tests.run_folder import adaptive_graph, record_of, write_export

        graph = adaptive_graph()
        write_export(root / "events", graph, halting=True)
        self.manifest = read_manifest(root / "events" / "export")
        record_of(graph).save(root / "events.npz")
        self.data = (root / "events.npz").read_bytes()

    def case(self, rng: Rng, work: Path) -> Case:
        from spikegate.hw_sim.energy.cost_tables import load_tables
        from spikegate.hw_sim.energy.ledger import NetInfo
        from spikegate.hw_sim.energy.measured import read_events
        from spikegate.hw_sim.energy.pricing import price

        (work / "events.npz").write_bytes(mutate.npz_changed(self.data, rng))

        def main() -> None:
            Record.load(work / "events.npz")
            record = read_events(work / "events.npz", self.manifest, "again")
            price(record, NetInfo.from_manifest(self.manifest), load_tables(["paper45"])[0])

        return Case("events", main)


class Config:
    """Settings of a run, the only file of ours that may name other files."""

    def __init__(self, root: Path) -> None:
        self.text = (CORPUS / "run" / "config.yml").read_text()

    def case(self, rng: Rng, work: Path) -> Case:
        from spikegate.data.remembered import data_path
        from spikegate.train.settings.options import from_yaml

        (work / "config.yml").write_text(mutate.yaml_changed(self.text, rng))
        (work / "export").mkdir()
        return Case("config", lambda: (data_path(work / "export"), from_yaml(work / "config.yml")))


class Checkpoint:
    """Training state: its header by field, its tensors with a right digest."""

    def __init__(self, root: Path) -> None:
        import torch

        from spikegate.train import checkpoint, models
        from spikegate.train.settings.options import from_yaml

        torch.set_num_threads(1)
        config = from_yaml(CORPUS / "run" / "config.yml")
        self.net = models.build(config.model, (1, 8, 8), 10, 16)
        self.seeds = [CORPUS / "run" / n for n in ("last.ckpt", "model.safetensors")]
        self.found = {p: checkpoint.read(p, "x") for p in self.seeds}

    def case(self, rng: Rng, work: Path) -> Case:
        import torch

        from spikegate.train import checkpoint

        seed = mutate.one(rng, self.seeds)
        path, (tensors, facts) = work / seed.name, self.found[seed]
        if rng.random() < 0.5:
            data = seed.read_bytes()
            n = int.from_bytes(data[:8], "little")
            head = mutate.json_changed(data[8 : 8 + n].decode(), rng).encode()
            path.write_bytes(mutate.damaged(data, rng) if rng.random() < 0.5 else len(head).to_bytes(8, "little") + head + data[8 + n :])
        else:
            name = mutate.one(rng, sorted(tensors))
            t = tensors[name]
            new: Any = mutate.one(rng, (
                lambda: t.double(), lambda: t[None], lambda: t.to(torch.bool), lambda: t.reshape(-1)[:0], lambda: None,
                lambda: t * float("nan") if t.is_floating_point() else t * 0 - 1,
                lambda: torch.full_like(t, 1e30) if t.is_floating_point() else t,
            ))()  # fmt: skip
            kept = {k: v for k, v in tensors.items() if k != name} | ({} if new is None else {name: new})
            if rng.random() < 0.3:
                kept[f"{name}x"] = t
            try:
                facts = json.loads(mutate.json_changed(json.dumps(facts), rng)) if rng.random() < 0.3 else facts
            except ValueError:
                pass
            checkpoint.write(path, kept, facts)

        def main() -> None:
            if seed.suffix == ".ckpt":
                optimizer = torch.optim.Adam(self.net.parameters())
                checkpoint.load_checkpoint(path, self.net, optimizer)
                for p in self.net.parameters():
                    p.grad = torch.zeros_like(p)
                optimizer.step()
            else:
                checkpoint.fill(self.net, checkpoint.read(path, "hint")[0], path, "hint")

        return Case(seed.name, main)


TARGETS: dict[str, Any] = {
    "netx": NetX, "ours": Ours, "nir": Nir, "onnx": Export, "manifest": Manifest, "npy": Npy, "npz": Npz, "events": Events,
    "config": Config, "checkpoint": Checkpoint,
}  # fmt: skip
