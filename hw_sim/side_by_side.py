"""The report command: collect the runs, draw, write report.html, report.json, energy.csv and cores.csv."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from spikegate.command import cli
from spikegate.command.runs import ROOT
from spikegate.files import atomic
from spikegate.graph.ir import DeployError
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.energy.cost_tables import CostTable, load_tables, names
from spikegate.hw_sim.page.data_files import as_json, cores_csv, energy_csv
from spikegate.hw_sim.page.html import figures, render
from spikegate.hw_sim.page.run_view import RunView, collect

LARGEST = 5_000_000  # bytes of a page


def run(runs: list[Path], static: Path | None, costs: list[str], chip: str, output: Path | None, *, schedule: str = "auto", images: int = 6,
        to_stdout: bool = False) -> Path:
    """Write the report of one or more runs; returns its folder.

    Raises
    ------
    DeployError
        No export or events, damaged files, a bad cost table or chip profile, a run named twice, a page that would be too large.
    """
    tables = priced(costs)
    if not 0 <= images <= 16:
        raise DeployError("--images", f"{images} images", "give 0 to 16")
    profile = load_chip(chip)
    views = collect(list(runs) or [None], static, tables, chip=profile, schedule=schedule, images=images)
    folder = output or (views[0].net.run if len(views) == 1 else ROOT) / "report"
    page = page_of(views, tables, repeat(views, static, costs, chip, schedule, images))
    written = {"report.html": page, "report.json": text_of(as_json(views, tables)), "energy.csv": energy_csv(views, tables),
               "cores.csv": cores_csv(views)}
    for name, content in written.items():
        with atomic(folder / name) as part:
            part.write_text(content, encoding="utf-8")
    if to_stdout:
        cli.console.file.write(written["report.json"])
        return folder
    for s in views:
        show(s)
    cli.console.print(f"wrote {folder}/{', '.join(written)}", soft_wrap=True, markup=False)
    return folder


def priced(costs: list[str]) -> list[CostTable]:
    """The tables, each of which must hold prices."""
    if not costs:
        raise DeployError("--costs", "names no cost table", f"known: {', '.join(names())}")
    tables = load_tables(costs)
    bare = [t.name for t in tables if t.counts_only]
    if bare:
        raise DeployError("--costs", f"table {bare[0]} only counts", "the counts are printed with any table; name one that has prices")
    return tables


def page_of(views: list[RunView], tables: list[CostTable], command: str) -> str:
    """The page, refused if it is too large to be mailed about."""
    page = render(views, tables, figures(views, tables), command)
    if len(page.encode()) > LARGEST:
        raise DeployError("report.html", f"would have {len(page.encode()) / 1e6:.1f} MB", "name fewer runs or tables, or give --images 2")
    return page


def repeat(views: list[RunView], static: Path | None, costs: list[str], chip: str, schedule: str, images: int) -> str:
    """The command that writes this report again."""
    words = ["python", "hw_sim/report.py", *(s.given for s in views)]
    words += [] if static is None else ["--static", str(static)]
    words += ["--costs", *costs, "--chip", chip, "--schedule", schedule, "--images", str(images)]
    return shlex.join(words)


def text_of(figures: dict[str, Any]) -> str:
    return json.dumps(figures, indent=2, sort_keys=True, default=float) + "\n"


def show(s: RunView) -> None:
    """One line on a run, and what could not be had."""
    record = s.main.record
    accuracy = "" if record.labels is None else f"{100 * record.accuracy:.2f} %, "
    cores = "not placed" if s.hardware is None else f"{s.hardware.mapping.cores} cores"
    cli.console.print(f"{s.label}: {accuracy}{s.main.ledger.samples} images, {cores}, {s.examples.compared} images run again", markup=False)
    for note in s.notes:
        cli.console.print(f"  {note}", markup=False, soft_wrap=True)
