"""Neurons that the host's currents reach: which of them share a scale, that scale, and their ops.

The host sends a current once, as integers of one scale. So all neurons that read it have that scale, and with it the same
branches: each branch is one `current` whose copies they share. Neurons that read one convolution of the image alone are the
common case, a first layer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from spikegate.convert.spikingjelly.hosting import RawPixels, affine, reach
from spikegate.convert.spikingjelly.plan import Neurons, Plan, Synapses
from spikegate.convert.spikingjelly.scaling import BIAS_MAX, beside, best_scale, cuba, exact_scale, integers, on_threshold, room, whole_bias
from spikegate.graph.ir import DeployError, Graph
from spikegate.neurons.cuba import VTH_MANT_MAX
from spikegate.ops.current import Current
from spikegate.ops.lif import Lif
from spikegate.ops.membrane import Membrane

NARROWEST = 64  # values that the host may send whatever the images
LEAST = 1 / 16  # share of the register that host currents may take whatever the branches beside them leave


@dataclass
class Fed:
    """Neurons linked by host currents that they share. `maps` and `branches`: synapses from the image and from spikes, each once.

    `whole`: at this scale their states are whole mantissas, whatever the image.
    """

    readers: list[Neurons] = field(default_factory=list)
    scale: float = 0.0
    whole: bool = False

    @property
    def inputs(self) -> list[Synapses]:
        return list({id(s): s for r in self.readers for s in r.inputs}.values())

    @property
    def maps(self) -> list[Synapses]:
        return [s for s in self.inputs if s.from_image]

    @property
    def branches(self) -> list[Synapses]:
        return [s for s in self.inputs if not s.from_image]

    @property
    def first(self) -> bool:
        """Whether each of its neurons reads one convolution of the image and nothing else."""
        return all(len(r.inputs) == 1 for r in self.readers)

    @property
    def name(self) -> str:
        return self.readers[0].name

    def most(self, pixels: RawPixels) -> float:
        """Largest |current| of the host's maps, in floats."""
        return max(reach(s, pixels) for s in self.maps)


def fed_groups(plan: Plan) -> list[Fed]:
    """Neurons that read the image's currents, those with one in common together, in the plan's order."""
    groups: list[Fed] = []
    for layer in plan.layers.values():
        if not isinstance(layer, Neurons) or not any(s.from_image for s in layer.inputs):
            continue
        own = {id(s) for s in layer.inputs if s.from_image}
        linked = [g for g in groups if own & {id(s) for s in g.maps}]
        merged = Fed([*(r for g in linked for r in g.readers), layer])
        groups = [g for g in groups if g not in linked] + [merged]
    return groups


def choose_scales(groups: list[Fed], pixels: RawPixels, timesteps: int) -> int:
    """Set the scale of every group such that no register can overflow; returns `host_range`, the largest value that the host sends."""
    narrow = min(room(r.neuron, timesteps) for g in groups for r in g.readers)
    mixed = [g for g in groups if not g.first]
    least = LEAST * narrow if mixed and (len(groups) > 1) else 0.0
    for g in mixed:
        _fit(g, pixels, timesteps, least)
    host_range = max([least, *(g.scale * g.most(pixels) for g in mixed)]) if mixed else narrow
    for g in mixed:
        _fit(g, pixels, timesteps, host_range)
    for g in groups:
        if g.first:
            _fit_first(g, pixels, timesteps, host_range)
    return max(NARROWEST, *(int(g.scale * g.most(pixels)) + 1 for g in groups))


def _fit_first(g: Fed, pixels: RawPixels, timesteps: int, host_range: float) -> None:
    """The scale of neurons that read the image alone: one that keeps their states whole, if there is one."""
    neuron, drive = g.readers[0].neuron, max(r.neuron.drive for r in g.readers)
    limit = min(VTH_MANT_MAX / drive, host_range / max(g.most(pixels), 1e-12))
    exact = None
    if all(r.neuron == neuron for r in g.readers):
        exact = exact_scale([], [v for s in g.maps for v in affine(s, pixels)], neuron, timesteps, lambda scale: scale <= limit)
    g.scale, g.whole = exact or on_threshold(neuron, limit), exact is not None


def _fit(g: Fed, pixels: RawPixels, timesteps: int, host_range: float) -> None:
    """The scale of a group with branches, whose host currents are each up to `host_range`, or what they are themselves if that is more."""
    drive = max(r.neuron.drive for r in g.readers)
    biases = [sum(s.bias for s in r.inputs if not s.from_image) for r in g.readers]
    limit = min(VTH_MANT_MAX / drive, BIAS_MAX / max(1e-12, *(float(np.abs(b).max()) for b in biases)))
    neuron, most = g.readers[0].neuron, g.most(pixels)
    best = best_scale([s.weight for s in g.branches], limit) if g.branches else limit
    scale = g.scale or on_threshold(neuron, best)
    while True:
        sums = {id(s): _bound(s, scale) for s in g.branches}
        over = 0.0
        for r in g.readers:
            bound = sum(max(host_range, scale * most) + 2 if s.from_image else sums[id(s)] for s in r.inputs)
            over = max(over, bound / room(r.neuron, timesteps))
        if over < 1:
            break
        if scale * drive < 4:
            what = f"the worst-case input of the neurons on its stream needs {over:.1f} times the 24-bit register"
            raise DeployError(g.name, what, "use fewer blocks or a smaller fan-in")
        scale = on_threshold(neuron, scale * min(0.98, 1.01 / over))
    g.scale = scale


def _bound(s: Synapses, scale: float) -> float:
    """Largest |current| of a branch of spikes."""
    rows, bias = integers(s, scale).reshape(len(s.weight), -1), whole_bias(s.bias * scale)
    above, below = (np.maximum(sign * rows, 0).sum(1) * s.high + sign * bias for sign in (1, -1))
    return float(max(above.max(), below.max(), 0))


class FedOps:
    """Appends the ops of neurons that host currents reach. `replays` are the ops that hold these, by synapses."""

    def __init__(self, groups: list[Fed], replays: dict[int, str], latent: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.of = {r.name: g for g in groups for r in g.readers}
        self.copies = {id(g): Counter(id(s) for r in g.readers for s in r.inputs) for g in groups}
        self.replays, self.latent, self.made = replays, latent, dict[int, list[str]]()

    def add(self, graph: Graph, layer: Neurons) -> None:
        group = self.of[layer.name]
        neuron = cuba(layer.neuron, group.scale, group.whole)
        held = [self.replays[id(s)] for s in layer.inputs if s.from_image]
        if all(s.from_image for s in layer.inputs):
            graph.add(layer.name, Lif(layer.shape, neuron), x=held)
            return
        branches = [name for i, s in enumerate(layer.inputs) if not s.from_image for name in self._branch(graph, layer, i, s)]
        graph.add(layer.name, Membrane(layer.shape, neuron), current=branches, x=held)

    def _branch(self, graph: Graph, layer: Neurons, i: int, s: Synapses) -> list[str]:
        """Names of the branch's ops, one for each source; they are there once for all readers."""
        group = self.of[layer.name]
        if id(s) not in self.made:
            name = s.name or f"{layer.name}.branch{i + 1}"
            name = name if name not in graph.ops else f"{name}.{layer.name}"
            copies = self.copies[id(group)][id(s)]
            self.made[id(s)] = add_branch(graph, name, s, group.scale, self.latent, copies)
        return self.made[id(s)]


def add_branch(
    graph: Graph, name: str, s: Synapses, scale: float, latent: dict[str, tuple[np.ndarray, np.ndarray]], copies: int = 1
) -> list[str]:
    """Append a `current` for each source of a branch; returns their names."""
    if s.padding[0] != s.padding[1]:
        raise DeployError(name, "a branch with uneven padding", "use the same padding in both directions")
    made: list[str] = []
    for each in s.by_source():
        label = name if not made else f"{name}.{each.sources[0]}"
        weight, bias = integers(each, scale).astype(np.int32), whole_bias(each.bias * scale)
        latent[label] = beside(each.weight * scale, weight), each.bias * scale
        op = Current(weight, bias, s.grid, s.stride, s.padding[0], s.groups, copies)
        made.append(graph.add(label, op, x=each.sources[0]))
    return made
