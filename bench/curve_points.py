"""Accuracy over energy: the points of each curve from their JSON files, the Pareto front, one JSON and one SVG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.claims import total_pj
from bench.measure import ROOT, TABLES, Bench
from bench.plan import RESULTS, Curve, Row, read_plan
from bench.system_report import RUNS, measure_all
from spikegate.command import cli
from spikegate.files import atomic
from spikegate.graph.ir import DeployError
from spikegate.hw_sim.energy.cost_tables import load_tables
from spikegate.hw_sim.energy.units import energy_text

Point = dict[str, Any]


def curves(plan_name: str = "digits", cost: str = "paper45", *, jobs: int = 1, data_path: Path | None = None, report_only: bool = False,
           as_json: bool = False, output: Path | None = None, runs: Path = RUNS, results: Path | None = None,
           cluster: str | None = None) -> int:
    """Measure, write, print; returns how many nets failed. Parameters as the options of bench/curves.py.

    Raises
    ------
    DeployError
        Unknown plan or cost table, or nothing measured yet.
    """
    plan = read_plan(plan_name)
    table = load_tables([cost])[0].name
    tables = [*TABLES] if cost in TABLES else [*TABLES, cost]
    work = Bench(plan, tables, runs, results or RESULTS, data_path)
    made = [(curve, plan.points(curve)) for curve in plan.curves]
    failed = {}
    if not report_only:
        wanted = [row for _, rows in made for row in rows]
        plan.rows += [row for row in wanted if row.name not in [r.name for r in plan.rows]]
        failed = measure_all(work, wanted, 1, jobs, cluster)
    points = [p for curve, rows in made for p in curve_points(work, curve, rows, table)] + static_points(work, table)
    if not points:
        raise DeployError(str(work.results / plan.name), "holds no results yet", f"run python bench/systems.py {plan_name} first")
    best = front(points)
    for i, point in enumerate(points):
        point["front"] = i in best
    facts = {
        "schema": 1, "plan": plan.name, "dataset": plan.dataset, "cost_table": table, "energy": "chip and host, pJ per inference",
        "points": points,
    }  # fmt: skip
    folder = work.results / plan.name
    with atomic(folder / "curves.json") as part:
        part.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    picture = output or ROOT / "docs" / "images" / f"curves-{plan.name}.svg"
    from bench.chart import chart  # matplotlib is slow to import

    with atomic(picture) as part:
        part.write_text(chart(points, f"energy per inference, chip and host, {table}", plan.name), encoding="utf-8")
    if as_json:
        cli.print_json(facts)
    else:
        for p in sorted(points, key=lambda p: p["total_pj"]):
            text = f"{'*' if p['front'] else ' '} {p['curve'] or 'static'}, {p['label']}"
            cli.console.print(f"{text:<57} {energy_text(p['total_pj']):>10} {100 * p['accuracy']:8.2f} %  {p['state']}", markup=False)
        cli.console.print(f"* on the Pareto front; wrote {folder}/curves.json and {picture}", markup=False, soft_wrap=True)
    for (name, seed), why in failed.items():
        cli.errors.print(f"failed: {name}, seed {seed}: {why}", style="red", markup=False, soft_wrap=True)
    return len(failed)


def curve_points(work: Bench, curve: Curve, rows: list[Row], table: str) -> list[Point]:
    """Measured points of a curve, in the order of its values."""
    found = []
    for value, row in zip(curve.values, rows):
        point = _point(work, row, table)
        if point is not None:
            found.append(point | {"curve": curve.name, "knob": curve.knob, "value": value, "label": f"{value:g}"})
    return found


def static_points(work: Bench, table: str) -> list[Point]:
    """A point for each static net of the table: nothing halts, exits or is masked."""
    found = []
    for row in work.plan.rows:
        result = None if row.base or "@" in row.name else work.read(row, 0)
        if result is not None and not result["halting"] and result["mean_layer_timesteps"] is None:
            point = _point(work, row, table)
            if point is not None:
                found.append(point | {"curve": None, "knob": None, "value": None, "label": row.name})
    return found


def _point(work: Bench, row: Row, table: str) -> Point | None:
    result = work.read(row, 0)
    if result is None or table not in result["energy"]:
        return None
    energy = result["energy"][table]
    same = ("mean_tokens", "mean_timesteps", "mean_layer_timesteps", "images", "epochs")
    return {
        "row": row.name, "seed": 0, "state": work.state(row, 0), "accuracy": result["accuracy"]["deployed"],
        "total_pj": total_pj(result, table), "chip_pj": energy["chip_pj"], "host_pj": energy["host_pj"], **{k: result[k] for k in same},
    }  # fmt: skip


def front(points: list[Point]) -> list[int]:
    """Indices of the points that no other one dominates (as accurate for less energy, or more accurate for no more), by energy."""
    order = sorted(range(len(points)), key=lambda i: (points[i]["total_pj"], -points[i]["accuracy"]))
    best, found = -1.0, []
    for i in order:
        if points[i]["accuracy"] > best:
            best = points[i]["accuracy"]
            found.append(i)
    return found
