"""A NIR graph as a graph of ops: every node, edge and number is used, or refused by name.

`read_nir` and `from_nir` take what the chip's integers say exactly and refuse the rest; `import_nir` rounds float models to the
chip's integers and reports what that changed. Both walk the graph once (spikegate/formats/nir/walking.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.nir.arranging import arranged
from spikegate.formats.nir.building import Building
from spikegate.formats.nir.fitting import fitted
from spikegate.formats.nir.floats import FloatRun, as_flat, as_positions
from spikegate.formats.nir.linear import as_map, size_of
from spikegate.formats.nir.placed import Placed
from spikegate.formats.nir.plan import SPIKES, SUM, Plan
from spikegate.formats.nir.reading import Flat, read_file, unfolded
from spikegate.formats.nir.report import APPROXIMATE, EXACT, LayerReport, Report
from spikegate.formats.nir.units import Units, of_head, of_layer
from spikegate.formats.nir.walking import plan_of
from spikegate.graph.ir import Graph, load_ops
from spikegate.neurons.cuba import MANT_SHIFT

RATE = 0.2  # share of inputs that spike in generated samples
SAMPLES = 16


def read_nir(path: Path, timesteps: int | None = None, dt: float | None = None) -> Graph:
    """`from_nir` of a file; a DeployError names what is missing or damaged."""
    return from_nir(read_file(path), timesteps, dt)


def from_nir(found: Any, timesteps: int | None = None, dt: float | None = None) -> Graph:
    """The graph, checked, of a ``nir.NIRGraph`` whose numbers are the chip's at some power of two.

    Parameters
    ----------
    timesteps : of a sample; from the Input's metadata where ours wrote it
    dt : timestep in the unit of the time constants; from the metadata, else 1

    Raises
    ------
    DeployError
        Naming the node that cannot be taken, and why.
    """
    return _imported(unfolded(found), timesteps, dt, exact=True)[0]


def import_nir(
    path: Path,
    *,
    timesteps: int | None = None,
    dt: float | None = None,
    calibrate: np.ndarray | float | None = None,
) -> tuple[Graph, Report]:
    """`import_graph` of a file.

    Raises
    ------
    DeployError
        Also for what is missing or damaged.
    """
    return import_graph(read_file(path), timesteps=timesteps, dt=dt, calibrate=calibrate)


def import_graph(
    found: Any,
    *,
    timesteps: int | None = None,
    dt: float | None = None,
    calibrate: np.ndarray | float | None = None,
) -> tuple[Graph, Report]:
    """A ``nir.NIRGraph`` of float numbers in the chip's integers.

    Parameters
    ----------
    timesteps : of a sample; from the Input's metadata where ours wrote it
    dt : timestep in the unit of the file's time constants (seconds); from the metadata, else 1
    calibrate : samples int [N, T, *shape] in NIR's shape or the graph's, on which float and integers are compared; or the share of
        inputs that spike in samples that are made up (0.2 where nothing is given)

    Returns
    -------
    The graph, and what was changed, layer by layer.

    Raises
    ------
    DeployError
        Naming the node that cannot be taken, and why.
    """
    graph, plan, report = _imported(unfolded(found), timesteps, dt, exact=False)
    x, report.calibration = _samples(plan, graph, calibrate)
    _measure(graph, plan, report, x)
    return graph, report


def _imported(flat: Flat, timesteps: Any, dt: Any, exact: bool) -> tuple[Graph, Plan, Report]:
    load_ops()
    facts = [flat.metadata, *(flat.nodes[n].metadata for n in flat.only("Input"))]
    steps = next((f["timesteps"] for f in facts if "timesteps" in f), None) if timesteps is None else timesteps
    if steps is None:
        raise DeployError("NIR", "does not say how many timesteps a sample has", "give timesteps")
    step = next((f["dt"] for f in facts if "dt" in f), 1.0) if dt is None else dt
    plan = plan_of(flat, _count(steps), _positive(step), exact)
    graph, placed, head = _built(plan, exact)
    answers = [("answer", "head", head)] if head is not None else []
    rows = []
    for name, node, p in [*((n, plan.layers[n].kind, p) for n, p in placed.items()), *answers]:
        assert plan.head is not None
        fidelity = APPROXIMATE if p.fit.notes else EXACT
        label = plan.head.name if node == "head" else name
        rows.append(LayerReport(label, node, size_of(p.shape), fidelity, p.fit.scale, list(p.fit.notes)))
    assert plan.head is not None
    unit = 1.0 if head is None else head.fit.scale * (2.0**MANT_SHIFT if plan.head.layer else 1.0)
    return graph, plan, Report(rows, plan.head.rule, unit, _positive(step), plan.timesteps, notes=plan.notes)


def _built(plan: Plan, exact: bool) -> tuple[Graph, dict[str, Placed], Placed | None]:
    highs = {n: max(abs(p.low), abs(p.high)) for n, p in ((plan.input_name, plan.payload), (plan.replay, plan.replay_payload))}
    maps = {n: len(plan.input_shape) > 1 for n in (plan.input_name, plan.replay)}
    maps |= {n: len(layer.shape) > 1 for n, layer in plan.layers.items()}  # feedback reads what is not placed yet
    units: dict[str, Units] = {}
    for _ in range(len(plan.layers) + 1):
        before = dict(maps)
        for name, layer in plan.layers.items():
            units[name], maps[name] = arranged(of_layer(layer), layer.shape, maps)
        if maps == before:
            break
    placed = {n: Placed(layer.shape, maps[n], fitted(units[n], plan.timesteps, highs, exact)) for n, layer in plan.layers.items()}
    head, answer = plan.head, None
    assert head is not None
    if head.rule == SPIKES and len({maps[s.name] for t in head.terms for s in t.sources}) > 1:
        head.rule = SUM  # spikes of a map and of a flat layer meet behind synapses
    if head.rule != SPIKES:
        last, _ = arranged(of_layer(head.layer) if head.layer else of_head(head), head.shape, maps, mine=False)
        answer = Placed(head.shape, False, fitted(last, plan.timesteps, highs, exact))
    return Building(plan, placed, answer).built(), placed, answer


def _count(steps: Any) -> int:
    plain = isinstance(steps, int | float | np.number) and not isinstance(steps, bool)
    if not plain or not np.isfinite(steps) or steps != int(steps) or steps < 1:
        raise DeployError("timesteps", f"is {steps}", "give a whole number of at least 1")
    return int(steps)


def _positive(dt: Any) -> float:
    if not isinstance(dt, int | float | np.number) or not 0 < float(dt) < float("inf"):
        raise DeployError("dt", f"is {dt}", "give the timestep in seconds, above 0")
    return float(dt)


def _samples(plan: Plan, graph: Graph, calibrate: np.ndarray | float | None) -> tuple[np.ndarray, str]:
    """Samples as the graph takes them, [N, T, *graph.input_shape], and what they are."""
    p = plan.payload
    if isinstance(calibrate, np.ndarray):
        x, sizes = calibrate, (plan.timesteps, *plan.input_shape)
        if x.shape[1:] != sizes and x.shape[1:] == (plan.timesteps, *graph.input_shape):
            return x, "given samples"
        if x.shape[1:] != sizes:
            raise DeployError("calibration", f"has shape {list(x.shape)}", f"give [samples, {', '.join(map(str, sizes))}]")
        return as_positions(x, plan.input_shape).reshape(len(x), plan.timesteps, *graph.input_shape), "given samples"
    rate = RATE if calibrate is None else float(calibrate)
    if not 0 <= rate <= 1:
        raise DeployError("calibration", f"rate {rate} is no share", "give 0 to 1, or samples")
    rng = np.random.default_rng(0)
    shape = (SAMPLES, plan.timesteps, *graph.input_shape)
    values = rng.integers(p.low, p.high + 1, shape) if not p.binary else np.ones(shape, int)
    return np.where(rng.random(shape) < rate, values, np.clip(0, p.low, p.high)).astype(np.int32), f"made up, rate {rate:g}"


def _measure(graph: Graph, plan: Plan, report: Report, x: np.ndarray) -> None:
    """Enter rates and agreement of float and integers on samples."""
    channels = as_map(plan.input_shape)[0]
    flat = as_flat(x, plan.input_shape).reshape(len(x), plan.timesteps, -1)
    assert channels and flat.shape[2] == size_of(plan.input_shape)
    floats = FloatRun(plan, flat)
    record = integer.run(graph, x, spikes=list(plan.layers))
    for row in report.layers:
        if row.name not in plan.layers:
            continue
        shape = plan.layers[row.name].shape
        ours = record.spikes[row.name]
        mapped = len(shape) > 1 and ours.shape[2:] == (size_of(shape) // shape[0], shape[0])
        ours = ours.swapaxes(2, 3).reshape(*ours.shape[:2], -1) if mapped else ours.reshape(*ours.shape[:2], -1)
        theirs = floats.sent[row.name]
        row.float_rate, row.int_rate, row.agreement = float(theirs.mean()), float((ours != 0).mean()), float((theirs == ours).mean())
    report.samples = len(x)
    scores = floats.scores()
    if scores.shape == record.logits.shape and plan.head is not None and len(plan.head.shape) == 1:
        report.same_answers = float((scores.argmax(1) == record.logits.argmax(1)).mean())
