"""What all stages share: a graph of integer operations.

A signal is an int32 array ``[batch, *shape]``; token and feature maps have shape ``(positions, channels)`` with the
positions of a grid row by row (position = y * width + x). One call of `Op.step` is one timestep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from spikegate.errors import DeployError as DeployError
from spikegate.graph.alu import Alu as Alu
from spikegate.graph.arrays import Axes as Axes
from spikegate.graph.arrays import array_problems
from spikegate.graph.clock import clock_problems
from spikegate.graph.op import OPS as OPS
from spikegate.graph.op import Examples as Examples
from spikegate.graph.op import Op as Op
from spikegate.graph.op import load_ops as load_ops
from spikegate.graph.op import register as register
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


@dataclass(frozen=True)
class Edge:
    """`source`'s output goes to `slot` of `target`; with `delay` 1 it acts in the next timestep (feedback)."""

    source: str
    target: str
    slot: str
    delay: int = 0


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
