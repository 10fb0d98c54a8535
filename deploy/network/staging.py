"""How the mapping ``chip`` cuts a net into processes: as many as there are cores to run them, with equal shares of the work."""

from __future__ import annotations

import os

import numpy as np

from spikegate.engine.injector import free_running
from spikegate.graph.ir import INPUT, Graph, delayed
from spikegate.ops.base.block import Block

MOST = 4  # processes that a net is cut into
GAIN = 0.85  # one more process must shorten the longest share to at most this fraction
EVENTS, GRADED = 0.15, 0.5  # share of inputs taken to be active: spikes, graded values
MESSAGE = 4e5  # work of sending a chunk, whatever its size
DECISION = 8e6  # the same where the injector waits for a decision before the next chunk; a net in one process decides by itself
NEURON, FOREIGN, VALUE = 4.0, 30.0, 6.0  # work of an update (of a `Block`'s any neurons: more), of a value in a message, in accumulates


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stages(graph: Graph, most: int, rows: int = 0) -> list[list[str]]:
    """The ops in order, cut into at most `most` parts so that the longest share of the work is shortest.

    Work is estimated: dense operations times a usual activity, updates, and the values that cross a cut. A further part must save enough;
    where a chunk's `rows` (samples x timesteps) are given, also more than one more message for each chunk costs.
    """
    names = list(graph.ops)
    if most < 2 or len(names) < 2:
        return [names]
    message = MESSAGE if free_running(graph) else DECISION
    part_work = _Work(graph, message / rows if rows else 0.0)
    best: list[int] = [0]
    longest = part_work(0, len(names))
    for parts in range(2, min(most, MOST, len(names)) + 1):
        found, cuts = _cut(part_work, len(names), parts)
        if found > GAIN * longest:
            break
        longest, best = found, cuts
    return [names[a:b] for a, b in zip(best, [*best[1:], len(names)])]


def _cut(work: _Work, n: int, parts: int) -> tuple[float, list[int]]:
    """(longest share, first op of each part) of the best cut of n ops."""
    reach = {k: (work(k, n), [k]) for k in range(n)}  # the ops from k on as one part
    for _ in range(parts - 1):
        reach = {
            k: min((max(work(k, c), reach[c][0]), [k, *reach[c][1]]) for c in range(k + 1, n) if c in reach)
            for k in range(n - 1) if any(c in reach for c in range(k + 1, n))
        }  # fmt: skip
    return reach[0]


class _Work:
    """Work of the ops from a to b as one process, with what it receives and sends."""

    def __init__(self, graph: Graph, message: float) -> None:
        self.names, self.message = list(graph.ops), message
        place = {n: i for i, n in enumerate(self.names)}
        self.own = np.array([work_of(graph, n) for n in self.names])
        self.edges: list[tuple[str, int, int, float]] = []  # signal, place of its source (-1: the injector), of its reader, its work
        for edge in graph.edges:
            values = VALUE * float(np.prod(graph.shape_of(edge.source)))
            if edge.source == INPUT or edge.delay:
                self.edges.append((delayed(edge.source) if edge.delay else INPUT, -1, place[edge.target], values))
            else:
                self.edges.append((edge.source, place[edge.source], place[edge.target], values))

    def __call__(self, a: int, b: int) -> float:
        received = {s: w for s, source, target, w in self.edges if a <= target < b and not a <= source < b}
        sent = {s: w for s, source, target, w in self.edges if a <= source < b and not a <= target < b}
        alone = (a, b) == (0, len(self.names))
        return float(self.own[a:b].sum()) + sum(received.values()) + sum(sent.values()) + (0.0 if alone else self.message)


def work_of(graph: Graph, name: str) -> float:
    """Accumulates of one op at a usual activity, and its updates."""
    op = graph.ops[name]
    payloads = [graph.payload_of(e.source) for edges in graph.sources(name).values() for e in edges]
    active = EVENTS if all(p.binary for p in payloads) else GRADED
    return op.dense_ops * active + (FOREIGN if isinstance(op, Block) else NEURON) * float(np.prod(op.out_shape))
