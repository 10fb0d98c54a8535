"""The same net with other settings: halting thresholds, exit margins, fewer timesteps. Nothing is trained again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from spikegate.engine.record import Record
from spikegate.graph.ir import DeployError, Graph
from spikegate.ops.exit_gate import NEVER

CREDITS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
MARGINS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def with_credit(graph: Graph, factor: float) -> Graph:
    """Every token starts with `factor` times the credit: less halts earlier, more later.

    Raises
    ------
    DeployError
        A net without token halting.
    """
    gates: dict[str, Any] = {n: op for n, op in graph.ops.items() if op.gates_tokens}
    changed = {n: _replace(op, theta=max(1, round(op.theta * factor))) for n, op in gates.items()}
    if not changed:
        raise DeployError("--over credit", "no token halts in this net", "name a run with token gates, or use --over exit or timesteps")
    return _changed(graph, changed)


def with_margin(graph: Graph, margin: np.ndarray) -> Graph:
    """Samples end when the leading class is `margin` [T] ahead; the last timestep's does not matter.

    Raises
    ------
    DeployError
        A net without an exit gate.
    """
    gates = graph.only("exit_gate")
    if not gates:
        raise DeployError("--over exit", "the net has no exit gate", "name a run of this repository, not a plain NetX file")
    margin = np.asarray(margin, np.int64)
    policy = "threshold_then_argmax" if (margin < NEVER).any() else "fixed_window"
    return _changed(graph, {n: _replace(graph.ops[n], margin=margin, policy=policy) for n in gates})


def with_timesteps(graph: Graph, timesteps: int) -> Graph:
    """The net stopped after so many timesteps at most; masks and margins keep their first words."""
    changed: dict[str, Any] = {}
    for name, op in graph.ops.items():
        new: dict[str, Any] = {}
        for field in ("timesteps", "margin", "mask"):
            value = getattr(op, field, None)
            if isinstance(value, int):
                new[field] = timesteps
            elif isinstance(value, np.ndarray) and op.kind in ("exit_gate", "timestep_gate"):
                new[field] = value[:timesteps]
        if new:
            changed[name] = _replace(op, **new)
    return _changed(dataclasses.replace(graph, timesteps=timesteps), changed)


def margins(graph: Graph, full: Record, values: list[float] | None) -> list[tuple[str, np.ndarray]]:
    """(label, margin [T]) of each setting: factors of the calibrated margins; without any, quantiles of the leads at t = 1.

    `full` is a run to the last timestep that kept the read-out's spikes.
    """
    op: Any = graph.ops[graph.only("exit_gate")[0]]
    calibrated = np.asarray(op.margin, np.int64)
    used = (calibrated < NEVER) & (op.policy != "fixed_window")
    if used.any():
        scaled = [(f"x {v:g}", np.where(used, np.round(calibrated * v).astype(np.int64), NEVER)) for v in values or MARGINS]
        return [*scaled, ("never", np.full(len(calibrated), NEVER))]
    z = np.sort(full.spikes[graph.only("readout")[0]][:, 0], axis=1)
    leads = z[:, -1] - z[:, -2]
    found = [(f"quantile {v:g}", np.full(graph.timesteps, int(np.quantile(leads, v)))) for v in values or QUANTILES]
    return [*found, ("never", np.full(graph.timesteps, NEVER))]


def _replace(op: Any, **fields: Any) -> Any:
    return dataclasses.replace(op, **fields)


def _changed(graph: Graph, ops: dict[str, Any]) -> Graph:
    changed = dataclasses.replace(graph, ops={n: ops.get(n, op) for n, op in graph.ops.items()})
    changed.check()
    return changed
