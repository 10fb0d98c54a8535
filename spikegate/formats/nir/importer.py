"""A NIR graph as a graph of ops: every node, edge and number is used, or refused by name.

`read_nir` and `from_nir` take what the chip's integers say exactly and refuse the rest; `import_nir` rounds float models to the
chip's integers and reports what that changed. Both walk the graph once (spikegate/formats/nir/walking.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.fidelity import APPROXIMATE, EXACT
from spikegate.formats.nir.alone import best
from spikegate.formats.nir.arranging import arranged
from spikegate.formats.nir.building import Building
from spikegate.formats.nir.fitting import fitted
from spikegate.formats.nir.floats import FloatRun
from spikegate.formats.nir.linear import size_of
from spikegate.formats.nir.measuring import measure, samples
from spikegate.formats.nir.placed import Placed
from spikegate.formats.nir.plan import SPIKES, SUM, Plan
from spikegate.formats.nir.ranges import in_range
from spikegate.formats.nir.reading import read_file, unfolded
from spikegate.formats.nir.report import LayerReport, Report
from spikegate.formats.nir.soft import ZERO, Reset
from spikegate.formats.nir.units import Units, of_head, of_layer
from spikegate.formats.nir.walking import plan_of
from spikegate.graph.ir import Graph, load_ops
from spikegate.neurons.cuba import MANT_SHIFT
from spikegate.neurons.resets import LEVELS_MAX

TIMESTEPS_MAX = 4096


def read_nir(path: Path, timesteps: int | None = None, dt: float | None = None, reset: str = ZERO, levels: int = 1) -> Graph:
    """`from_nir` of a file; a DeployError names what is missing or damaged."""
    return from_nir(read_file(path), timesteps, dt, reset, levels)


def from_nir(found: Any, timesteps: int | None = None, dt: float | None = None, reset: str = ZERO, levels: int = 1) -> Graph:
    """The graph, checked, of a ``nir.NIRGraph`` whose numbers are the chip's at some power of two.

    Parameters
    ----------
    timesteps : of a sample; from the Input's metadata where ours wrote it
    dt : timestep in the unit of the time constants; from the metadata, else 1
    reset, levels : as of `import_graph`

    Raises
    ------
    DeployError
        Naming the node that cannot be taken, and why.
    """
    with in_range("NIR"):
        return _built(planned(found, timesteps, dt, exact=True, reset=Reset(reset, levels)), None)[0]


def import_nir(
    path: Path,
    *,
    timesteps: int | None = None,
    dt: float | None = None,
    calibrate: np.ndarray | float | None = None,
    reset: str = ZERO,
    levels: int = 1,
) -> tuple[Graph, Report]:
    """`import_graph` of a file.

    Raises
    ------
    DeployError
        Also for what is missing or damaged.
    """
    return import_graph(read_file(path), timesteps=timesteps, dt=dt, calibrate=calibrate, reset=reset, levels=levels)


def import_graph(
    found: Any,
    *,
    timesteps: int | None = None,
    dt: float | None = None,
    calibrate: np.ndarray | float | None = None,
    reset: str = ZERO,
    levels: int = 1,
) -> tuple[Graph, Report]:
    """A ``nir.NIRGraph`` of float numbers in the chip's integers.

    Parameters
    ----------
    timesteps : of a sample; from the Input's metadata where ours wrote it
    dt : timestep in the unit of the file's time constants (seconds); from the metadata, else 1
    calibrate : samples int [N, T, *shape] in NIR's shape or the graph's, on which float and integers are compared; or the share of
        inputs that spike in samples that are made up (0.2 where nothing is given)
    reset : what a spike did to the voltage in the model, which NIR cannot say: "zero" (as NIR's equations have it), "subtract" (the
        threshold, as Sinabs) or "subtract-late" (the threshold one timestep later, past the leak, as snnTorch); a node's metadata may
        say another
    levels : most spikes of a timestep where a spike subtracts (Sinabs' MultiSpike); 0: as many as the voltage holds

    Returns
    -------
    The graph, and what was changed, layer by layer.

    Raises
    ------
    DeployError
        Naming the node that cannot be taken, and why.
    """
    with in_range("NIR"):
        return _imported(planned(found, timesteps, dt, exact=False, reset=Reset(reset, levels)), calibrate)


def _imported(plan: Plan, calibrate: np.ndarray | float | None) -> tuple[Graph, Report]:
    """The graph of a plan and what was changed; see `import_graph`."""
    x, told = samples(plan, calibrate)
    floats = FloatRun(plan, x)
    for layer in plan.layers.values():
        if layer.levels == LEVELS_MAX:
            layer.levels = _enough(floats.sent[layer.name])
    graph, placed, head, alone = _built(plan, floats)
    report = _reported(plan, placed, head, alone)
    report.calibration = told
    measure(graph, plan, floats, report, x)
    return graph, report


def _enough(sent: np.ndarray) -> int:
    """Levels for a layer that sent these numbers: twice the largest, at least 2, as all bits of an event."""
    return int(min(LEVELS_MAX, (1 << int(2 * max(1, sent.max())).bit_length()) - 1))


def planned(
    found: Any, timesteps: int | None = None, dt: float | None = None, exact: bool = False, reset: Reset | None = None
) -> Plan:
    """What a ``nir.NIRGraph`` computes, in floats; parameters and errors as for `from_nir`."""
    load_ops()
    flat = unfolded(found)
    facts = [flat.metadata, *(flat.nodes[n].metadata for n in flat.only("Input"))]
    steps = next((f["timesteps"] for f in facts if "timesteps" in f), None) if timesteps is None else timesteps
    if steps is None:
        raise DeployError("NIR", "does not say how many timesteps a sample has", "give timesteps")
    step = next((f["dt"] for f in facts if "dt" in f), 1.0) if dt is None else dt
    return plan_of(flat, _count(steps), _positive(step), exact, reset)


Parts = tuple[Graph, dict[str, Placed], Placed | None, dict[str, float]]


def _built(plan: Plan, floats: FloatRun | None) -> Parts:
    """(graph, its layers, the answer's, how well each rounded layer does by itself); without a float run nothing may be rounded."""
    highs = {n: max(abs(p.low), abs(p.high)) for n, p in ((plan.input_name, plan.payload), (plan.replay, plan.replay_payload))}
    highs |= {n: layer.levels for n, layer in plan.layers.items()}
    maps = {n: len(plan.input_shape) > 1 for n in (plan.input_name, plan.replay)}
    maps |= {n: len(layer.shape) > 1 for n, layer in plan.layers.items()}  # feedback reads what is not placed yet
    units: dict[str, Units] = {}
    for _ in range(len(plan.layers) + 1):
        before = dict(maps)
        for name, layer in plan.layers.items():
            with in_range(name):
                units[name], maps[name] = arranged(of_layer(layer), layer.shape, maps)
        if maps == before:
            break
    placed, alone = {}, {}
    for name, layer in plan.layers.items():
        with in_range(name):
            fit = fitted(units[name], plan.timesteps, highs, floats is None)
        if floats is not None and fit.notes:
            fit, alone[name] = best(fit, floats, plan.timesteps, highs)
        placed[name] = Placed(layer.shape, maps[name], fit)
    head, answer = plan.head, None
    assert head is not None
    if head.rule == SPIKES and len({maps[s.name] for t in head.terms for s in t.sources}) > 1:
        head.rule = SUM  # spikes of a map and of a flat layer meet behind synapses
    if head.rule != SPIKES:
        last, _ = arranged(of_layer(head.layer) if head.layer else of_head(head), head.shape, maps, mine=False)
        answer = Placed(head.shape, False, fitted(last, plan.timesteps, highs, floats is None))
    return Building(plan, placed, answer).built(), placed, answer, alone


def _reported(plan: Plan, placed: dict[str, Placed], head: Placed | None, alone: dict[str, float]) -> Report:
    assert plan.head is not None
    rows = []
    for name, p in [*placed.items(), *([(plan.head.name, head)] if head is not None else [])]:
        node = plan.layers[name].kind if p is not head else plan.head.layer.kind if plan.head.layer else "answer"
        fidelity = APPROXIMATE if p.fit.notes else EXACT
        made = LayerReport(name, node, size_of(p.shape), fidelity, p.fit.scale, list(p.fit.notes))
        made.alone = alone.get(name, 1.0 if p is not head else float("nan"))
        rows.append(made)
    unit = 1.0 if head is None else head.fit.scale * (2.0**MANT_SHIFT if plan.head.layer else 1.0)
    return Report(rows, plan.head.rule, unit, plan.dt, plan.timesteps, notes=plan.notes)


def _count(steps: Any) -> int:
    plain = isinstance(steps, int | float | np.number) and not isinstance(steps, bool)
    if not plain or not np.isfinite(steps) or steps != int(steps) or not 1 <= steps <= TIMESTEPS_MAX:
        raise DeployError("timesteps", f"is {steps}", f"give a whole number from 1 to {TIMESTEPS_MAX}")
    return int(steps)


def _positive(dt: Any) -> float:
    if not isinstance(dt, int | float | np.number) or not 0 < float(dt) < float("inf"):
        raise DeployError("dt", f"is {dt}", "give the timestep in seconds, above 0")
    return float(dt)
