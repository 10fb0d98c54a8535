"""From a graph to what a chip has to hold: neuron groups and the synapses that lead to each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.graph.ir import INPUT, DeployError, Graph, Op
from spikegate.ops.base.patches import patches
from spikegate.synapses import synapse

CONV_LIKE = ("conv", "level_conv", "current", "max_pool")
PAIRS = ("spiking_attention", "sdsa", "qk_token_gate", "qk_channel_gate", "multiscale_gate")
MEET_ALL = {"spiking_attention": ("k", "v"), "sdsa": ("k", "v"), "qk_channel_gate": ("q",)}  # slots whose events meet every token
CONTROL = ("alive", "open", "chain", "before", "after")
TRANSPARENT = ("current", "route")  # they have no neurons: their synapses lie with the neurons that read them


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses (or one-to-one connections) from one source to a group.

    Attributes
    ----------
    source : group name, or `INPUT`
    form : "conv", "dense", "mix", "direct" (one to one), "pairs" (own channels, every token), "tokens" (a word per token, to its patch of
        positions), "all"
    taps : bool; which synapses exist. conv [out, in / groups, kh, kw]; dense [out, in]; mix [heads, target token, source token]
    bits : bits of a stored weight; 0 where none is stored
    op : the op that counts these synapses' events; shared by a `current`'s copies
    copies : source neurons that share one stored row of weights (a head that is the same for every token); assumed, as convolutions share
    """

    source: str
    form: str
    op: str
    taps: np.ndarray | None = None
    bits: int = 0
    grid: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    copies: int = 1
    control: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """Neurons that one op puts on chip, on a map [grid height * width, channels].

    Attributes
    ----------
    extra : neurons beside the map's (counters of a gate)
    scratch_bits : state beside the neurons' own (what an attention keeps within a timestep)
    payload_bits : of what it sends
    gate : op whose credit silences its tokens ("" if none), ``~`` before it: of the timestep before
    level : longest path from the input, in groups; 1 is the first
    """

    name: str
    kind: str
    grid: tuple[int, int]
    channels: int
    projections: tuple[Projection, ...]
    extra: int = 0
    scratch_bits: int = 0
    payload_bits: int = 1
    payload_binary: bool = True
    gate: str = ""
    level: int = 1

    @property
    def positions(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def neurons(self) -> int:
        return self.positions * self.channels + self.extra

    @property
    def conv_like(self) -> bool:
        return any(p.form == "conv" for p in self.projections)


def weight_bits(weight: np.ndarray, at_most: int = 8) -> int:
    """Bits that a stored weight takes: ceil(log2 of the largest magnitude) + 2, at most 8.

    Our fit to the synaptic words of the PilotNet compile log (lava-dl's PilotNet LIF notebook): 5 bits up to 8, 6 bits from 10 to 12.
    """
    peak = int(np.abs(weight).max(initial=0))
    return min(at_most, 2 + max(0, peak - 1).bit_length()) if peak else 1


def groups_of(graph: Graph) -> list[Group]:
    """The groups of a graph in its order; wiring without neurons (`TRANSPARENT`) is folded into its readers.

    Raises
    ------
    DeployError
        For an op whose size or shape this program cannot place.
    """
    levels: dict[str, int] = {INPUT: 0}
    out = []
    for name, op in graph.ops.items():
        sources = graph.sources(name)
        levels[name] = max((levels.get(e.source, 0) for edges in sources.values() for e in edges if not e.delay), default=0)
        if op.kind in TRANSPARENT:
            continue
        levels[name] += 1
        projections = [p for slot, edges in sources.items() for e in edges for p in _projections(graph, name, op, slot, e.source)]
        alive = sources.get("alive", [])
        gate = "".join(("~" if e.delay else "") + e.source for e in alive[:1])
        out.append(_group(name, op, tuple(projections), gate, levels[name]))
    return out


def _group(name: str, op: Op, projections: tuple[Projection, ...], gate: str, level: int) -> Group:
    shape = op.out_shape
    if len(shape) not in (1, 2):
        raise DeployError(name, f"has an output of shape {shape}", "placement takes maps (positions, channels) or flat outputs")
    positions, channels = shape if len(shape) == 2 else (1, shape[0])
    if op.gates_tokens:
        positions, channels = shape[0], 1
    size = op.size
    held = max(1, size.neurons)
    if op.kind == "exit_gate":
        positions, channels = 1, 1
    neuron: Any = getattr(op, "neuron", None)
    own = size.neurons * (neuron.state_bits if neuron is not None else 0)
    scratch = max(0, size.state_bits - own) if op.kind in PAIRS else 0
    return Group(name, op.kind, _grid(op, positions), channels, projections, max(0, held - positions * channels), scratch, op.payload.bits,
                 op.payload.binary, gate, level)


def _grid(op: Op, positions: int) -> tuple[int, int]:
    """The op's grid (height, width), or one as square as it can be."""
    stated = getattr(op, "out_grid", None)
    if stated is not None:
        return stated[0], stated[1]
    height = next(h for h in range(int(positions**0.5), 0, -1) if positions % h == 0)
    return height, positions // height


def _projections(graph: Graph, name: str, op: Op, slot: str, source: str) -> list[Projection]:
    """What leads from `source` into `slot` of an op; a `current` and a `route` are looked through."""
    if source != INPUT and graph.ops[source].kind == "current":
        through: Any = graph.ops[source]
        edges = graph.sources(source)["x"]
        return [_conv(e.source, source, through) for e in edges]
    if source != INPUT and graph.ops[source].kind == "route" and op.kind == "readout":
        raise DeployError(name, "reads spikes through wiring", "import the model again: each map has synapses of its own now")
    if source != INPUT and graph.ops[source].kind == "route":
        return [Projection(origin, "all", name) for origin in _origins(graph, source)]
    if slot in CONTROL:
        positions = op.out_shape[0] if len(op.out_shape) == 2 or op.gates_tokens else 0
        same = slot != "open" and positions > 0 and patches(_grid(op, positions), graph.shape_of(source)[0]) is not None
        return [Projection(source, "tokens" if same else "all", name, control=True)]
    return [_synapses(name, op, slot, source, graph.shape_of(source))]


def _origins(graph: Graph, source: str) -> list[str]:
    """What a `route`, or one `route` after the other, takes its values from."""
    if source == INPUT or graph.ops[source].kind != "route":
        return [source]
    return [origin for e in graph.sources(source)["x"] for origin in _origins(graph, e.source)]


def _conv(source: str, name: str, op: Any) -> Projection:
    if op.kind == "max_pool":
        taps, bits, groups = np.ones((op.channels, 1, *op.window), bool), 1, op.channels
    else:
        taps, bits, groups = op.weight != 0, weight_bits(op.weight), op.groups
    return Projection(source, "conv", name, taps, bits, tuple(op.grid), (op.stride, op.stride), synapse.pair(op.padding), groups)


def _synapses(name: str, op: Any, slot: str, source: str, shape: tuple[int, ...]) -> Projection:
    if op.kind in CONV_LIKE:
        return _conv(source, name, op)
    if op.kind == "readout" and slot == "direct":
        return Projection(source, "direct", name)
    if op.kind == "readout":
        copies = op.weight.shape[1] if (op.weight == op.weight[:, :1]).all() else 1
        return Projection(source, "dense", name, op.weight.reshape(len(op.weight), -1) != 0, 8, copies=copies)
    if op.kind == "dense":
        return Projection(source, "dense", name, op.weight.reshape(len(op.weight), -1) != 0, 8)
    if op.kind == "token_mix":
        return Projection(source, "mix", name, op.weight != 0, 8)
    if op.kind in PAIRS:
        return Projection(source, "pairs" if slot in MEET_ALL.get(op.kind, ()) else "direct", name)
    if shape == op.out_shape:
        return Projection(source, "direct", name)
    if op.gates_tokens:
        return Projection(source, "tokens", name)
    return Projection(source, "all", name)
