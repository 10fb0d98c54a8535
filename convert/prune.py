"""Token pruning of an exported net without training: a contrast gate before its blocks, calibrated on validation images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spikegate.command import cli
from spikegate.command.runs import find_export, run_of
from spikegate.convert.pruned_graph import GATE, RELAY, before_blocks, entering, with_gate
from spikegate.convert.rewriting import write_form
from spikegate.data.shipped import open_images
from spikegate.engine import integer
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Graph

ENOUGH = 512  # validation images that a cut is calibrated on, at most
STEP, MOST = 0.05, 0.6  # shares that are tried where a loss of accuracy is given


class Form(NamedTuple):
    """How a net is pruned: `share` of the cells at most, after `patience` quiet timesteps, by a gate with this `cut`."""

    share: float
    patience: int
    cut: int


def dropped(graph: Graph, embedding: list[str], inputs: np.ndarray) -> float:
    """Share of the (timestep, token) cells that the gate of a graph of `with_gate` drops; its blocks are not run for it."""
    inside = {*embedding, RELAY, GATE}
    ops = {n: op for n, op in graph.ops.items() if n in inside}
    alone = dataclasses.replace(graph, ops=ops, edges=[e for e in graph.edges if e.target in inside])
    return 1 - float(integer.run(alone, inputs).alive[:, :, 1].mean())


def calibrated_cut(
    graph: Graph, embedding: list[str], grid: tuple[int, int], inputs: np.ndarray, share: float, patience: int, *, whole: bool = False
) -> int:
    """The largest cut that drops at most `share` of the (timestep, token) cells of the samples, by bisection."""
    gate = with_gate(graph, embedding, grid, 0, patience, whole=whole).ops[GATE]
    low, top = 0, gate.channels * sum(graph.payload_of(n).high for n in entering(graph, embedding)) * 8 + 1  # type: ignore[attr-defined]
    while top - low > 1:
        middle = (low + top) // 2
        if dropped(with_gate(graph, embedding, grid, middle, patience, whole=whole), embedding, inputs) <= share:
            low = middle
        else:
            top = middle
    return low


def cheapest(
    graph: Graph, embedding: list[str], grid: tuple[int, int], inputs: np.ndarray, labels: np.ndarray, loss: float,
    *, most: float = MOST, patience: int | None = None, whole: bool = False,
) -> Form:  # fmt: skip
    """The form with the fewest events of those whose accuracy on the samples is at most `loss` below the net's as it is.

    Shares rise in steps of 0.05 to `most`, for `patience` or each one from 1 to T - 1, until the accuracy is lower than that.

    Raises
    ------
    DeployError
        None has fewer events than the net as it is, at no more loss.
    """
    static = integer.run(graph, inputs, labels)
    shares = [*(round(float(s), 4) for s in np.arange(STEP, most - STEP / 10, STEP)), most]
    found: list[tuple[float, Form]] = []
    with cli.errors.status("static net") as status:
        for quiet in [patience] if patience else range(1, max(2, graph.timesteps)):
            tried = set[int]()
            for share in shares:
                status.update(f"patience {quiet}, {share:.0%} of the tokens")
                cut = calibrated_cut(graph, embedding, grid, inputs[:ENOUGH], share, quiet, whole=whole)
                if cut in tried:
                    continue
                tried.add(cut)
                record = integer.run(with_gate(graph, embedding, grid, cut, quiet, whole=whole), inputs, labels)
                if record.accuracy < static.accuracy - loss:
                    break
                if record.chip_events.sum() < static.chip_events.sum():
                    found.append((float(record.chip_events.mean()), Form(share, quiet, cut)))
    if not found:
        raise DeployError("--prune-loss", f"no form saves events and loses {loss:.2%} at most", "allow more, or train with halting")
    return min(found)[1]


def prune(
    run: Path | None, output: Path | None, share: float | None = None, *, loss: float | None = None, patience: int | None = None,
    whole: bool = False, data_path: Path | None = None, as_json: bool = False,
) -> Path:  # fmt: skip
    """Write a pruned form of an export to `output` (RUN/pruned if left out); returns the folder.

    Parameters
    ----------
    share : of the (timestep, token) cells of the validation images that are dropped, at most
    loss : of accuracy on all validation images: the form with the fewest events that loses no more; `share` and `patience` bound it
    patience : quiet timesteps until a token is dropped; 2 if left out, with `loss` any
    whole : dropped tokens leave the embedding, too

    Raises
    ------
    DeployError
        No export, no validation images at hand, a net whose tokens cannot be dropped, an op that multiplies, no form within the loss.
    """
    if not 0 <= (share or 0) < 1 or (patience is not None and patience < 1):
        raise DeployError("--prune", f"{share} of the tokens after {patience} timesteps", "give a share from 0 to 1, 1 timestep or more")
    if loss is not None and not 0 <= loss < 1:
        raise DeployError("--prune-loss", f"{loss:g}", "give a share of the images from 0 to 1, as 0.003 for 0.3 points")
    if share is None and loss is None:
        raise DeployError("--prune", "no share and no loss", "give --prune SHARE or --prune-loss LOSS")
    export = find_export(run)
    manifest, graph = read_manifest(export), read_graph(export / "model.net")
    embedding, grid = before_blocks(graph, manifest["embedding_ops"]), tuple(manifest["grid"])
    with_gate(graph, embedding, grid, 0, patience or 1, whole=whole)  # names what cannot be pruned, before anything is run
    host = open_host(export, graph, manifest)
    opened = open_images(export, manifest, "validation", data_path)
    enough = ENOUGH if loss is None else None
    labels, inputs = opened.y[:enough], host.encode(opened.x[:enough])
    if loss is not None:
        form = cheapest(graph, embedding, grid, inputs, labels, loss, most=MOST if share is None else share, patience=patience, whole=whole)
    else:
        form = Form(share or 0.0, patience or 2, 0)
        form = form._replace(cut=calibrated_cut(graph, embedding, grid, inputs, form.share, form.patience, whole=whole))
    made = with_gate(graph, embedding, grid, form.cut, form.patience, whole=whole)
    before, after = integer.run(graph, inputs, labels), integer.run(made, inputs, labels)
    folder = output or run_of(export) / "pruned"
    facts: dict[str, Any] = {
        **form._asdict(), "loss": loss, "embedding": whole, "images": len(labels), "mean_tokens": after.mean_tokens,
        "accuracy_before": before.accuracy, "accuracy": after.accuracy,
        "events_before": float(before.chip_events.mean()), "events": float(after.chip_events.mean()),
    }
    write_form(export, folder, made, inputs[:8], name=f"{manifest['name']}-pruned", halting=True, pruned=facts)
    if as_json:
        cli.print_json({"folder": str(folder), **facts})
        return folder
    cli.console.print(
        f"drops tokens whose contrast is below {form.cut} for {form.patience} timesteps: {1 - after.mean_tokens:.1%} of the cells of "
        f"{len(labels):,} validation images, {1 - facts['events'] / facts['events_before']:.1%} of the events; "
        f"accuracy {before.accuracy:.2%}, pruned {after.accuracy:.2%}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    cli.console.print(f"wrote {folder}; next: python deploy/run.py {folder}", soft_wrap=True, markup=False)
    return folder
