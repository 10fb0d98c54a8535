"""Targets: what stands around a net: exports, arrays, recordings, settings, training state."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.data import archive
from spikegate.deploy.bundle import open_export
from spikegate.engine import integer
from spikegate.engine.record import Record
from spikegate.formats.host import write_host
from spikegate.formats.manifest import read_manifest, write_manifest
from spikegate.formats.netx.graph_file import write_graph
from spikegate.graph.credit import gates
from tests.fuzz import mutate
from tests.fuzz.cases import CORPUS, WORK, Case
from tests.fuzz.mutate import Rng
from tests.graphs import halting_graph


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
