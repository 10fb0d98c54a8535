"""A graph whose tokens are dropped by a contrast gate before its blocks: what the embedding is, what the gate halts.

The gate (`spikegate.ops.contrast_gate`) reads the spikes that enter the first block. What it drops is not computed in any block from then
on, in no later timestep, and the read-out keeps the value that it had. The embedding goes on, since convolutions read across tokens, unless
it is asked to halt, too: then a dropped token's positions send nothing from the timestep after, which its neighbours feel.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from spikegate.graph import credit
from spikegate.graph.ir import INPUT, DeployError, Edge, Graph
from spikegate.ops.biased import Biased
from spikegate.ops.contrast_gate import ContrastGate
from spikegate.ops.relay import Relay

GATE, RELAY = "prune", "prune.relay"


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
