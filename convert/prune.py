"""Token pruning of an exported net without training: a contrast gate before its blocks, calibrated on validation images.

The gate (`spikegate.ops.contrast_gate`) reads the spikes that enter the first block. What it drops is not computed in any block from then
on, in no later timestep, and the read-out keeps the value that it had. The embedding goes on, since convolutions read across tokens, unless
it is asked to halt, too: then a dropped token's positions send nothing from the timestep after, which its neighbours feel.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command import cli
from spikegate.command.runs import find_export, run_of
from spikegate.convert.rewriting import write_form
from spikegate.data.shipped import open_images
from spikegate.engine import integer
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph import credit
from spikegate.graph.ir import INPUT, DeployError, Edge, Graph
from spikegate.ops.biased import Biased
from spikegate.ops.contrast_gate import ContrastGate
from spikegate.ops.relay import Relay

GATE, RELAY = "prune", "prune.relay"
ENOUGH = 512  # validation images that the cut is calibrated on, at most


def before_blocks(graph: Graph, named: list[str]) -> list[str]:
    """The ops before the blocks, in order: those that the manifest names, those that read across tokens, and what these read.

    The embedding of an imported net has no names of its own, and a later stage begins with a convolution.
    """
    found, waiting = set[str](), [n for n, op in graph.ops.items() if n in named or _across(op)]
    while waiting:
        name = waiting.pop()
        if name in graph.ops and name not in found:
            found.add(name)
            waiting += [e.source for e in graph.edges if e.target == name and not e.delay]
    return [n for n in graph.ops if n in found]


def _across(op: Any) -> bool:
    """Whether an op on maps reads other positions than the one that it writes."""
    if getattr(op, "out_grid", None) is None or not hasattr(op, "grid"):
        return False
    weight = getattr(op, "weight", np.zeros(()))
    kernel = weight.shape[2:] if weight.ndim == 4 else (getattr(op, "kernel", 1),)
    return tuple(op.out_grid) != tuple(op.grid) or max(kernel) > 1


def entering(graph: Graph, embedding: list[str]) -> list[str]:
    """The ops of the embedding whose spikes enter the blocks."""
    inside = {INPUT, *embedding}
    found = [e.source for e in graph.edges if e.source in inside and e.target not in inside and e.slot == "x"]
    return [n for n in embedding if n in found]


def gated(graph: Graph, embedding: list[str], tokens: int) -> list[str]:
    """The ops of the embedding that a credit of so many tokens can halt.

    Not those that work on each token by itself: what counts living tokens takes them for a block's (`credit.entering`).
    """
    single = {n for n in embedding if graph.ops[n].dense_ops and getattr(graph.ops[n], "pointwise", True)}
    return [n for n in embedding if n not in single and _takes(graph, n, tokens)]


def _takes(graph: Graph, name: str, tokens: int) -> bool:
    """Whether an op accepts a credit of so many tokens."""
    op, slots = graph.ops[name], graph.sources(name)
    shapes = {slot: [graph.shape_of(e.source) for e in edges] for slot, edges in slots.items()}
    payloads = {slot: [graph.payload_of(e.source) for e in edges] for slot, edges in slots.items()}
    return "alive?" in op.slots and not any(op.problems({**shapes, "alive": [(tokens,)]}, payloads))


def _on_a_grid(graph: Graph) -> Graph:
    """The graph whose first neurons state the grid that their readers have; nets of older exports do not state it."""
    ops = dict(graph.ops)
    for name, op in graph.ops.items():
        if not isinstance(op, Biased) or op.out_grid:
            continue
        read = {tuple(getattr(graph.ops[e.target], "grid", ())) for e in graph.consumers(name)}
        if len(read) == 1 and np.prod(next(iter(read))) == op.shape[0] and len(next(iter(read))) == 2:
            ops[name] = dataclasses.replace(op, grid=next(iter(read)))
    return dataclasses.replace(graph, ops=ops)


def with_gate(graph: Graph, embedding: list[str], grid: tuple[int, int], cut: int, patience: int = 1, *, whole: bool = False) -> Graph:
    """The graph with a contrast gate on what enters its blocks, and a relay that ends the events of dropped tokens there.

    `whole`: dropped tokens leave the embedding, too, from the timestep after; the relay stands only where that leaves something to end.

    Raises
    ------
    DeployError
        A net that halts or merges tokens already, or whose blocks, stream or head do not hold tokens that can be dropped; with `whole`,
        an embedding of which no op can be halted.
    """
    if credit.gates(graph):
        raise DeployError("--prune", f"the net has token gates already ({', '.join(credit.gates(graph))})", "prune a static net")
    sources = entering(graph, embedding)
    heads = graph.only("readout")
    if not sources or not heads or len(graph.ops[heads[0]].weight.shape) != 3:  # type: ignore[attr-defined]
        raise DeployError("--prune", "no spikes of an embedding that a block and a head read", "prune a net with tokens, as spikformer")
    shapes = {graph.shape_of(n) for n in sources}
    tokens, channels = next(iter(shapes))
    currents = [e.target for e in graph.edges if e.slot in ("current", "direct")]
    if len(shapes) > 1 or tokens != grid[0] * grid[1] or graph.ops[heads[0]].weight.shape[1] != tokens or currents:  # type: ignore[attr-defined]
        what = "what enters the blocks is not the head's tokens"
        if currents:
            what = f"{currents[0]} adds currents, which have no token to drop"
        raise DeployError("--prune", what, "prune a net whose residual stream adds spikes on one grid of tokens")
    graph = _on_a_grid(graph) if whole else graph
    halted = gated(graph, embedding, tokens) if whole else []
    if whole and not halted:
        raise DeployError("--prune-embedding", "no op of the embedding takes a credit of its tokens", "leave it out, to prune the blocks")
    inside, high = set(embedding), sum(graph.payload_of(n).high for n in sources)
    made = dataclasses.replace(graph, ops={n: graph.ops[n] for n in graph.ops if n in inside}, edges=[])
    made.edges = [e for e in graph.edges if e.target in inside] + [Edge(GATE, n, "alive", 1) for n in halted]
    stream = sources
    if not {*sources} <= {*halted}:
        stream = [made.add(RELAY, Relay((tokens, channels), high), delayed={"alive"}, x=sources, alive=GATE)]
    made.add(GATE, ContrastGate(grid, channels, cut, patience), delayed=["chain"], x=stream, chain=[GATE])
    for name, op in graph.ops.items():
        if name in inside:
            continue
        made.ops[name] = op
        read: list[Edge] = []
        for edge in (e for e in graph.edges if e.target == name):
            if RELAY not in made.ops or edge.source not in sources or edge.slot != "x":
                read.append(edge)
            elif not any(e.source == RELAY and e.slot == edge.slot for e in read):
                read.append(Edge(RELAY, name, edge.slot, edge.delay))
        if "alive?" in op.slots and (op.kind == "exit_gate" or op.out_shape[0] == tokens):
            read.append(Edge(GATE, name, "alive"))
        if op.kind == "readout":
            read += [Edge(GATE, name, "before", 1), Edge(GATE, name, "after")]
        made.edges += read
    made.check()
    return made


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


def prune(run: Path | None, output: Path | None, share: float, *, patience: int = 2, whole: bool = False, data_path: Path | None = None,
          as_json: bool = False) -> Path:
    """Write a pruned form of an export to `output` (RUN/pruned if left out); returns the folder.

    Parameters
    ----------
    share : of the (timestep, token) cells of the validation images that are dropped, at most
    patience : quiet timesteps until a token is dropped
    whole : dropped tokens leave the embedding, too

    Raises
    ------
    DeployError
        No export, no validation images at hand, a net whose tokens cannot be dropped, an op that multiplies.
    """
    if not 0 <= share < 1 or patience < 1:
        raise DeployError("--prune", f"{share:g} of the tokens after {patience} timesteps", "give a share from 0 to 1, 1 timestep or more")
    export = find_export(run)
    manifest, graph = read_manifest(export), read_graph(export / "model.net")
    embedding, grid = before_blocks(graph, manifest["embedding_ops"]), tuple(manifest["grid"])
    with_gate(graph, embedding, grid, 0, patience, whole=whole)  # names what cannot be pruned, before anything is run
    host = open_host(export, graph, manifest)
    opened = open_images(export, manifest, "validation", data_path)
    images, labels = opened.x[:ENOUGH], opened.y[:ENOUGH]
    inputs = host.encode(images)
    cut = calibrated_cut(graph, embedding, grid, inputs, share, patience, whole=whole)
    made = with_gate(graph, embedding, grid, cut, patience, whole=whole)
    before, after = integer.run(graph, inputs, labels), integer.run(made, inputs, labels)
    folder = output or run_of(export) / "pruned"
    facts: dict[str, Any] = {
        "share": share, "patience": patience, "embedding": whole, "cut": cut, "images": len(images), "mean_tokens": after.mean_tokens,
        "accuracy_before": before.accuracy, "accuracy": after.accuracy,
        "events_before": float(before.chip_events.mean()), "events": float(after.chip_events.mean()),
    }
    write_form(export, folder, made, inputs[:8], name=f"{manifest['name']}-pruned", halting=True, pruned=facts)
    if as_json:
        cli.print_json({"folder": str(folder), **facts})
        return folder
    cli.console.print(
        f"drops tokens whose contrast is below {cut}: {1 - after.mean_tokens:.1%} of the cells of {len(images)} validation images, "
        f"{1 - facts['events'] / facts['events_before']:.1%} of the events; accuracy {before.accuracy:.2%}, pruned {after.accuracy:.2%}",
        soft_wrap=True, markup=False,
    )
    cli.console.print(f"wrote {folder}; next: python deploy/run.py {folder}", soft_wrap=True, markup=False)
    return folder
