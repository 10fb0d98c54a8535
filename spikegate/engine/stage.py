"""Some ops of a graph, computed chunk by chunk for the samples in their slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spikegate.engine.program import SMALL, program_of
from spikegate.graph.ir import COUNTERS, MUTE, SKIP, Counts, Graph, Inputs, Sources, delayed
from spikegate.kernels import compiling
from spikegate.kernels.instructions import OP, cleared, moved
from spikegate.kernels.interpreter import interpret
from spikegate.neurons.cuba import report

Signals = dict[str, np.ndarray]
COLUMN = {counter: k for k, counter in enumerate(COUNTERS)}
NOTHING = np.zeros(0, np.int32)
ALONE = 16  # rows from which on copying an op's inputs takes longer than calling it without the interpreter


@dataclass
class Chunk:
    """Some timesteps of the samples in flight, computed in one call.

    `rows` [A] are the numbers of the occupied slots. The rows of `sample`, `t` (from 1) and the signals have the order (slot, timestep),
    `span` timesteps of each slot: [A * span].
    """

    rows: np.ndarray
    sample: np.ndarray
    t: np.ndarray
    signals: Signals
    span: int = 1


class Stage:
    """Computes the ops `names` of a graph in order, for up to `width` samples at a time; keeps their state."""

    def __init__(self, graph: Graph, names: list[str], width: int, span: int = 1) -> None:
        compiling.announce()
        self.names = names
        self.ops = {n: graph.ops[n] for n in names}
        self.rows = np.arange(width)
        self.events = np.zeros((len(names), len(COUNTERS), 0), np.int64)  # of the last chunk [ops, counters, rows]
        self.tap: Callable[[str, Inputs, np.ndarray], None] | None = None  # receives each op's inputs (audit); switches the interpreter off
        self.watch: Callable[[str], None] | None = None  # is called with the name of the current op
        self.cell = np.zeros(1)  # the graph's number of the op that the interpreter runs
        self.sent: Callable[[str, np.ndarray, np.ndarray], None] | None = None  # is called with each op's output while it is in the cache
        self.activity = NOTHING  # events of each neuron by timestep, in the order of the names, for the interpreted ops
        self._sources = {}
        for n in names:
            slots = graph.sources(n)
            listed = {s.rstrip("*?") for s in graph.ops[n].slots if "*" in s}
            self._sources[n] = [
                (slot, slot in listed, tuple(delayed(e.source) if e.delay else e.source for e in edges)) for slot, edges in slots.items()
            ]
        fanout = [sum(getattr(graph.ops[e.target], "copies", 1) for e in graph.consumers(n)) for n in names]
        self._fanout = np.array(fanout, np.int64)[:, None]
        program = program_of(graph, names)
        worthwhile = program.interpreted > len(names) // 2  # outputs of other ops are copied into the interpreter's memory
        if len(names) == 1:
            worthwhile = worthwhile and width * span < ALONE
        self.program = program if worthwhile and program.work * width * span < SMALL else None
        self._scratch = self._words = np.zeros(0, np.int32)
        self.lasting = True  # if False, the next chunk reuses the memory of this one's signals
        self._apart = [n for n in names if self.program is None or not self.program.states[n]]  # ops whose state is not in `_all`
        self._all, self.state = self._room(width)  # set to 0 at a sample's first timestep, too
        self._all[...] = 0

    def _room(self, width: int) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
        """(one array with the state of the program's ops, state by op) for so many slots; the first is not initialised."""
        if self.program is None:
            return NOTHING, {n: op.state(width) for n, op in self.ops.items()}
        whole, state = np.empty(width * self.program.state, np.int32), {}
        for n, op in self.ops.items():
            placed = self.program.states[n]
            ends = {key: (at * width, (at + int(np.prod(shape))) * width, shape) for key, (at, shape) in placed.items()}
            state[n] = {key: whole[a:b].reshape(width, *shape) for key, (a, b, shape) in ends.items()} if placed else op.state(width)
        return whole, state

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """Events of the last chunk by op, int64 [rows, counters]."""
        return {n: self.events[i].T for i, n in enumerate(self.names)}

    def _fit(self, rows: np.ndarray) -> None:
        """Drop the state of slots that are not in use any more."""
        if len(rows) == len(self.rows):
            return
        keep, whole, last = np.flatnonzero(np.isin(self.rows, rows)), self._all, self.state
        self.rows = self.rows[keep]
        self._all, self.state = self._room(len(keep))
        if self.program is not None:
            moved(whole, self._all, self.program.held, keep)
        for name in self._apart:
            for key, array in self.state[name].items():
                np.take(last[name][key], keep, 0, array)

    def step(self, chunk: Chunk) -> None:
        """Add each op's output [A * span, ...] to the chunk's signals and its events to `events`."""
        self._fit(chunk.rows)
        first = chunk.t[:: chunk.span] == 1
        if first.all():
            self._all[...] = 0
            for name in self._apart:
                for array in self.state[name].values():
                    array[...] = 0
        elif first.any():
            if self.program is not None:
                cleared(self._all, self.program.held, first)
            for name in self._apart:
                for array in self.state[name].values():
                    array[first] = 0
        self.events = np.zeros((len(self.names), len(COUNTERS), len(chunk.t)), np.int64)
        together: dict[tuple[str, ...], Sources] = {}  # merged sources, shared by the ops that read them
        if self.program is not None and self.tap is None:
            self._interpret(chunk, together)
        else:
            for i in range(len(self.names)):
                self._call(i, chunk, together)
        self.events[:, COLUMN["message"]] = self.events[:, COLUMN["spike_out"]] * self._fanout

    def _interpret(self, chunk: Chunk, together: dict[tuple[str, ...], Sources]) -> None:
        """All ops by the interpreter; those that it cannot run, by their own `advance`."""
        program, rows = self.program, len(chunk.t)
        assert program is not None
        if self.lasting or self._words.size < program.words * rows:
            self._words = np.empty(program.words * rows, np.int32)
        words = self._words
        if self._scratch.size < program.scratch * rows:
            self._scratch = np.empty(program.scratch * rows, np.int32)
        views = {n: words[at * rows : at * rows + rows * size].reshape(rows, *shape) for n, at, size, shape in program.places}
        for name in program.given:
            views[name][...] = chunk.signals[name]
        chunk.signals.update((n, views[n]) for n in self.names)
        merge_stats, flags = np.zeros((len(program.merges), 4), np.int64), np.zeros(len(self.names), np.int64)
        row, end = 0, len(program.table)
        while True:
            row = interpret(
                program.table, row, rows, chunk.span, chunk.t, words, self._scratch, self._all, program.weights, program.numbers,
                program.longs, program.merges, program.links, merge_stats, self.events, flags, self.activity, self.cell,
            )  # fmt: skip
            if row == end:
                break
            i = int(program.table[row, OP])
            self._call(i, chunk, together)
            views[self.names[i]][...] = chunk.signals[self.names[i]]
            chunk.signals[self.names[i]] = views[self.names[i]]
            row += 1
        for i in np.flatnonzero(flags):
            if self.watch is not None:
                self.watch(self.names[i])
            report(int(flags[i]))

    def _call(self, i: int, chunk: Chunk, together: dict[tuple[str, ...], Sources]) -> None:
        """One op by its own `advance`."""
        name = self.names[i]
        state = self.state[name]
        inputs: Inputs = {}
        for slot, listed, sources in self._sources[name]:
            if not listed:
                inputs[slot] = chunk.signals[sources[0]]
                continue
            if sources not in together:
                together[sources] = Sources([chunk.signals[s] for s in sources])
            inputs[slot] = together[sources]
        if self.watch is not None:
            self.watch(name)
        if "open" in inputs:
            chunk.signals[name] = self._masked(i, inputs, chunk, state)
        else:
            if self.tap is not None:
                self.tap(name, inputs, chunk.t)
            chunk.signals[name], events = self.ops[name].advance(state, inputs, chunk.t, chunk.span)
            self._book(self.events[i], events)
        if self.sent is not None:
            self.sent(name, chunk.signals[name], chunk.t)

    def _book(self, booked: np.ndarray, events: Counts, *at: slice | np.ndarray) -> None:
        for counter, values in events.items():
            booked[(COLUMN[counter], *at)] = values

    def _masked(self, i: int, inputs: Inputs, chunk: Chunk, state: dict[str, np.ndarray]) -> np.ndarray:
        """An op under a timestep mask: where a timestep is skipped nothing is computed and the state stays."""
        op = self.ops[self.names[i]]
        self._book(self.events[i], op.latch(state, inputs, chunk.t, chunk.span))
        out = np.zeros((len(chunk.t), *op.out_shape), np.int32)
        words = inputs["open"][:, 0].reshape(-1, chunk.span)
        for first, last in _alike(words):
            muted = words[:, first] == MUTE
            slots = np.flatnonzero(words[:, first] != SKIP)
            if not len(slots):
                continue
            every = len(slots) == len(words)
            at = slice(None) if every else slots, slice(first, last)
            whole = every and last - first == chunk.span

            def cut(a: np.ndarray, at: tuple[slice | np.ndarray, slice] = at) -> np.ndarray:
                picked: np.ndarray = a.reshape(-1, chunk.span, *a.shape[1:])[at]
                return picked.reshape(-1, *a.shape[1:])

            part = inputs if whole else {s: tuple(map(cut, v)) if isinstance(v, tuple) else cut(v) for s, v in inputs.items()}
            t = cut(chunk.t)
            kept = state if every else {n: v[slots] for n, v in state.items()}
            if self.tap is not None:
                self.tap(self.names[i], part, t)
            if muted.any():
                now = op.step(kept, part, t)
                now[muted[slots]] = 0
                events = op.events(part, now, t)
            else:
                now, events = op.advance(kept, part, t, last - first)
            if whole:
                out = now
            else:
                out.reshape(-1, chunk.span, *op.out_shape)[at] = now.reshape(-1, last - first, *op.out_shape)
            booked = self.events[i].reshape(len(COUNTERS), -1, chunk.span)
            self._book(booked, {c: values.reshape(-1, last - first) for c, values in events.items()}, *at)
            if kept is not state:
                for n, v in kept.items():
                    state[n][slots] = v
        return out


def _alike(words: np.ndarray) -> Iterator[tuple[int, int]]:
    """Runs of timesteps (first, behind the last) that one call computes: the same samples [samples, span] are open in them.

    A muted timestep is one of its own.
    """
    closed, alone = words == SKIP, (words == MUTE).any(0)
    breaks = (closed[:, 1:] != closed[:, :-1]).any(0) | alone[1:] | alone[:-1]
    ends = [0, *(np.flatnonzero(breaks) + 1), words.shape[1]]
    yield from pairwise(ends)
