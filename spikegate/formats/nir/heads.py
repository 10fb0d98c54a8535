"""The answer of an imported net: spikes of its last layer, class scores that add up, or the voltage of a leaky integrator."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.linear import Matrix, as_map, size_of
from spikegate.formats.nir.placed import Placed
from spikegate.formats.nir.plan import SPIKES, Plan, Source
from spikegate.formats.nir.wiring import Wires
from spikegate.neurons.leaky import VOLTAGE, Leaky
from spikegate.ops.block_average import BlockAverage
from spikegate.ops.block_dense import NONE, BlockDense
from spikegate.ops.current import Current
from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.ops.readout import Readout
from spikegate.reading.numbers import int32


def add_head(wires: Wires, plan: Plan, placed: Placed | None) -> None:
    """Append what gives the answer; nothing where the last layer's spikes are it."""
    head = plan.head
    assert head is not None
    if head.rule == SPIKES:
        _spikes(wires, plan)
    elif head.layer is not None:
        assert placed is not None
        _voltage(wires, head.name, placed)
    else:
        assert placed is not None
        _scores(wires, plan, placed)


def _spikes(wires: Wires, plan: Plan) -> None:
    """Sums of spikes, one to one, channels first; a vector's or a single channel's last spikes count as they are."""
    head = plan.head
    assert head is not None
    sources = [s for t in head.terms for s in t.sources]
    shape = plan.layers[sources[0].name].shape
    kept = not wires.maps[sources[0].name] or 1 in (as_map(shape)[0], size_of(shape) // shape[0])  # else channels are not first
    if len(sources) == 1 and kept and [*wires.graph.ops][-1] == sources[0].name:
        return
    op = BlockAverage(wires.shape(sources[0].name, shape), size_of(head.shape), len(sources))
    wires.add(wires.free(head.output), op, [("x", s) for s in sources])


def _scores(wires: Wires, plan: Plan, placed: Placed) -> None:
    head, fit = plan.head, placed.fit
    assert head is not None
    classes = size_of(head.shape)
    bias = fit.bias + sum(fit.biases)
    wired: list[tuple[str, Source]] = []
    weight: Any = None
    for t, m in zip(fit.units.terms, fit.maps):
        assert isinstance(m, Matrix)
        channels, height, width = as_map(m.in_shape)
        from_map = wires.maps[t.sources[0].name]
        if weight is None:
            rows = (classes, channels, height * width) if from_map else (classes, size_of(m.in_shape), 1)
            weight = int32(m.weight.reshape(rows).transpose(0, 2, 1), head.name)
            wired += [("x", s) for s in t.sources]
            continue
        kernel, grid = ((classes, channels, height, width), (height, width)) if from_map else ((*m.weight.shape, 1, 1), (1, 1))
        for s in t.sources:
            op = Current(int32(m.weight.reshape(kernel), head.name), np.zeros(classes, np.int32), grid)
            wired.append(("current", Source(wires.current(t.node or head.name, op, s, head.name))))
    name = wires.free(head.name)
    wires.add(name, Readout(weight, int32(bias, name), plan.timesteps), wired)
    gate = ExitGate(classes, plan.timesteps, np.full(plan.timesteps, NEVER))
    wires.add(wires.free(head.output), gate, [("logits", Source(name))])


def _voltage(wires: Wires, name: str, placed: Placed) -> None:
    f = placed.fit
    if len(f.maps) != 1 or (f.units.slow and f.biases[0].any()):
        raise DeployError(name, "is an integrator driven by several maps or, behind a synaptic current, by a bias", "give it one Linear")
    (m,), sources = f.maps, f.units.terms[0].sources
    assert isinstance(m, Matrix)
    decays = [int(d[0]) if d.size == 1 else int32(d, name) for d in (f.i_decay, f.v_decay)]
    weight = m.weight
    if wires.maps[sources[0].name]:
        channels = as_map(m.in_shape)[0]
        weight = weight.reshape(len(weight), channels, -1).transpose(0, 2, 1).reshape(len(weight), -1)
    bias = int32(f.bias + f.biases[0], name)
    op = BlockDense(int32(weight, name), NONE, bias, Leaky(decays[0], decays[1], 1, output=VOLTAGE))
    wires.add(wires.free(name), op, [("x", s) for s in sources])
