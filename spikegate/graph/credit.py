"""The tokens' credit in a graph: which ops change it, where it starts, and which ops it gates."""

from __future__ import annotations

from spikegate.graph.ir import Graph


def gates(graph: Graph) -> list[str]:
    """Ops whose output is a credit per token, in graph order."""
    return [n for n, op in graph.ops.items() if op.gates_tokens]


def start(graph: Graph) -> str | None:
    """The op whose credit of the timestep before the first gate takes; None without such feedback."""
    names = gates(graph)
    before = graph.sources(names[0]).get("chain", []) if names else []
    return before[0].source if before and before[0].delay else None


def entering(graph: Graph) -> list[int]:
    """Which credits gate the blocks: 0 for the one before the first gate, k for that after gate k. [0] without gates.

    Blocks are ops with synapses and an `alive` slot; relays and the exit gate have no synapses, and an embedding's reach across tokens.
    """
    names = gates(graph)
    working = {n for n, op in graph.ops.items() if op.dense_ops and getattr(op, "pointwise", True)}
    edges = [e for e in graph.edges if e.slot == "alive" and e.target in working and e.source in names]
    entries = {0 if e.delay else names.index(e.source) + 1 for e in edges}
    return sorted(entries) or [0]
