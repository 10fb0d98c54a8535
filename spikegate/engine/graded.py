"""Graded events on synapses: which layers need a multiplication for them, and how often."""

from __future__ import annotations

import numpy as np

from spikegate.engine.integer import run
from spikegate.graph.ir import INPUT, Graph, Inputs, Op
from spikegate.ops.base.block import Block
from spikegate.ops.block_input import BlockInput

CELLS = 1 << 26  # (neuron, timestep, sample) cells that are recorded at a time


def multiplying(graph: Graph) -> list[str]:
    """Layers whose synapses get values other than 0 and 1: on a chip each such event costs a multiplication."""
    return [n for n, op in graph.ops.items() if isinstance(op, Block | BlockInput)
            and any(not graph.payload_of(e.source).binary for edges in graph.sources(n).values() for e in edges)]


def count(graph: Graph, x: np.ndarray) -> dict[str, dict[str, int]]:
    """``multiplications`` and ``accumulates`` of each `multiplying` layer for inputs int32 [samples, T, ...], summed up.

    A synaptic event is one non-zero value that meets one non-zero weight. Of value 1 it is an accumulate, of any other value (-1 too)
    a multiplication whose product is then added. Runs the integer reference, some samples at a time.
    """
    names = multiplying(graph)
    found = {n: {"multiplications": 0, "accumulates": 0} for n in names}
    if not names:
        return {}
    sources = sorted({e.source for n in names for edges in graph.sources(n).values() for e in edges} - {INPUT})
    cells = graph.timesteps * sum(int(np.prod(graph.ops[n].out_shape)) for n in sources)
    each = max(1, CELLS // max(1, cells))
    for start in range(0, len(x), each):
        part = x[start : start + each]
        spikes = run(graph, part, spikes=sources).spikes if sources else {}
        for name in names:
            multiplications, accumulates = _events(graph.ops[name], _inputs(graph, name, {**spikes, INPUT: part}))
            found[name]["multiplications"] += multiplications
            found[name]["accumulates"] += accumulates
    return found


def _inputs(graph: Graph, name: str, sent: dict[str, np.ndarray]) -> Inputs:
    """What arrives at an op in all timesteps of all samples, [samples * T, ...]; delayed edges bring the timestep before."""
    given = {}
    for slot, edges in graph.sources(name).items():
        maps = []
        for e in edges:
            s = sent[e.source]
            if e.delay:
                s = np.concatenate([np.zeros_like(s[:, :1]), s[:, :-1]], 1)
            maps.append(s.reshape(-1, *s.shape[2:]))
        given[slot] = tuple(maps)
    listed = {s.rstrip("*?") for s in graph.ops[name].slots if "*" in s}
    return {slot: maps if slot in listed else maps[0] for slot, maps in given.items()}


def _events(op: Op, inputs: Inputs) -> tuple[int, int]:
    """(multiplications, accumulates) of one op."""
    multiplications = op.macs(inputs)
    if isinstance(op, BlockInput):
        all_ = sum(int(np.count_nonzero(x)) for x in inputs["x"]) * (op.weight != 0)
        return multiplications, all_ - multiplications
    assert isinstance(op, Block)
    return multiplications, sum(int((x == 1).sum(0) @ fan) for x, fan in op.arrivals(inputs))
