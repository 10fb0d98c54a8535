"""The export itself: torch net in, checked graph, NetX file, ONNX embedding and manifest out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command import cli
from spikegate.command.folder_lock import alone_in
from spikegate.command.runs import find_run
from spikegate.convert.calibrate import with_margin
from spikegate.convert.checks.audit import OpAudit, audit
from spikegate.convert.checks.listing import audit_table, op_rows, op_table
from spikegate.convert.exits import NONE, Calibrated, Rule, calibrated
from spikegate.engine.integer import run as run_int
from spikegate.files import together
from spikegate.formats.event_host import EMBEDDING, open_host
from spikegate.formats.host import write_host
from spikegate.formats.manifest import WRITTEN, write_manifest
from spikegate.formats.netx.graph_file import is_stock_chain, read_graph, write_graph
from spikegate.graph import credit
from spikegate.graph.ir import DeployError, Graph

CHECKED = 64  # validation images on which torch, ONNX and the integer reference must agree before anything is called exported


@dataclass(frozen=True)
class Exported:
    """What `write_export` wrote: folder and graph, the audit's rows, the bound of the embedding's sums, how many images proved it equal
    to torch, and how the exit gate was calibrated (None: it has no margin)."""

    folder: Path
    graph: Graph
    host_macs: int
    bound: int
    audit: list[OpAudit]
    checked: int
    exits: Calibrated | None = None


def export(run: Path | None, output: Path | None, rule: Rule | None = None, *, dry_run: bool = False, as_json: bool = False) -> Path:
    """Export the run and print what was written, or with `dry_run` what would be; returns the export folder. See `write_export`."""
    folder = find_run(run)
    if dry_run:
        from spikegate.train.restore import load_run

        net = load_run(folder)[1]
        graph = net.graph()
        graph.check()
        _print(graph, net.stem.macs, None, as_json)
        return folder
    with alone_in(output or folder / "export"):
        done = write_export(folder, output, rule)
    _print(done.graph, done.host_macs, done.audit, as_json)
    if not as_json:
        agree = f"torch, ONNX and the file agree on {done.checked} validation images"
        if not done.host_macs:
            agree = f"torch and the file agree on {done.checked} validation recordings"
        cli.console.print((f"embedding exact: sums below {done.bound:,} < 2^24; " if done.host_macs else "") + agree)
        for line in [] if done.exits is None else done.exits.lines:
            cli.console.print(line, soft_wrap=True, markup=False)
        files = ", ".join(("model.net", EMBEDDING, "manifest.json") if done.host_macs else ("model.net", "manifest.json"))
        cli.console.print(f"wrote {done.folder}/{files}; next: python deploy/run.py")
    return done.folder


def write_export(folder: Path, output: Path | None = None, rule: Rule | None = None) -> Exported:
    """Export a finished run, its exit margins chosen by `rule`, and prove on validation images that file and torch agree; prints nothing.

    Raises
    ------
    DeployError
        No run, broken design rules (all listed), an embedding that is not exact, an op that multiplies, any divergence.
    """
    from spikegate.train.data import load
    from spikegate.train.layers.host_stem import HostStem
    from spikegate.train.restore import load_run
    from spikegate.train.tracing import set_margin

    config, net = load_run(folder)
    graph = net.graph()
    graph.check()
    stem = net.stem
    out = output or folder / "export"
    splits = load(config.data)
    images = splits.validation.x[:CHECKED].numpy()
    exits = None
    with together(out, "manifest.json") as part:
        bound = _write_embedding(net, part) if isinstance(stem, HostStem) else 0
        graph.meta = {"model": config.model.name, "dataset": splits.name, "classes": splits.classes}
        host = open_host(part, graph, {"image_shape": net.image_shape})
        if rule is not None and rule.given:
            exits = calibrated(graph, host.encode, splits.validation.x.numpy(), splits.validation.y.numpy(), rule)
            graph = with_margin(graph, exits.margin)
            set_margin(net, exits.margin)
        write_graph(graph, part / "model.net")
        embedded = host.encode(images)
        _prove(net, read_graph(part / "model.net"), images, embedded)
        rows = audit(graph, embedded)
        write_manifest(
            part,
            {
                "name": folder.name,
                "model": config.model.name,
                "dataset": splits.name,
                "data": config.data.model_dump(mode="json"),
                "classes": len(splits.classes),
                "labels": splits.classes,
                "timesteps": graph.timesteps,
                "halting": exits is not None or any(op.halting for op in graph.ops.values()),
                "grid": token_grid(graph),
                "image_shape": list(net.image_shape),
                "host_macs": stem.macs,
                "host_bound": bound,
                "recording_ms": None if splits.recorded is None else round(splits.recorded.milliseconds, 3),
                "dense_ops": {n: op.dense_ops for n, op in graph.ops.items()},
                "embedding_ops": embedding_ops(graph),
                "gates": credit.gates(graph),
                **(NONE if exits is None else exits.facts),
                "stock_netx": is_stock_chain(graph),
                "parameters": net.parameter_count,
                "ops": op_rows(graph),
                "audit": [{"op": r.name, **r.used, "macs": r.macs} for r in rows],
            },
            tuple(name for name in WRITTEN if name != EMBEDDING or isinstance(stem, HostStem)),
        )
    return Exported(out, graph, stem.macs, bound, rows, len(images), exits)


def _write_embedding(net: Any, out: Path) -> int:
    """Write the host's convolution; the bound of its sums."""
    stem = net.stem
    weight, bias = (v.detach().numpy().astype(np.int64) for v in stem.folded())
    return write_host(
        out / EMBEDDING, weight=weight, bias=bias, shift=stem.shift, low=stem.low, high=stem.high, stride=stem.stride,
        padding=stem.padding, image_shape=net.image_shape, pixels=stem.pixels,
    )


def embedding_ops(graph: Graph) -> list[str]:
    """Ops before the first block: patch splitting, its neurons and the replay."""
    return [n for n in graph.ops if n.split(".")[0] in ("sps", "isps")]


def token_grid(graph: Graph) -> list[int]:
    """[height, width] of the token grid, from the last op on a grid."""
    grids = [getattr(op, "out_grid", None) for op in graph.ops.values()]
    return list([g for g in grids if g is not None][-1])


def _prove(net: Any, graph: Graph, images: np.ndarray, embedded: np.ndarray) -> None:
    import torch

    from spikegate.train.tracing import trace_net

    with torch.no_grad():
        expected = net.stem(torch.from_numpy(images)).int().numpy()
    if expected.ndim == 4:
        expected = expected.swapaxes(0, 1)  # a recording's timesteps
    if not np.array_equal(expected, embedded):
        n = int((expected != embedded).sum())
        raise DeployError(
            "embedding", f"onnxruntime and torch differ in {n} of {expected.size} values", "report this: the bound should exclude it"
        )
    ours, theirs = run_int(graph, embedded, spikes=True), trace_net(net, images)
    for name in graph.ops:
        if not np.array_equal(ours.spikes[name], theirs.spikes[name]):
            raise DeployError(
                name, "the exported op differs from torch", "run deploy/compare.py for the first neuron; nothing else was checked"
            )
    if not np.array_equal(ours.logits, theirs.logits):
        raise DeployError("readout", "exported logits differ from torch", "run deploy/compare.py")


def _print(graph: Graph, macs: int, rows: Any, as_json: bool) -> None:
    if as_json:
        cli.print_json(
            {
                "ops": op_rows(graph),
                "host_macs": macs,
                "timesteps": graph.timesteps,
                "audit": [{"op": r.name, **r.used, "macs": r.macs} for r in rows or []],
            }
        )
        return
    cli.console.print(op_table(graph))
    host = f"embedding, {macs:,} MACs per image, not on chip" if macs else "nothing to compute; the first convolution is on chip"
    cli.console.print(f"host: {host}")
    if rows is not None:
        cli.console.print(audit_table(rows))
