"""A stage's ops as a table of instructions for the compiled interpreter: a timestep of a small net is then one call, not dozens.

`Op.instruction` returns an op's instruction, built with the methods of `Program`; ops without one, and instructions that stop the
interpreter (`spikegate.kernels.interpreter`), are run by the op's own `advance`, with equal results.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.graph.ir import Graph, delayed
from spikegate.kernels import gather
from spikegate.kernels import instructions as rows
from spikegate.neurons.cuba import Cuba
from spikegate.synapses.taps import Taps

SMALL = 1 << 30  # synapses x rows of a chunk; beyond it the cost of a call is negligible, and the watchdog sees single ops
INTERPRETED_SHARE = 2.0  # factor on `Taps.share`: outside of the interpreter sources are summed again and neurons updated apart


class Arena:
    """Constants of one integer type, concatenated; each array is stored once."""

    def __init__(self, dtype: type) -> None:
        self.dtype, self.size = dtype, 0
        self.parts: list[np.ndarray] = []
        self.places: dict[int, tuple[int, np.ndarray]] = {}

    def put(self, array: np.ndarray) -> int:
        """Offset of the array's values."""
        known = self.places.get(id(array))
        if known is not None and known[1] is array:
            return known[0]
        self.parts.append(np.ascontiguousarray(array, self.dtype).ravel())
        self.places[id(array)] = self.size, array  # keeps the array, so that its id stays its own
        self.size += array.size
        return self.places[id(array)][0]

    def values(self) -> np.ndarray:
        return np.concatenate(self.parts) if self.parts else np.zeros(0, self.dtype)


class Program:
    """The table of the ops `names` of a graph and all constants that it refers to."""

    def __init__(self, graph: Graph, names: list[str]) -> None:
        self.graph, self.names = graph, names
        self.w16, self.w32, self.w64 = Arena(np.int16), Arena(np.int32), Arena(np.int64)
        self.words = self.scratch = self.state = 0  # values for each row (signals, scratch), for each slot (state)
        self.signals: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.states: dict[str, dict[str, tuple[int, tuple[int, ...]]]] = {}
        self.given: list[str] = []  # signals that other stages send
        self._merges: dict[tuple[Any, ...], int] = {}
        self._merge_rows: list[list[int]] = []
        self._links: list[int] = []
        self._lists = self._offsets = 0
        self.activity = 0
        number = {n: i for i, n in enumerate(graph.ops)}
        table = [self._row(i, name, number[name]) for i, name in enumerate(names)]
        width = max(map(len, table), default=0)
        self.table = np.array([row + [0] * (width - len(row)) for row in table], np.int64).reshape(len(table), width)
        self.merges, self.links = np.array(self._merge_rows, np.int64).reshape(-1, rows.EVENTS + 1), np.array(self._links, np.int64)
        self.merges[:, rows.LISTS], self.merges[:, rows.OFFSETS] = self.room(self._lists), self.room(self._offsets)
        self.weights, self.numbers, self.longs = self.w16.values(), self.w32.values(), self.w64.values()
        self.places = [(n, at, int(np.prod(shape)), shape) for n, (at, shape) in self.signals.items()]
        held = [(at, int(np.prod(shape))) for placed in self.states.values() for at, shape in placed.values()]
        self.held = np.array(held, np.int64).reshape(-1, 2)  # offset and values of each state, for each slot
        self.work = sum(graph.ops[n].dense_ops for n in names)

    @property
    def interpreted(self) -> int:
        """Number of ops that the interpreter can run."""
        return int((self.table[:, rows.KIND] != rows.EXTERNAL).sum()) if len(self.table) else 0

    def _row(self, i: int, name: str, number: int) -> list[int]:
        op = self.graph.ops[name]
        sources = {s: [delayed(e.source) if e.delay else e.source for e in edges] for s, edges in self.graph.sources(name).items()}
        for source, edge in ((s, e) for slot, edges in self.graph.sources(name).items() for s, e in zip(sources[slot], edges)):
            if source not in self.signals:
                self.given.append(source)
                self.signals[source] = self.words, self.graph.shape_of(edge.source)
                self.words += int(np.prod(self.graph.shape_of(edge.source)))
        self.states[name] = {}
        state = op.state(1)
        for key, array in state.items() if all(a.dtype == np.int32 for a in state.values()) else ():
            self.states[name][key] = self.state, array.shape[1:]
            self.state += array.size
        args = None if "open" in sources else op.instruction(self, name, sources)
        size = int(np.prod(op.out_shape))
        self.signals[name] = self.words, op.out_shape
        credit = sources.get("alive") or sources.get("chain") or sources.get("before") or []
        head = [rows.EXTERNAL if args is None else args[0], i, number, self.words, size, -1, 0, self.activity]
        if credit:
            head[rows.CREDIT], head[rows.TOKENS] = self.place(credit[0]), int(np.prod(self.shape(credit[0])))
        self.words += size
        self.activity += size * self.graph.timesteps
        return head + (args or [0])[1:]

    def place(self, signal: str) -> int:
        """Offset of a signal's values."""
        return self.signals[signal][0]

    def shape(self, signal: str) -> tuple[int, ...]:
        return self.signals[signal][1]

    def room(self, n: int) -> int:
        """Offset of n values of scratch."""
        self.scratch += n
        return self.scratch - n

    def link(self, sources: list[str]) -> int:
        """Offset of these signals in `links`."""
        self._links += [self.place(s) for s in sources]
        return len(self._links) - len(sources)

    def kept(self, name: str, key: str) -> int:
        """Offset of an op's state; -1 where it has none of that name."""
        return self.states[name][key][0] if key in self.states[name] else -1

    def merge(self, sources: list[str], flat: bool = False) -> int:
        """Index of the sum of these sources, [positions, channels] or, if `flat`, one position with all values."""
        key = (*sources, flat)
        if key not in self._merges:
            shape = self.shape(sources[0])
            channels = int(np.prod(shape)) if flat else shape[-1]
            positions = int(np.prod(shape)) // channels
            high = sum(self.graph.payload_of(s.removeprefix(delayed(""))).high for s in sources)
            cap = 0 if high <= 1 and channels <= gather.FEW else min(max(high, 1), gather.UNITS)
            lists = positions * channels * cap + gather.BLOCK if cap else positions
            total = self.room(positions * channels) if len(sources) > 1 else -1
            self._lists, self._offsets = max(self._lists, lists), max(self._offsets, positions + 1)  # all merges share one buffer
            self._merge_rows.append([len(sources), self.link(sources), positions, channels, cap, total, 0, 0, self.room(positions)])
            self._merges[key] = len(self._merge_rows) - 1
        return self._merges[key]

    def cap(self, merge: int) -> int:
        """Largest value of a merge that is listed as unit events; 0 where positions are coded."""
        return self._merge_rows[merge][rows.CAP]

    def synapses(self, taps: Taps, sources: list[str], flat: bool = False) -> list[int] | None:
        """Columns of synapses on a sum of sources; None for groups of channels and for weights of more than 9 bits."""
        if taps.groups > 1 or not taps.narrow:
            return None
        k = self.merge(sources, flat)
        _, source, _, weight = taps.inward
        if self._merge_rows[k][rows.CAP] == 0:
            weight = taps.sets
        starts, ends = self.w64.put(taps.inward[0]), self.w64.put(taps.ends)
        arrays = [self.w32.put(taps.fan), starts, taps.outputs[0], ends, len(source), self.w16.put(weight), *weight.shape]
        return [k, *arrays, taps.bound, int(INTERPRETED_SHARE * taps.share * 1e6), int(taps.reach * 1e3), taps.outputs[1]]

    def neurons(self, name: str, neuron: Cuba, bias: np.ndarray) -> list[int]:
        """Columns of neurons."""
        return [self.kept(name, "u"), self.kept(name, "v"), *neuron.keeps, *neuron.rule, self.w32.put(bias)]


def program_of(graph: Graph, names: list[str]) -> Program:
    """The program of these ops, cached until they or their edges change."""
    known: dict[tuple[str, ...], tuple[Any, Program]] = graph.__dict__.setdefault("_programs", {})
    key = [graph.ops[n] for n in names], list(graph.edges), graph.timesteps, graph.input_shape, graph.input_payload
    last = known.get(tuple(names))
    if last is None or not same(last[0], key):
        known[tuple(names)] = last = key, Program(graph, names)
    return last[1]


def same(a: Any, b: Any) -> bool:
    """Whether two states of a graph have the very same ops and equal edges."""
    return len(a[0]) == len(b[0]) and all(x is y for x, y in zip(a[0], b[0])) and a[1:] == b[1:]
