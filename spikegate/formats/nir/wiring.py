"""Wires of a graph that is being built: delays on axons, feedback of the timestep before, synapses that several layers share."""

from __future__ import annotations

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.arranging import emitted_shape
from spikegate.formats.nir.linear import Shape, per_channel
from spikegate.formats.nir.plan import Plan, Source
from spikegate.graph.ir import INPUT, Edge, Graph, Op
from spikegate.ops.axon_delay import AxonDelay
from spikegate.ops.current import Current


class Wires:
    """`maps` says which signals lie as maps, `wide` which vectors have two axes."""

    def __init__(self, graph: Graph, plan: Plan, maps: dict[str, bool], wide: set[str]) -> None:
        self.graph, self.plan, self.maps, self.wide = graph, plan, maps, wide
        self.branches: dict[tuple[object, ...], str] = {}
        self.names = {n for n in (*plan.layers, plan.replay, INPUT) if n}

    def shape(self, name: str, shape: Shape) -> tuple[int, ...]:
        return emitted_shape(shape, self.maps[name], name in self.wide)

    def two_axes(self, name: str) -> bool:
        """Whether a signal has positions and channels."""
        return self.maps[name] or name in self.wide

    def free(self, name: str) -> str:
        """A name that no op has."""
        found, k = name, 2
        while found in self.names:
            found, k = f"{name}.{k}", k + 1
        self.names.add(found)
        return found

    def add(self, name: str, op: Op, wired: list[tuple[str, Source]]) -> None:
        """Append an op of a layer's own name, fed by these (slot, source)."""
        ends = [(slot, *self.end(s)) for slot, s in wired]
        if name in self.graph.ops or name == INPUT:
            raise DeployError(name, "this name is taken", "rename the node")
        self.graph.ops[name] = op
        self.graph.edges += [Edge(source, name, slot, delay) for slot, source, delay in ends]

    def end(self, s: Source) -> tuple[str, int]:
        """(op, delay of the edge) that brings a source; an axon delay is made where it is late."""
        name = INPUT if s.name == self.plan.input_name else s.name
        known = name == INPUT or name in self.graph.ops
        steps = np.atleast_1d(np.asarray(s.delay, np.int64))
        if not steps.any():
            return name, 0
        late = 0 if known else 1
        steps = steps - late
        if not steps.any():
            return name, late
        layer = self.plan.layers.get(s.name)
        nir = layer.shape if layer else self.plan.input_shape
        shape = self.shape(s.name, nir)
        each = per_channel(steps if steps.size > 1 else steps[0], nir) if self.maps[s.name] else np.broadcast_to(steps, shape[-1:])
        if each is None:
            raise DeployError(s.name, "has delays that differ within a channel", "give one delay for each channel")
        key = ("delay", name, late, *map(int, each))
        if key not in self.branches:
            p = self.plan.payload if name == INPUT else self.plan.replay_payload if name == self.plan.replay else None
            op = AxonDelay(shape, np.array(each, np.int64), (p.low, p.high) if p else (0, 1))
            self.branches[key] = self.free(f"{s.name}.delay")
            self.graph.ops[self.branches[key]] = op
            self.graph.edges.append(Edge(name, self.branches[key], "x", late))
        return self.branches[key], 0

    def current(self, name: str, op: Current, s: Source, reader: str) -> str:
        """Synapses of a source without neurons, under their node's name where it is free."""
        source, late = self.end(s)
        key = ("current", name, source, late, op.weight.tobytes(), op.bias.tobytes(), op.grid, op.stride, op.padding, op.groups)
        if key not in self.branches:
            self.branches[key] = self.free(name if name not in self.names else f"{name}.{reader}")
            self.graph.ops[self.branches[key]] = op
            self.graph.edges.append(Edge(source, self.branches[key], "x", late))
        return self.branches[key]
