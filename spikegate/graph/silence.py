"""Design rule of halting: what reaches an attention with a credit was sent by ops with the same credit, so dead tokens are silent there.

`spiking_attention` counts every spike of q, k and v; a spike of a dead token would be counted with the living ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

COUNTING = {"spiking_attention": ("q", "k", "v")}  # kinds that count what arrives, and the slots where it does


def silence_problems(ops: Mapping[str, Any], edges: Iterable[Any]) -> Iterator[tuple[str, str, str]]:
    """(op, what is wrong, what to do) for ops by name and the edges between them."""
    edges = list(edges)
    credit = {e.target: (e.source, e.delay) for e in edges if e.slot == "alive"}
    for edge in edges:
        op = ops.get(edge.target)
        if op is None or edge.slot not in COUNTING.get(op.kind, ()) or edge.target not in credit:
            continue
        if edge.delay or credit.get(edge.source) != credit[edge.target]:
            gate = credit[edge.target][0]
            yield (edge.target, f"takes {edge.slot} of {edge.source!r}, which may send spikes of tokens that {gate!r} has halted",
                   f"connect slot 'alive' of {edge.source!r} to {gate!r}, too")
