"""What all stages share: a graph of integer operations.

A signal is an int32 array ``[batch, *shape]``; token and feature maps have shape ``(positions, channels)`` with the
positions of a grid row by row (position = y * width + x). One call of `Op.step` is one timestep.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from spikegate.errors import DeployError as DeployError
from spikegate.graph.alu import Alu as Alu
from spikegate.graph.arrays import Axes as Axes
from spikegate.graph.arrays import array_problems
from spikegate.graph.clock import clock_problems
from spikegate.graph.signals import HOLD as HOLD
from spikegate.graph.signals import MUTE as MUTE
from spikegate.graph.signals import OPEN as OPEN
from spikegate.graph.signals import SKIP as SKIP
from spikegate.graph.signals import Counts as Counts
from spikegate.graph.signals import Inputs as Inputs
from spikegate.graph.signals import Payload as Payload
from spikegate.graph.signals import Payloads as Payloads
from spikegate.graph.signals import Problems as Problems
from spikegate.graph.signals import Shapes as Shapes
from spikegate.graph.signals import Size as Size
from spikegate.graph.signals import Sources as Sources
from spikegate.graph.signals import State as State
from spikegate.graph.signals import credit_of as credit_of
from spikegate.graph.signals import delayed as delayed
from spikegate.graph.signals import held as held
from spikegate.graph.signals import merged as merged
from spikegate.graph.signals import nonzero as nonzero
from spikegate.graph.signals import only_alive as only_alive
from spikegate.graph.signals import per_sample as per_sample
from spikegate.graph.signals import summed as summed
from spikegate.graph.signals import total as total
from spikegate.graph.signals import updates as updates
from spikegate.graph.silence import silence_problems
from spikegate.kernels.counters import COUNTERS as COUNTERS

INPUT = "input"  # name of the host's signal
BINARY = Payload(0, 1)


class Op:
    """One operation: its integer semantics, design rules, event counts and examples. Subclasses are frozen dataclasses.

    Input slots are named in `slots`; a trailing ``?`` marks an optional one, ``*`` a slot that takes a list of
    sources whose values add up (W(x + y) = Wx + Wy). Slot ``alive`` receives the credit of each token [batch, tokens]:
    a token with credit 0 is halted, costs nothing and sends nothing. Slot ``open`` receives the word of a timestep mask
    [batch, 1]: in a skipped timestep the engine does not call the op at all, in a muted one it drops the output; the op
    itself handles `held`. `copies` is for ops whose output is a current (see ops/current.py).
    """

    kind: ClassVar[str]
    slots: ClassVar[tuple[str, ...]] = ("x*",)
    arithmetic: ClassVar[tuple[str, ...]] = ()  # integer operations on the synaptic path and in the update
    gates_tokens: ClassVar[bool] = False  # its output is the credit of each token
    halting: ClassVar[bool] = False  # exists only for halting, merging or masking: `static` removes it; its events are the cost of halting
    axes: ClassVar[Axes] = {}  # names of the axes of each field that is an array
    stand_in: ClassVar[str] = ""  # slot whose sources take its place when it is removed from a graph
    copies: int  # synapse copies of an op that drives its consumers' dendrites; other ops have none

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one sample's output."""
        raise TypeError(f"{type(self).__name__} has no output shape")

    @property
    def payload(self) -> Payload:
        return Payload(0, 1)

    @property
    def size(self) -> Size:
        return Size()

    @property
    def dense_ops(self) -> int:
        """Accumulates per timestep if every input were active, the field's FLOPs convention (padding taps counted)."""
        return 0

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Yield (what is wrong, what to do) for each broken design rule, given the sources' shapes and payloads."""
        yield from ()

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Yield (what, hint) where the worst-case input could leave the 24-bit registers within a sample's timesteps."""
        yield from ()

    def state(self, batch: int) -> State:
        """State at the start of a sample, arrays [batch, ...]."""
        return {}

    def initial(self, batch: int) -> np.ndarray:
        """What a delayed edge from this op carries before the first timestep."""
        return np.zeros((batch, *self.out_shape), np.int32)

    def latch(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> Counts:
        """Keep what arrives for the whole sample, and count it; the engine calls it under a timestep mask, for skipped timesteps, too."""
        return {}

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        """One timestep. `t` [batch] counts from 1 in each sample; `state` is updated in place."""
        raise TypeError(f"{type(self).__name__} has no semantics")

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        """Events of this timestep per sample, counted from inputs and outputs. Missing counters are zero."""
        raise TypeError(f"{type(self).__name__} does not count its events")

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        """`span` timesteps of each sample with their events, rows in the order (sample, timestep): what the drivers call.

        `step` and `events` are the semantics; an op with compiled kernels does both here at once, with the same result.
        """
        if span == 1 or not state:
            out = self.step(state, inputs, t)
            return out, self.events(inputs, out, t)
        out = np.empty((len(t), *self.out_shape), np.int32)
        for k in range(span):
            now = {s: tuple(x[k::span] for x in v) if isinstance(v, tuple) else v[k::span] for s, v in inputs.items()}
            out[k::span] = self.step(state, now, t[k::span])
        return out, self.events(inputs, out, t)

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        """The interpreter's instruction that equals `advance`, built with an `engine.program.Program`; None where there is none."""
        return None

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Do the synaptic work of one sample event by event on `alu`, which can only add, compare, shift and AND.

        Returns (result, the same from the vectorised kernel); the audit demands that they are equal.
        """
        raise TypeError(f"{type(self).__name__} cannot be audited")

    def macs(self, inputs: Inputs) -> int:
        """Synaptic events of this timestep that need a multiplication: 0 for every op of our own nets."""
        return 0

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        """Yield (op, inputs for each timestep) for the conformance test."""
        yield from ()


Examples = Iterator[tuple[Op, list[Inputs]]]  # an op, its inputs for each timestep


@dataclass(frozen=True)
class Edge:
    """`source`'s output goes to `slot` of `target`; with `delay` 1 it acts in the next timestep (feedback)."""

    source: str
    target: str
    slot: str
    delay: int = 0


OPS: dict[str, type[Op]] = {}
OpType = TypeVar("OpType", bound=Op)


@dataclass_transform(eq_default=False, frozen_default=True)
def register(cls: type[OpType]) -> type[OpType]:
    """Class decorator: make the op a frozen dataclass and enter it under its `kind`."""
    cls = dataclass(frozen=True, eq=False)(cls)
    if cls.kind in OPS and OPS[cls.kind].__qualname__ != cls.__qualname__:
        raise TypeError(f"op kind {cls.kind!r} is defined twice: {OPS[cls.kind]} and {cls}")
    OPS[cls.kind] = cls
    return cls


def load_ops() -> dict[str, type[Op]]:
    """Import every file of convert/ops, which enters its op; returns the registry."""
    package = importlib.import_module("spikegate.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"spikegate.ops.{module.name}")
    return OPS


@dataclass
class Graph:
    """Operations by name, in topological order, and the edges between them. `meta` holds labels and training facts."""

    ops: dict[str, Op] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    timesteps: int = 1
    input_shape: tuple[int, ...] = ()
    input_payload: Payload = BINARY
    meta: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, op: Op, *, delayed: Iterable[str] = (), **sources: str | list[str]) -> str:
        """Append `op`; `sources` name, for each slot, what feeds it; slots in `delayed` act one step later. Returns the name."""
        if name in self.ops or name == INPUT:
            raise DeployError(name, "this op name is taken", "give every op its own name")
        self.ops[name] = op
        for slot, given in sources.items():
            for source in [given] if isinstance(given, str) else given:
                self.edges.append(Edge(source, name, slot, int(slot in delayed)))
        return name

    def sources(self, name: str) -> dict[str, list[Edge]]:
        """Incoming edges of an op by slot, in the order of its slots."""
        slots = [s.rstrip("*?") for s in self.ops[name].slots]
        found = {s: [e for e in self.edges if e.target == name and e.slot == s] for s in slots}
        return {s: e for s, e in found.items() if e}

    def consumers(self, name: str) -> list[Edge]:
        return [e for e in self.edges if e.source == name]

    def delayed_sources(self) -> list[str]:
        """Ops whose output is fed back to the next timestep."""
        return sorted({e.source for e in self.edges if e.delay})

    def shape_of(self, name: str) -> tuple[int, ...]:
        return self.input_shape if name == INPUT else self.ops[name].out_shape

    def payload_of(self, name: str) -> Payload:
        return self.input_payload if name == INPUT else self.ops[name].payload

    def only(self, kind: str) -> list[str]:
        """Names of the ops of one kind, in order."""
        return [n for n, op in self.ops.items() if op.kind == kind]

    def check(self) -> None:
        """Raise one DeployError that lists every broken design rule of the graph, each with its op and its hint."""
        odd = [(name, *p) for name, op in self.ops.items() for p in array_problems(op)]  # shapes follow from the arrays
        found = odd or [*self._problems(), *clock_problems(self.ops, self.edges, self.timesteps), *silence_problems(self.ops, self.edges)]
        if len(found) == 1:
            raise DeployError(*found[0])
        if found:
            lines = "".join(f"\n  - {where}: {what} ({hint})" for where, what, hint in found)
            raise DeployError("graph", f"{len(found)} problems:{lines}", "mend each op named above and export again")

    def _problems(self) -> Iterator[tuple[str, str, str]]:
        seen: set[str] = {INPUT}
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end != INPUT and end not in self.ops:
                    yield end, f"edge {edge.source} -> {edge.target}.{edge.slot} names an op that does not exist", "check the op's name"
                    return
            if edge.slot not in [s.rstrip("*?") for s in self.ops[edge.target].slots]:
                yield edge.target, f"has no input slot {edge.slot!r}", f"slots: {', '.join(self.ops[edge.target].slots)}"
        for name in self.ops:
            try:
                yield from self._problems_of(name, seen)
            except (ArithmeticError, LookupError, ValueError, TypeError, MemoryError) as e:
                yield name, f"its fields do not fit together ({type(e).__name__}: {e})", "check its sizes; a file may be damaged"
                return
            seen.add(name)

    def _problems_of(self, name: str, seen: set[str]) -> Iterator[tuple[str, str, str]]:
        """Broken rules of one op, in whose order those in `seen` come before it."""
        op, slots = self.ops[name], self.sources(name)
        if early := [e.source for edges in slots.values() for e in edges if not e.delay and e.source not in seen]:
            yield name, f"reads {', '.join(early)} before it is computed", "order the ops, or mark the slot as delayed"
        for slot in op.slots:
            bare = slot.rstrip("*?")
            if "?" not in slot and bare not in slots:
                yield name, f"slot {bare!r} is not connected", "connect it"
            if "*" not in slot and len(slots.get(bare, [])) > 1:
                yield name, f"slot {bare!r} has {len(slots[bare])} sources", "it takes one"
        shapes = {s: [self.shape_of(e.source) for e in edges] for s, edges in slots.items()}
        payloads = {s: [self.payload_of(e.source) for e in edges] for s, edges in slots.items()}
        for slot, given in shapes.items():
            if len(set(given)) > 1:
                yield name, f"sources of slot {slot!r} differ in shape: {given}", "sources that add up need equal shapes"
        broken = [*op.problems(shapes, payloads), *op.overflows(payloads, self.timesteps)]
        if not broken and min(op.out_shape, default=1) < 1:
            broken = [(f"sends {op.out_shape}, which holds no value", "check kernel, stride and padding against its input")]
        yield from ((name, *p) for p in broken)
        if any(e.source == INPUT or self.ops[e.source].kind != "timestep_gate" for e in slots.get("open", [])):
            yield name, "slot 'open' is not fed by a timestep gate", "connect an op of kind timestep_gate"
        if hasattr(op, "copies") and op.copies != len(self.consumers(name)):
            yield name, f"has {op.copies} synapse copies for {len(self.consumers(name))} consumers", "give each consumer its own"

    def without(self, kinds: Iterable[str]) -> Graph:
        """The graph without ops of these kinds. An op's `stand_in` sources take its place; its other edges go with it."""
        removed = {n for n, op in self.ops.items() if op.kind in set(kinds)}

        def remaining(edge: Edge, seen: frozenset[str] = frozenset()) -> Iterator[Edge]:
            if edge.source not in removed:
                yield edge
            elif edge.source not in seen:  # credit goes round: a ring of removed gates leaves nothing
                for e in self.sources(edge.source).get(self.ops[edge.source].stand_in, []):
                    instead = replace(edge, source=e.source, delay=min(1, edge.delay + e.delay))
                    yield from remaining(instead, seen | {edge.source})

        edges = [r for e in self.edges if e.target not in removed for r in remaining(e)]
        return replace(self, ops={n: op for n, op in self.ops.items() if n not in removed}, edges=edges)

    def without_halting(self) -> Graph:
        """The plain net: no token gates, no merging, no timestep masks: every token in every layer and timestep."""
        return self.without({op.kind for op in self.ops.values() if op.halting})
