"""Neurons that send whole numbers (I-LIF): how large a sum of sources can be, and which layers take bits alone."""

from __future__ import annotations

import dataclasses

from spikegate.convert.spikingjelly.gating import BOTH, ONE
from spikegate.convert.spikingjelly.plan import Attention, Gate, HeadPart, Layer, Mixing, Neurons, Plan, Pool, Problem, Synapses

HINT = "use neurons that send one spike (LIFNode) before it"


def highest(plan: Plan, source: str) -> int:
    """The largest value that a layer sends in a timestep."""
    layer = plan.layers.get(source)
    if isinstance(layer, Pool):
        return highest(plan, layer.source)
    return layer.neuron.levels if isinstance(layer, Neurons | Attention | Mixing) else 1


def problems(plan: Plan) -> list[Problem]:
    """Layers that take bits and get whole numbers."""
    found = []
    for name, layer in plan.layers.items():
        sources, what = _of_bits(layer)
        counts = sorted({highest(plan, s) for s in sources} - {1})
        if counts:
            found.append(Problem(name, f"{what} takes spikes, and its neurons' values reach {counts[-1]}", HINT))
    return found


def _of_bits(layer: Layer) -> tuple[tuple[str, ...], str]:
    if isinstance(layer, Pool):
        return (layer.source,), "a max-pool"
    if isinstance(layer, Attention):
        return (layer.q, layer.k, layer.v), "an attention"
    if isinstance(layer, Gate):
        return tuple(layer.slots.values()), "a gate"
    if isinstance(layer, Neurons) and layer.neuron in (BOTH, ONE):
        return tuple(name for s in layer.inputs for name in s.sources), "a product"
    return (), ""


def with_highs(plan: Plan) -> None:
    """Note with each linear map how large its sources' values can be; maps that several layers share stay one object."""
    known: dict[int, Synapses] = {}

    def highs(sources: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(highest(plan, s) for s in sources)

    for layer in plan.layers.values():
        if isinstance(layer, Neurons):
            for s in layer.inputs:
                known.setdefault(id(s), s if s.from_image else dataclasses.replace(s, highs=highs(s.sources)))
            layer.inputs = tuple(known[id(s)] for s in layer.inputs)
        elif isinstance(layer, Mixing):
            layer.highs = highs(layer.sources)
    parts: list[HeadPart] = plan.head.parts if plan.head else []
    for p in parts:
        p.highs = highs(p.sources)
