"""A graph as NIR (Pedersen et al. 2024, nir 1.0.8): what NIR can say, in the chip's integers; the rest is refused by name.

A timestep is NIR's unit of time (forward Euler, dt = 1). Weights, biases and thresholds are mantissas. ``LIF`` with
tau = r = 4096 / decay is the neuron but for the chip's rounding of its leak towards zero, which NIR cannot say; NIR's
threshold is strict, as the chip's. The bias of neurons with a slow current is their ``v_leak``, because NIR's CubaLIF sends what
comes before it through the current. An OR over windows is ``SumPool2d`` before neurons without memory (tau 1). Several
incoming edges add up. The host's integers enter at ``Input`` and are repeated in every timestep.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.files import write_bytes
from spikegate.graph.ir import INPUT, DeployError, Graph
from spikegate.neurons import resets
from spikegate.neurons.cuba import DECAY_ONE, Cuba
from spikegate.synapses.synapse import pair

Grid = tuple[int, int]
SYNAPSES = ".synapses"
GATING = ("alive", "open", "before", "after")


def to_nir(graph: Graph) -> Any:
    """The graph as ``nir.NIRGraph``.

    Raises
    ------
    DeployError
        Listing every op that NIR has no word for.
    """
    import nir

    lacking = [f"{n} ({op.kind})" for n, op in graph.ops.items() if op.kind not in WRITERS]
    lacking += [f"{n} (soft reset)" for n, op in graph.ops.items() if not resets.stock(getattr(op, "neuron", Cuba()))]
    lacking += [f"{e.target} (fed back, halted or masked)" for e in graph.edges if e.delay or e.slot in GATING]
    lacking += [f"{n} (reads a stream)" for n in graph.only("readout") if {"current", "direct"} & {*graph.sources(n)}]
    lacking += [f"{n} (early exit)" for n, op in graph.ops.items() if getattr(op, "policy", "fixed_window") != "fixed_window"]
    if lacking:
        hint = "NIR says linear layers, convolutions, pools, sums and LIF neurons"
        raise DeployError("NIR", f"has no word for {', '.join(lacking)}", hint)
    grids = {name: grid_of(graph, name) for name in (INPUT, *graph.ops)}
    low, high = graph.input_payload.low, graph.input_payload.high
    facts = {"timesteps": graph.timesteps, "low": low, "high": high}
    nodes: dict[str, Any] = {INPUT: nir.Input(input_type=_shape(graph.input_shape, grids[INPUT]), metadata=facts)}
    edges: list[tuple[str, str]] = []
    for name, op in graph.ops.items():
        sources = [e.source for edges_in in graph.sources(name).values() for e in edges_in]
        before = grids[sources[0]]
        chain = WRITERS[op.kind](op, _shape(graph.shape_of(sources[0]), before), _shape(op.out_shape, grids[name]))
        names = [f"{name}{SYNAPSES}.map", f"{name}{SYNAPSES}", name][-len(chain) :]
        nodes |= dict(zip(names, chain))
        edges += [(s, names[0]) for s in sources] + list(pairwise(names))
    mapped: list[Any] = [op for op in graph.ops.values() if hasattr(op, "groups")]
    plain = all(op.groups == 1 and len({*op.weight.shape[2:]}) == 1 for op in mapped)
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=plain)  # nir 1.0.8 takes groups and oblong kernels for mistakes


def write_nir(graph: Graph, path: Path) -> None:
    """Write `to_nir` as a NIR file."""
    import nir

    held = io.BytesIO()
    nir.write(held, to_nir(graph))
    write_bytes(path, held.getbuffer())


def grid_of(graph: Graph, name: str) -> Grid:
    """Height and width of an op's output map: what its readers say, or it does itself, or its source."""
    op: Any = graph.ops.get(name)
    if hasattr(op, "out_grid"):
        grid: Grid = op.out_grid
        return grid
    for edge in graph.consumers(name):
        reader: Any = graph.ops[edge.target]
        if hasattr(reader, "grid"):
            wanted: Grid = reader.grid
            return wanted
        if reader.kind in ("inject", "biased", "lif", "membrane") and name in (INPUT, *graph.only("inject")):
            return grid_of(graph, edge.target)
    positions = graph.shape_of(name)[0]
    for edges in (graph.sources(name) if op is not None else {}).values():
        for edge in edges:
            grid = grid_of(graph, edge.source)
            if grid[0] * grid[1] == positions:
                return grid
    return 1, positions


def _shape(shape: tuple[int, ...], grid: Grid) -> np.ndarray:
    """(channels, height, width) of a map, or the shape of a vector."""
    return np.array([shape[1], *grid] if len(shape) == 2 else shape)


def _neurons(n: Cuba, shape: np.ndarray, bias: np.ndarray | None = None) -> Any:
    """Neurons of this shape; `bias` [channels] is what they add to their voltage beside a slow current."""
    import nir

    def all_of(value: float) -> np.ndarray:
        return np.full(tuple(shape), float(value))

    if n.i_decay < DECAY_ONE:
        if not n.i_decay or not n.v_decay:
            raise DeployError("NIR", "CubaLIF has no current or voltage that does not leak", "use decays above 0")
        syn, mem = DECAY_ONE / n.i_decay, DECAY_ONE / n.v_decay
        leak = all_of(0) if bias is None else all_of(mem) * bias.reshape(-1, *[1] * (len(shape) - 1))
        return nir.CubaLIF(all_of(syn), all_of(mem), all_of(mem), leak, all_of(n.vth), w_in=all_of(syn))
    if not n.v_decay:
        return nir.IF(all_of(1), all_of(n.vth))
    tau = DECAY_ONE / n.v_decay
    return nir.LIF(all_of(tau), all_of(tau), all_of(0), all_of(n.vth))


def _bias(op: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """(bias of the synapses, bias of the neurons)."""
    return (0 * op.bias, op.bias) if op.neuron.i_decay < DECAY_ONE else (op.bias, None)


def _product(op: Any, grid_shape: np.ndarray, bias: np.ndarray) -> Any:
    import nir

    grid = tuple(int(v) for v in grid_shape[1:])
    return nir.Conv2d(grid, op.weight.astype(float), op.stride, pair(op.padding), 1, op.groups, bias.astype(float))


def _affine(weight: np.ndarray, bias: np.ndarray, before: np.ndarray) -> list[Any]:
    """Flatten (channels first) and Affine, from weights [out, positions, channels] or [out, in]."""
    import nir

    if len(before) == 1:
        return [nir.Affine(weight.astype(float), bias.astype(float))]
    channels = int(before[0])
    flat = weight.reshape(len(weight), -1, channels).transpose(0, 2, 1).reshape(len(weight), -1)
    return [nir.Flatten(before, 0, -1), nir.Affine(flat.astype(float), bias.astype(float))]


def _conv(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    before_them, own = _bias(op)
    return [_product(op, before, before_them), _neurons(op.neuron, after, own)]


def _current(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    made = _product(op, before, op.bias)
    made.metadata["branch"] = 1
    return [made]


def _dense(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    before_them, own = _bias(op)
    return [*_affine(op.weight, before_them, before), _neurons(op.neuron, after, own)]


def _lif(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    return [_neurons(op.neuron, after)]


def _inject(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    import nir

    return [nir.Scale(np.ones(tuple(after)), metadata={"low": op.low, "high": op.high})]


def _biased(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    return [*_inject(op, before, after), *_lif(op, before, after)]


def _max_pool(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    import nir

    two = [np.array([v, v]) for v in (op.kernel, op.stride, op.padding)]
    one = np.ones(tuple(after))
    return [nir.SumPool2d(*two), nir.LIF(one, one, 0 * one, 0.5 * one)]


def _readout(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    import nir

    return [*_affine(op.weight, op.bias, before), nir.I(np.ones(op.classes))]


def _exit(op: Any, before: np.ndarray, after: np.ndarray) -> list[Any]:
    import nir

    return [nir.Output(output_type=np.array([op.classes]))]


WRITERS: dict[str, Callable[[Any, np.ndarray, np.ndarray], list[Any]]] = {
    "inject": _inject, "biased": _biased, "lif": _lif, "conv": _conv, "dense": _dense, "current": _current, "membrane": _lif,
    "max_pool": _max_pool,
    "readout": _readout, "exit_gate": _exit,
}  # fmt: skip
