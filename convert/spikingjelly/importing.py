"""The import itself: SpikingJelly model in, the same export out that convert/export.py writes, with a report of what changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spikegate.command import cli
from spikegate.convert.checks.audit import audit
from spikegate.convert.checks.listing import op_rows
from spikegate.convert.spikingjelly.hosting import HostLayer
from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.plan import Plan
from spikegate.convert.spikingjelly.quantising import Quantised, quantise
from spikegate.convert.spikingjelly.reporting import as_json, compare_layers, float_answers, float_spikes, layer_table
from spikegate.convert.spikingjelly.tuning import fine_tune
from spikegate.convert.spikingjelly.twin import trace_graph
from spikegate.data.parts import EVENT_SETS, Parts, binning_of, load_parts
from spikegate.engine.integer import run as run_int
from spikegate.files import atomic, together
from spikegate.formats.event_host import EMBEDDING, open_host
from spikegate.formats.manifest import WRITTEN, write_manifest
from spikegate.formats.netx.graph_file import is_stock_chain, read_graph, write_graph
from spikegate.graph import credit
from spikegate.graph.ir import DeployError, Graph, load_ops

REPORT = "import.json"  # marks a folder whose export was imported
CHECKED = 32  # validation images on which torch, ONNX and the integer reference must agree, at most
LAYER_IMAGES = 128  # validation images of the layer report, at most
SCORED = 2e11  # synaptic operations, as if every input spiked, that the accuracy on the test part may take if not said otherwise
LEAST_SCORED = 200  # test images, whatever the net
CELLS = 1 << 27  # (neuron, timestep, image) cells that are recorded at a time


@dataclass(frozen=True)
class Pixels:
    """What the model was trained on: ``(pixel / levels - mean) / std``, one number for all channels or one for each."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def affine(self, channels: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
        """(gain, shift) of each channel for raw pixels."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise DeployError(f"--{name}", f"{len(values)} numbers for {channels} channels", "give one, or one for each channel")
        std = np.broadcast_to(np.asarray(self.std, float), channels)
        if (std <= 0).any():
            raise DeployError("--std", "is not above 0", "give the standard deviations that training divided by")
        return 1 / (levels * std), -np.broadcast_to(np.asarray(self.mean, float), channels) / std


@dataclass
class Imported:
    """What `import_model` found: the export's folder, float and integer accuracy on the test part, and the layer report."""

    folder: Path
    float_accuracy: float
    int_accuracy: float
    layers: list[dict[str, Any]]
    graph: Graph
    tuned: list[float] = field(default_factory=list)


def import_model(
    model: nn.Module, output: Path, data: dict[str, Any], *, timesteps: int | None = None, form: str | None = None,
    pixels: Pixels = Pixels(), epochs: int = 0, rate: float = 0.3, quiet: bool = False, test_images: int | None = None,
) -> Imported:
    """Read, quantise, fine-tune for `epochs`, write and measure a SpikingJelly model.

    Parameters
    ----------
    output : run folder; the export goes to output/export, the report to output/import.json
    data : the data set as in a manifest: name, and path, validation, seed where they matter
    test_images : images of the test part that are scored, spread evenly over it; left out, all of them, fewer where the net is large
    timesteps, form : see `spikegate.convert.spikingjelly.models.read`

    Raises
    ------
    DeployError
        Modules and operations that cannot be imported (all at once), registers that do not fit, unreadable data.
    """  # fmt: skip
    load_ops()
    path = data.get("path")
    events = data["name"] in EVENT_SETS
    if events:
        data = {"frames": timesteps or 4, "bin_by": "time", "most": 1, **data}
    held, seed = data.get("validation", 0.1), data.get("seed", 0)
    parts = load_parts(data["name"], Path(path) if path else None, validation=held, seed=seed, binning=binning_of(data))
    if events and pixels != Pixels():
        raise DeployError("--mean, --std", "events are spikes, not pixels", "leave them out")
    channels = parts.train.x.shape[-3]
    gain, shift = (np.ones(channels), np.zeros(channels)) if events else pixels.affine(channels, parts.levels)

    def as_floats(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x * gain[:, None, None] + shift[:, None, None]).float()

    plan, model, form = read(model, as_floats(parts.validation.x[:2]), timesteps, form)
    found = quantise(plan, parts.levels, gain, shift)
    scores: list[float] = []
    if epochs:
        found, scores = fine_tune(found, parts.train, parts.validation, epochs=epochs, rate=rate)
    out = Path(output) / "export"
    embedded = write(out, found, plan, parts, {**data, "path": str(path) if path else None}, type(model).__name__)
    images = parts.validation.x[: _affordable(found.graph, LAYER_IMAGES)]
    rows = compare_layers(plan, found.graph, float_spikes(model, as_floats(images), form, plan.timesteps), embedded(images))
    chosen = _scored(found.graph, len(parts.test), test_images)
    x, y = parts.test.x[chosen], parts.test.y[chosen]
    theirs = float((float_answers(model, as_floats(x), form, plan.timesteps) == y).mean())
    ours = float((run_int(found.graph, embedded(x)).prediction == y).mean())
    done = Imported(out, theirs, ours, as_json(rows), found.graph, scores)
    report = {"data": {**data, "path": str(path) if path else None}, "float_accuracy": theirs, "int_accuracy": ours,
              "test_images": len(chosen), "layers": done.layers, "scales": found.scales,
              "fine_tuned_epochs": epochs, "validation_accuracy": scores, "form": form, "timesteps": plan.timesteps}
    with atomic(Path(output) / REPORT) as part:
        part.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    if not quiet:
        cli.console.print(layer_table(rows, len(images)))
        if scores:
            cli.console.print("fine-tuned: validation accuracy " + ", ".join(f"{100 * s:.2f} %" for s in scores) + " (first: before)")
        of = "" if len(chosen) == len(parts.test) else f" of {len(parts.test):,} (--test-images: more)"
        cli.console.print(f"accuracy on {len(chosen):,} test images{of}: float {100 * theirs:.2f} %, integers {100 * ours:.2f} % "
                          f"({100 * (ours - theirs):+.2f} points)")
        cli.console.print(f"wrote {out}/model.net, embedding.onnx, manifest.json; next: python deploy/run.py {output}")
    return done


def _scored(graph: Graph, images: int, wanted: int | None) -> np.ndarray:
    """Which images of the test part are scored."""
    cost = graph.timesteps * sum(op.dense_ops for op in graph.ops.values())
    count = wanted or max(LEAST_SCORED, int(SCORED // max(cost, 1)))
    return np.unique(np.linspace(0, images - 1, min(images, count)).round().astype(int))


def _affordable(graph: Graph, most: int) -> int:
    """Images whose spikes fit in memory."""
    cells = graph.timesteps * sum(int(np.prod(op.out_shape)) for op in graph.ops.values())
    return max(1, min(most, CELLS // cells))


def write(out: Path, found: Quantised, plan: Plan, parts: Parts, data: dict[str, Any], model: str) -> Any:
    """Write net, embedding and manifest, and prove that torch, ONNX and the integers agree; returns the host's encoder."""
    graph, host = found.graph, found.host
    graph.meta = {"model": model, "dataset": parts.name, "classes": parts.classes}
    frames = (plan.timesteps, *plan.image_shape) if plan.events else plan.image_shape
    with together(out, "manifest.json") as part:
        bound = host.write(part / EMBEDDING, plan.image_shape, parts.levels) if isinstance(host, HostLayer) else 0
        write_graph(graph, part / "model.net")
        onnx = open_host(part, graph, {"image_shape": frames})
        images = parts.validation.x[: _affordable(graph, CHECKED)]
        embedded = onnx.encode(images)
        if not np.array_equal(embedded, host.encode(images)):
            raise DeployError("embedding", "onnxruntime and the plan differ", "report this: the bound should exclude it")
        ours, theirs = run_int(read_graph(part / "model.net"), embedded, spikes=True), trace_graph(graph, embedded)
        for name in graph.ops:
            if not np.array_equal(ours.spikes[name], theirs.spikes[name]):
                raise DeployError(name, "the written op differs from torch", "run deploy/compare.py for the first neuron")
        head = graph.ops["readout"].weight.shape[1]  # type: ignore[attr-defined]
        grids = [layer.grid for layer in plan.layers.values() if layer.grid[0] * layer.grid[1] == head]
        write_manifest(
            part,
            {
                "name": out.resolve().parent.name, "model": model, "dataset": parts.name, "data": data, "classes": len(parts.classes),
                "labels": parts.classes, "timesteps": graph.timesteps, "halting": False, "grid": list(grids[-1]),
                "image_shape": list(frames), "host_macs": host.macs, "host_bound": bound,
                "dense_ops": {n: op.dense_ops for n, op in graph.ops.items()}, "embedding_ops": found.embedding,
                "gates": credit.gates(graph), "exit_drop": None, "stock_netx": is_stock_chain(graph),
                "parameters": int(sum(w.size + b.size for w, b in found.latent.values()) + host.parameters),
                "ops": op_rows(graph), "audit": [{"op": r.name, **r.used, "macs": r.macs} for r in audit(graph, embedded)],
                "recording_ms": None if parts.recorded is None else round(parts.recorded.milliseconds, 3),
            },
            tuple(name for name in WRITTEN if name != EMBEDDING or not plan.events),
        )  # fmt: skip
    return onnx.encode

