"""Events of a net whose signals some other program computed: the ops' own counts of inputs and outputs, timestep by timestep."""

from __future__ import annotations

import numpy as np

from spikegate.engine.stage import COLUMN, Signals
from spikegate.graph.ir import COUNTERS, MUTE, SKIP, Counts, Graph, Inputs, Sources, delayed


class Counter:
    """Counts what `Stage` counts while it computes, from signals that are there already."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.fanout = {n: sum(getattr(graph.ops[e.target], "copies", 1) for e in graph.consumers(n)) for n in graph.ops}

    def events(self, signals: Signals, t: np.ndarray) -> np.ndarray:
        """Events int64 [ops, counters, rows] of one timestep: `signals` hold the input, all ops' output and what was fed back, a row for
        each sample, `t` [rows] the timestep (from 1)."""
        found = np.zeros((len(self.graph.ops), len(COUNTERS), len(t)), np.int64)
        for booked, name in zip(found, self.graph.ops):
            self._book(booked, slice(None), self._of(name, signals, t, booked))
            booked[COLUMN["message"]] = booked[COLUMN["spike_out"]] * self.fanout[name]
        return found

    def _of(self, name: str, signals: Signals, t: np.ndarray, booked: np.ndarray) -> Counts:
        op, inputs = self.graph.ops[name], self._inputs(name, signals)
        if "open" not in inputs:
            return op.events(inputs, signals[name], t)
        self._book(booked, slice(None), op.latch(op.state(len(t)), inputs, t, 1))
        rows = np.flatnonzero(inputs["open"][:, 0] != SKIP)
        if len(rows):
            part: Inputs = {s: tuple(a[rows] for a in v) if isinstance(v, tuple) else v[rows] for s, v in inputs.items()}
            out = signals[name][rows]
            out = np.where((part["open"][:, 0] == MUTE).reshape(-1, *[1] * (out.ndim - 1)), 0, out)
            self._book(booked, rows, op.events(part, out, t[rows]))
        return {}

    def _inputs(self, name: str, signals: Signals) -> Inputs:
        listed = {s.rstrip("*?") for s in self.graph.ops[name].slots if "*" in s}
        inputs: Inputs = {}
        for slot, edges in self.graph.sources(name).items():
            found = [signals[delayed(e.source) if e.delay else e.source] for e in edges]
            inputs[slot] = Sources(found) if slot in listed else found[0]
        return inputs

    @staticmethod
    def _book(booked: np.ndarray, rows: slice | np.ndarray, events: Counts) -> None:
        for counter, values in events.items():
            booked[COLUMN[counter], rows] = values
