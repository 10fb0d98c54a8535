"""Energy of a foreign NetX file's run, from what `python deploy/run.py any.net --input x.npy` recorded; multiplications apart."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from spikegate.command import cli
from spikegate.engine.record import Record
from spikegate.files import atomic
from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.hw_sim.energy.cost_tables import GRADED, CostTable
from spikegate.hw_sim.energy.ledger import NetInfo
from spikegate.hw_sim.energy.measured import UNREADABLE
from spikegate.hw_sim.energy.pricing import COMPONENTS, Energy, price
from spikegate.hw_sim.energy.units import count_text, energy_text
from spikegate.hw_sim.tables.energy_tables import left_out, partial_text

RESULT, EVENTS = "result.json", "events.npz"
AGAIN = "python deploy/run.py any.net --input x.npy"
ROWS = ("synapses", "multiplications", *(c for c in COMPONENTS[1:-1] if c != "idle visits"))  # how many neurons there are is not known


@dataclass(frozen=True)
class Foreign:
    """Energy per inference of a foreign net by one table: `energy` without, `graded_pj` and `graded` (their number) the multiplications."""

    energy: Energy
    graded: float
    graded_pj: float
    unpriced: dict[str, float]

    @property
    def components_pj(self) -> dict[str, float]:
        """Energy by `ROWS`."""
        return {**self.energy.components_pj, "multiplications": self.graded_pj}

    @property
    def total_pj(self) -> float:
        return self.energy.chip_pj + self.graded_pj


def is_foreign(folder: Path | None) -> bool:
    """Whether a folder holds the run of a NetX file with an array."""
    try:
        return folder is not None and "multiplying_layers" in json.loads((folder / RESULT).read_text())
    except (OSError, ValueError, TypeError):
        return False


def read(folder: Path) -> tuple[dict[str, Any], Record]:
    """The run's facts and events.

    Raises
    ------
    DeployError
        Damaged files, or a run of before multiplications were counted.
    """
    try:
        facts, record = json.loads((folder / RESULT).read_text()), Record.load(folder / EVENTS)
        if list(facts["events"]) != record.ops or len(record.counts) != facts["samples"]:
            raise ValueError("events and result are of two runs")
    except UNREADABLE as e:
        raise DeployError(str(folder), f"is no run of a NetX file ({e})", AGAIN) from None
    if facts["multiplying_layers"] and set(facts.get("graded", {})) != set(facts["multiplying_layers"]):
        raise DeployError(str(folder), "was recorded before multiplications were counted", f"run it again: {AGAIN}")
    return facts, record


def price_foreign(record: Record, graded: dict[str, dict[str, int]], table: CostTable) -> Foreign:
    """Price a run. `graded`: multiplications and accumulates of the layers that get graded events, summed over samples.

    Their recorded ``synop`` (a value n counts |n| accumulates) is not what a chip does: each event is one multiplication and one addition.
    """
    n, counts = max(1, len(record.counts)), record.counts.copy()
    for name, numbers in graded.items():
        row = record.ops.index(name)
        counts[:, :, row, COUNTERS.index("synop")] = 0
        counts[0, 0, row, COUNTERS.index("synop")] = numbers["accumulates"]
    energy = price(dataclasses.replace(record, counts=counts), NetInfo(), table)
    number = sum(v["multiplications"] for v in graded.values()) / n
    pj = table.pj(GRADED)
    missing = {GRADED: number} if number and pj is None else {}
    return Foreign(energy, number, number * (pj or 0.0), {**energy.unpriced, **missing})


def run(folder: Path, tables: list[CostTable], output: Path | None, *, as_json: bool = False) -> Path:
    """Price a run, write energy.json beside it (or to `output`) and print; returns the folder."""
    facts, record = read(folder)
    found = [price_foreign(record, facts.get("graded", {}), t) for t in tables]
    content = {"schema": 1, "net": facts["net"], "samples": facts["samples"], "timesteps": facts["timesteps"],
               "multiplying_layers": facts["multiplying_layers"], "tables": {f.energy.table.name: as_dict(f) for f in found}}
    out = output or folder
    with atomic(out / "energy.json") as part:
        part.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if as_json:
        cli.print_json(content)
        return out
    cli.console.print(f"{facts['net']}: {facts['samples']} samples, {facts['timesteps']} timesteps", markup=False, soft_wrap=True)
    if facts["multiplying_layers"]:
        layers = ", ".join(facts["multiplying_layers"])
        cli.console.print(f"not accumulate-only: graded events reach {layers}; {count_text(found[0].graded)} multiplications per inference",
                          markup=False, soft_wrap=True)
    cli.console.print(energy_table(found))
    for f in found:
        if f.unpriced:
            cli.console.print(f"{f.energy.table.name} is partial: {partial_text(f.unpriced)}", markup=False, soft_wrap=True)
        cli.console.print(left_out(f.energy.table), style="dim", markup=False, soft_wrap=True)
    cli.console.print(f"wrote {out}/energy.json", markup=False, soft_wrap=True)
    return out


def energy_table(found: list[Foreign]) -> Table:
    """Energy per inference by component, a column for each cost table."""
    out = Table(title="energy per inference", title_justify="left")
    out.add_column("")
    for f in found:
        out.add_column(escape(f.energy.table.label), justify="right")
    for row in ROWS:
        cells = []
        for f in found:
            nothing = row in f.energy.left_out or (row == "multiplications" and GRADED in f.energy.table.leaves_out)
            unknown = row == "multiplications" and GRADED in f.unpriced
            cells.append("left out" if nothing else "no price" if unknown else energy_text(f.components_pj[row]))
        out.add_row(row, *cells)
    out.add_section()
    out.add_row("chip", *(("partial: " if f.unpriced else "") + energy_text(f.total_pj) for f in found), style="bold")
    return out


def as_dict(f: Foreign) -> dict[str, Any]:
    """One table's figures, JSON ready."""
    parts = {row: f.components_pj[row] for row in ROWS}
    return {"components_pj": parts, "total_pj": f.total_pj, "multiplications": f.graded, "partial": bool(f.unpriced),
            "unpriced": f.unpriced}
