"""Run folders with export and events from the integer engine, as deploy/run.py leaves them, without training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from spikegate.convert.checks.listing import op_rows
from spikegate.engine.integer import run
from spikegate.engine.record import Record
from spikegate.formats.manifest import WRITTEN, sha256
from spikegate.graph.credit import gates
from spikegate.graph.ir import Edge, Graph
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.exit_gate import NEVER
from tests.graphs import CHANNELS, CLASSES, halting_graph, halting_input

SAMPLES = 11


def adaptive_graph(margin: int = 800) -> Graph:
    """Token gates, and an exit once the leading class is `margin` ahead."""
    g = halting_graph()
    exit_gate = g.ops["exit"]
    margins = np.full(g.timesteps, margin)
    g.ops["exit"] = dataclasses.replace(exit_gate, margin=margins, policy="threshold_then_argmax")  # type: ignore[type-var]
    return g


def without_halting(graph: Graph) -> Graph:
    """The same net, every token and every timestep."""
    plain = graph.without_halting()
    never = np.full(plain.timesteps, NEVER)
    plain.ops["exit"] = dataclasses.replace(plain.ops["exit"], margin=never, policy="fixed_window")  # type: ignore[type-var]
    return plain


def static_graph() -> Graph:
    """A net without gates that repeats a convolution of its embedding at every timestep."""
    plain = halting_graph(seed=4, gated=False)
    rng = np.random.default_rng(6)
    conv = Conv(weight=rng.integers(-30, 40, (CHANNELS, CHANNELS, 3, 3)) * 2, bias=rng.integers(-9, 9, CHANNELS), grid=(3, 3), padding=1,
                neuron=Cuba(4096, 2048, 60))
    ops = {"inject": plain.ops["inject"], "sps.conv": conv, **plain.ops}
    moved = [dataclasses.replace(e, source="sps.conv") if e.source == "inject" else e for e in plain.edges]
    g = dataclasses.replace(plain, ops=ops, edges=[*moved, Edge("inject", "sps.conv", "x")])
    g.check()
    return g


def write_export(folder: Path, graph: Graph, *, halting: bool, embedding: tuple[str, ...] = ("inject",), dataset: str = "shapes") -> None:
    """An export folder whose manifest describes `graph`; net and embedding are stand-ins, nothing here opens them."""
    export = folder / "export"
    export.mkdir(parents=True)
    for name in ("model.net", "embedding.onnx"):
        (export / name).write_bytes(b"")
    manifest = {
        "schema": 1, "name": folder.name, "model": "stas" if halting else "spikformer", "dataset": dataset,
        "data": {"name": dataset}, "classes": CLASSES,
        "labels": ["disc", "bar", "ring"], "timesteps": graph.timesteps, "halting": halting, "grid": [3, 3], "image_shape": [3, 12, 12],
        "host_macs": 5000 if halting else 4000, "dense_ops": {n: op.dense_ops for n, op in graph.ops.items()},
        "embedding_ops": list(embedding), "gates": gates(graph), "ops": op_rows(graph),
        "sha256": {name: sha256(export / name) for name in WRITTEN},
    }
    (export / "manifest.json").write_text(json.dumps(manifest))


def record_of(graph: Graph, halt: str = "on", samples: int = SAMPLES, **meta) -> Record:
    """Events of the shared test input, with labels and the facts that a deployment notes."""
    record = run(graph, halting_input(samples), np.arange(samples) % CLASSES)
    facts = {"samples": list(range(samples)), "dataset": "shapes", "split": "test", "target": "int", "halt": halt, "images_per_s": 20.0}
    record.meta = facts | meta
    return record


def write_runs(root: Path) -> tuple[Path, Path]:
    """`root`/adaptive with halting on and off and images, and `root`/static, its twin; returns both."""
    adaptive, static = root / "adaptive", root / "static"
    on, plain = adaptive_graph(), static_graph()
    write_export(adaptive, on, halting=True)
    write_export(static, plain, halting=False, embedding=("inject", "sps.conv"))
    record_of(on).save(adaptive / "deploy" / "events.npz")
    record_of(without_halting(on), "off").save(adaptive / "deploy" / "events_off.npz")
    record_of(plain).save(static / "deploy" / "events.npz")
    images = np.random.default_rng(2).integers(0, 256, (8, 3, 12, 12)).astype(np.uint8)
    np.savez(adaptive / "deploy" / "images.npz", images=images)
    return adaptive, static
