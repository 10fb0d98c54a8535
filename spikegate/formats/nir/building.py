"""From layers in integers to a graph of ops: which op says a layer, how it is wired, what the answer is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.arranging import emitted_shape, ones, solid
from spikegate.formats.nir.fitting import Fitted
from spikegate.formats.nir.heads import add_head
from spikegate.formats.nir.linear import LinearMap, Matrix, Shape, Window, as_map, per_channel
from spikegate.formats.nir.placed import Placed
from spikegate.formats.nir.plan import Plan, Source
from spikegate.formats.nir.wiring import Wires
from spikegate.graph.ir import INPUT, Graph, Op
from spikegate.neurons.cuba import DECAY_ONE, Cuba
from spikegate.neurons.leaky import Leaky
from spikegate.neurons.resets import SUBTRACT, ZERO
from spikegate.ops.block_conv import BlockConv
from spikegate.ops.block_dense import NONE, BlockDense
from spikegate.ops.block_recurrent import BlockRecurrent
from spikegate.ops.conv import Conv
from spikegate.ops.current import Current
from spikegate.ops.dense import Dense
from spikegate.ops.inject import Inject
from spikegate.ops.lif import Lif
from spikegate.ops.max_pool import MaxPool
from spikegate.ops.membrane import Membrane
from spikegate.reading.numbers import int32
from spikegate.synapses.synapse import Padding


@dataclass
class Building:
    """A plan on its way to a graph."""

    plan: Plan
    placed: dict[str, Placed]
    head: Placed | None  # of an answer that is no layer's spikes
    graph: Graph = field(default_factory=Graph)

    def __post_init__(self) -> None:
        maps = {n: p.is_map for n, p in self.placed.items()}
        for n in (self.plan.input_name, self.plan.replay):
            maps[n] = len(self.plan.input_shape) > 1
        self.wires = Wires(self.graph, self.plan, maps, self._wide())

    def _wide(self) -> set[str]:
        """Vectors that are written as one position with many channels, because what reads them needs two axes."""
        plan = self.plan
        wide = {n for n, p in self.placed.items() if p.form == "several" and p.fit.units.shared}
        if plan.head is not None and self.head is None and len(ends := [s for t in plan.head.terms for s in t.sources]) > 1:
            wide |= {s.name for s in ends}  # their spikes add up
        everyone = list(self.placed.items()) + ([(plan.head.name, self.head)] if self.head and plan.head else [])
        while True:
            before = len(wide)
            for name, p in everyone:
                read = {s.name for t in p.fit.units.terms for s in t.sources}
                scores = p is self.head and plan.head is not None and plan.head.layer is None
                if scores or name in wide or (p.form == "each" and read & wide):
                    wide |= read | ({name} if p is not self.head else set())
            if {plan.replay, plan.input_name} & wide:
                wide |= {plan.replay, plan.input_name}
            if len(wide) == before:
                break
        readers = [p for _, p in everyone if any(s.name == plan.input_name for t in p.fit.units.terms for s in t.sources)]
        if not plan.replay and all(p.form == "single" and not p.is_map and p is not self.head for p in readers):
            wide.discard(plan.input_name)  # blocks read one axis and send two
        return wide

    def built(self) -> Graph:
        """The graph, checked."""
        plan, g = self.plan, self.graph
        g.timesteps, g.input_payload = plan.timesteps, plan.payload
        g.input_shape = self.wires.shape(plan.input_name, plan.input_shape)
        if plan.replay:
            r = plan.replay_payload
            g.add(plan.replay, Inject(g.input_shape, r.low, r.high), x=INPUT)
        for name, p in self.placed.items():
            self._layer(name, p)
        add_head(self.wires, plan, self.head)
        for name in g.only("current"):
            g.ops[name] = replace(g.ops[name], copies=len(g.consumers(name)))  # type: ignore[type-var]
        g.check()
        return g

    def _layer(self, name: str, p: Placed) -> None:
        f, u = p.fit, p.fit.units
        shape = emitted_shape(p.shape, p.is_map, name in self.wires.wide)
        sources = [t.sources for t in u.terms]
        if p.form == "each":
            self.wires.add(name, Lif(shape, self._cuba(f)), [("x", s) for each in sources for s in each])
        elif p.form == "single":
            op = self._pool(p, sources[0]) or self._single(name, p, f.bias + f.biases[0])
            self.wires.add(name, op, [("x", s) for s in sources[0]])
        elif not u.shared:
            self._own_time(name, p)
        else:
            self._several(name, p, shape)

    @staticmethod
    def _cuba(f: Fitted) -> Cuba:
        return Cuba(int(f.i_decay[0]), int(f.v_decay[0]), f.vth, *_reset(f))

    def _single(self, name: str, p: Placed, bias: np.ndarray) -> Op:
        f = p.fit
        m = solid(f.maps[0], p.is_map)
        neuron = self._cuba(f) if f.units.shared and f.proven else None  # blocks have no rule for the worst case
        if isinstance(m, Window):
            plain = m.stride[0] == m.stride[1]
            weight, by_channel = int32(m.weight, name), _channels(bias, p.shape)
            if neuron is not None and plain:
                return Conv(weight, by_channel, m.grid, m.stride[0], padding_of(m), m.groups, neuron)
            return BlockConv(weight, NONE, by_channel, m.grid, m.stride, m.padding, groups=m.groups, neuron=_leaky(p))
        assert isinstance(m, Matrix)
        (source,) = {self.wires.maps[s.name] for s in f.units.terms[0].sources}
        weight, (kernel, grid) = columns(m, source), full_kernel(m, source)
        if name in self.wires.wide:
            if neuron is None or any(not self.wires.two_axes(s.name) for s in f.units.terms[0].sources):
                return BlockConv(kernel, NONE, int32(bias, name), grid, neuron=_leaky(p))
            return Conv(kernel, int32(bias, name), grid, neuron=neuron)
        return Dense(weight, int32(bias, name), neuron) if neuron else BlockDense(weight, NONE, int32(bias, name), _leaky(p))

    def _pool(self, p: Placed, sources: tuple[Source, ...]) -> MaxPool | None:
        """An OR over windows: equal weights, neurons without memory that one spike reaches."""
        f, m = p.fit, p.fit.maps[0]
        if not isinstance(m, Window) or not m.depthwise or len(sources) != 1 or f.bias.any() or f.biases[0].any():
            return None
        binary = sources[0].name in self.placed or self.plan.payload.binary
        squares = all(a == b for a, b in (m.weight.shape[2:], m.stride, m.padding))
        memory = (f.v_decay != DECAY_ONE).any() or (f.i_decay != DECAY_ONE).any()
        w = m.weight.flat[0]
        if not binary or memory or f.units.levels > 1 or not squares or w <= f.vth or (m.weight != w).any() or m.weight.shape[2] == 1:
            return None
        return MaxPool(m.grid, as_map(m.in_shape)[0], m.weight.shape[2], m.stride[0], m.padding[0])

    def _own_time(self, name: str, p: Placed) -> None:
        """Neurons with time constants of their own: one set of synapses, or one and their own feedback."""
        f, terms = p.fit, p.fit.units.terms
        own = [i for i, t in enumerate(terms) if t.sources == (Source(name, 1),)]
        if p.is_map or name in self.wires.wide or len(terms) != 2 or len(own) != 1 or (f.units.slow and any(b.any() for b in f.biases)):
            what = "has neurons with time constants of their own, and several maps, a constant current or a linear answer beside them"
            raise DeployError(name, what, "give the layer one time constant")
        back, onward = solid(f.maps[own[0]], False), solid(f.maps[1 - own[0]], False)
        assert isinstance(back, Matrix) and isinstance(onward, Matrix)
        source = {self.wires.maps[s.name] for s in terms[1 - own[0]].sources}.pop()
        bias = int32(f.bias + sum(f.biases), name)
        op = BlockRecurrent(columns(onward, source), NONE, int32(back.weight, name), bias, _leaky(p))
        self.wires.add(name, op, [*(("x", s) for s in terms[1 - own[0]].sources), ("s", Source(name, 1))])

    def _several(self, name: str, p: Placed, shape: tuple[int, ...]) -> None:
        f = p.fit
        if f.units.slow and f.bias.any():
            what = "has v_leak and a synaptic current driven by several maps or a bias"
            raise DeployError(name, what, "leave v_leak at 0, or give it one Linear without bias")
        wired: list[tuple[str, Source]] = []
        rest = f.bias
        for t, m, bias in zip(f.units.terms, f.maps, f.biases):
            if ones(m) and not bias.any():
                wired += [("x", s) for s in t.sources]
                continue
            m = solid(m, p.is_map)
            for i, s in enumerate(t.sources):
                part = (bias if i == 0 else 0 * bias) + rest
                rest = 0 * rest
                wired.append(("current", Source(self._current(name, t.node, m, part, s, p))))
        if rest.any():
            raise DeployError(name, "has v_leak and is driven one to one", "put a Scale or Affine before it")
        self.wires.add(name, Membrane(shape, self._cuba(f)), wired)

    def _current(self, reader: str, node: str, m: LinearMap, bias: np.ndarray, s: Source, p: Placed) -> str:
        """Synapses of one source; those of one node that several layers read alike are there once."""
        where = self.wires.maps[s.name]
        if isinstance(m, Window):
            fields: dict[str, Any] = {"weight": int32(m.weight, reader), "bias": _channels(bias, p.shape), "grid": m.grid}
            fields |= {"stride": m.stride[0], "padding": padding_of(m), "groups": m.groups}
        else:
            assert isinstance(m, Matrix)
            kernel, grid = full_kernel(m, where)
            fields = {"weight": kernel, "bias": int32(bias, reader), "grid": grid}
        return self.wires.current(node or f"{reader}.synapses", Current(**fields), s, reader)


def padding_of(m: Window) -> Padding:
    return m.padding[0] if m.padding[0] == m.padding[1] else m.padding


def _channels(values: np.ndarray, shape: Shape) -> np.ndarray:
    found = per_channel(values, shape)
    assert found is not None
    return int32(found, "NIR")


def columns(m: Matrix, from_map: bool) -> np.ndarray:
    """Weights [outputs, inputs] with the inputs as the source numbers them: positions first for a map."""
    if not from_map:
        return int32(m.weight, "NIR")
    channels = as_map(m.in_shape)[0]
    return int32(m.weight.reshape(len(m.weight), channels, -1).transpose(0, 2, 1).reshape(len(m.weight), -1), "NIR")


def full_kernel(m: Matrix, from_map: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """(weights, grid) of a convolution whose one window is the whole source."""
    channels, height, width = as_map(m.in_shape)
    kernel = (len(m.weight), channels, height, width) if from_map else (*m.weight.shape, 1, 1)
    return int32(m.weight.reshape(kernel), "NIR"), (height, width) if from_map else (1, 1)


def _leaky(p: Placed) -> Leaky:
    def per(d: np.ndarray) -> Any:
        if d.size == 1:
            return int(d[0])
        return _channels(d, p.shape) if p.is_map else int32(d, p.fit.units.name)

    reset, v_step, levels = _reset(p.fit)
    return Leaky(per(p.fit.i_decay), per(p.fit.v_decay), p.fit.vth, reset=reset, v_step=v_step, levels=levels)


def _reset(f: Fitted) -> tuple[str, int, int]:
    """(reset, v_step, levels) of the neurons."""
    if not f.v_step:
        return ZERO, 0, 1
    return SUBTRACT, 0 if f.v_step == f.vth else f.v_step, f.units.levels
