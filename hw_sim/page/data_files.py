"""A report as JSON and CSV: the same figures as the page's, unrounded, with the unit in each name."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from spikegate.hw_sim.chip import hardware
from spikegate.hw_sim.energy.cost_tables import QUANTITIES, UPDATES, CostTable, counter_of
from spikegate.hw_sim.energy.ledger import Ledger
from spikegate.hw_sim.energy.pricing import COMPONENT_OF
from spikegate.hw_sim.energy.summary import to_json
from spikegate.hw_sim.page.halting_figure import cells_of
from spikegate.hw_sim.page.run_view import RunView, rows

SCHEMA = 2  # of report.json, as report.schema.json beside this file has it
ENERGY = ("net", "op", "kind", "timestep", "component", "event", "events_per_inference")
CORES = ("net", "core", "op", "chip", "tile_x", "tile_y")


def as_json(views: list[RunView], tables: list[CostTable]) -> dict[str, Any]:
    """Everything, JSON ready."""
    return {
        "schema": SCHEMA,
        "runs": {s.label: _run(s) for s in views},
        "tables": {t.name: t.model_dump(mode="json", by_alias=True) for t in tables},
    }


def _run(s: RunView) -> dict[str, Any]:
    figures = to_json(s.estimate)
    figures.pop("tables")
    share, running = cells_of(s)
    hw = s.hardware
    return {
        "run": str(s.net.run), "given": s.given, "baseline": s.baseline, "notes": s.notes, "estimate": figures,
        "exactness": {
            "target": s.main.record.meta.get("target"), "compared": s.compared,
            "run_again": {"images": s.examples.compared, "equal": not s.examples.differs} if s.examples.compared else None,
        },
        "tokens": {"mean": share.mean(0).tolist(), "running": running.tolist()},
        "hardware": None if hw is None else hardware.to_json(hw) | {"links": hw.load.links.tolist()},
    }


def energy_csv(views: list[RunView], tables: list[CostTable]) -> str:
    """One row for each net, op, timestep and kind of event; a column of pJ per inference for each table, empty where it has no price."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write([*ENERGY, *(f"{t.name}_pj" for t in tables)])
    for row in rows(views):
        ledger = row.net.ledger
        for part in ("work", "gates"):
            _events(write, row.label, ledger, part, tables)
        macs = ledger.host_macs
        write([row.label, "host embedding", "host", "", "host", "host_mac", macs, *(_cell(t, "host_mac", macs) for t in tables)])
    return out.getvalue()


def _events(write: Any, label: str, ledger: Ledger, part: str, tables: list[CostTable]) -> None:
    events = getattr(ledger, part) / max(1, ledger.samples)
    for i, (op, kind) in enumerate(zip(ledger.ops, ledger.kinds)):
        for t in range(len(events)):
            for k in np.flatnonzero(events[t, i]):
                quantity, number = QUANTITIES[k], float(events[t, i, k])
                component = "gates" if part == "gates" else COMPONENT_OF["neuron_update" if quantity in UPDATES else quantity]
                write([label, op, kind, t + 1, component, quantity, number, *(_cell(table, quantity, number) for table in tables)])


def _cell(table: CostTable, quantity: str, number: float) -> float | str:
    """Energy of so many events; empty where the table has no price, also where it says why."""
    pj = table.pj(quantity)
    return "" if pj is None or counter_of(quantity) in table.leaves_out else number * pj


def cores_csv(views: list[RunView]) -> str:
    """One row for each core of each placed run."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    head = False
    for s in views:
        for core in [] if s.hardware is None else hardware.to_json(s.hardware)["cores_detail"]:
            limits = {k: v for k, v in core.items() if isinstance(v, dict)}
            counts = {k: v for k, v in core.items() if k not in limits and k not in ("core", "op", "chip", "tile")}
            if not head:
                write([*CORES, *(f"{n}_{side}" for n in limits for side in ("used", "max")), *counts])
                head = True
            ends = [v[side] for v in limits.values() for side in ("used", "max")]
            write([s.label, core["core"], core["op"], core["chip"], *core["tile"], *ends, *counts.values()])
    return out.getvalue()
