"""Samples for an import, and what float and integers do on them."""

from __future__ import annotations

import math

import numpy as np

from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.nir.floats import FloatRun, as_positions
from spikegate.formats.nir.linear import as_map, size_of
from spikegate.formats.nir.plan import Plan
from spikegate.formats.nir.report import Report
from spikegate.graph.ir import Graph
from spikegate.reading.numbers import int32

RATE = 0.2  # share of inputs that spike in generated samples
SAMPLES = 16


def samples(plan: Plan, calibrate: np.ndarray | float | None) -> tuple[np.ndarray, str]:
    """Samples int [N, T, size], channels first, and what they are.

    Raises
    ------
    DeployError
        For arrays of another shape or of values that the input does not take, and rates that are no share.
    """
    p, size = plan.payload, size_of(plan.input_shape)
    if isinstance(calibrate, np.ndarray):
        x, told = calibrate, ", ".join(map(str, (plan.timesteps, *plan.input_shape)))
        channels = as_map(plan.input_shape)[0]
        if x.shape[1:2] != (plan.timesteps,) or not len(x) or math.prod(x.shape[2:]) != size:
            raise DeployError("calibration", f"has shape {list(x.shape)}", f"give [samples, {told}]")
        if x.dtype.kind not in "iub" or x.min() < p.low or x.max() > p.high:
            raise DeployError("calibration", f"holds {x.dtype} from {x.min()} to {x.max()}", f"give integers {p.low} to {p.high}")
        if x.shape[2:] == (size // channels, channels) != plan.input_shape and len(plan.input_shape) > 1:
            x = x.swapaxes(2, 3)
        elif x.shape[2:] != plan.input_shape and x.shape[2:] != (1, size):
            raise DeployError("calibration", f"has shape {list(x.shape)}", f"give [samples, {told}]")
        return int32(x.reshape(len(x), plan.timesteps, size) * 1, "calibration"), "given samples"
    rate = RATE if calibrate is None else float(calibrate)
    if not 0 <= rate <= 1:
        raise DeployError("calibration", f"rate {rate} is no share", "give 0 to 1, or samples")
    rng = np.random.default_rng(0)
    shape = (SAMPLES, plan.timesteps, size)
    values = np.ones(shape, int) if p.binary else rng.integers(p.low, p.high + 1, shape)
    return int32(np.where(rng.random(shape) < rate, values, np.clip(0, p.low, p.high)), "calibration"), f"made up, rate {rate:g}"


def measure(graph: Graph, plan: Plan, floats: FloatRun, report: Report, x: np.ndarray) -> None:
    """Enter rates and agreement of float and integers on samples [N, T, size]."""
    assert plan.head is not None
    shaped = as_positions(x.reshape(len(x), plan.timesteps, *plan.input_shape), plan.input_shape)
    record = integer.run(graph, shaped.reshape(len(x), plan.timesteps, *graph.input_shape), spikes=list(plan.layers))
    for row in report.layers:
        if row.name not in plan.layers:
            continue
        shape, ours = plan.layers[row.name].shape, record.spikes[row.name]
        mapped = len(shape) > 1 and ours.shape[2:] == (size_of(shape) // shape[0], shape[0])
        ours = ours.swapaxes(2, 3).reshape(*ours.shape[:2], -1) if mapped else ours.reshape(*ours.shape[:2], -1)
        theirs = floats.sent[row.name]
        row.float_rate, row.int_rate, row.agreement = float((theirs != 0).mean()), float((ours != 0).mean()), float((theirs == ours).mean())
    report.samples = len(x)
    if len(plan.head.shape) == 1:
        report.same_answers = float((floats.scores().argmax(1) == record.logits.argmax(1)).mean())
