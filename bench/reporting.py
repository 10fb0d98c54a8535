"""What bench/systems.py does: measure what is missing or stale, then show tables and claims."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from bench.claims import Result, claims
from bench.measure import ROOT, TABLES, Bench, measure, ordered, stop_commands
from bench.plan import RESULTS, Plan, Row, read_plan
from bench.schedule import run_all
from bench.table import WORK, as_json, energy_columns, fill, lines, markdown_claims, markdown_tables, rich_claims, rich_table
from convert import cli
from convert.files import atomic
from convert.ir import DeployError
from hw_sim.cost_tables import load_tables

if TYPE_CHECKING:
    from bench.systems import Args

DOCS = ROOT / "docs" / "systems.md"


def bench(args: Args) -> int:
    """Measure and show; returns how many nets failed.

    Raises
    ------
    DeployError
        Unknown plan, row or cost table.
    """
    plan = read_plan(args.plan)
    rows = plan.rows if args.rows is None else [plan.row(name.strip()) for name in args.rows.split(",")]
    if args.jobs < 1 or (args.seeds is not None and args.seeds < 1):
        raise DeployError("--jobs" if args.jobs < 1 else "--seeds", "must be 1 or more", "leave it out for the default")
    tables = [t.name for t in load_tables(args.costs or TABLES)]
    work = Bench(plan, list(args.costs or TABLES), args.runs, args.results or RESULTS, args.data_path, args.lava)
    failed = {} if args.report_only else measure_all(work, rows, args.seeds, args.jobs)
    show(args, work, rows, tables)
    for (name, seed), why in failed.items():
        cli.errors.print(f"failed: {name}, seed {seed}: {why}", style="red", markup=False, soft_wrap=True)
    return len(failed)


def measure_all(work: Bench, rows: list[Row], seeds: int | None, jobs: int) -> dict[tuple[str, int], str]:
    """Measure what is not there yet; returns what failed and why."""
    left = work.left(ordered(work.plan, rows, seeds))
    if not left:
        return {}

    def tell(line: str) -> None:
        cli.errors.print(line, markup=False, soft_wrap=True)

    def one(row: Row, seed: int) -> None:
        measure(work, row, seed)

    try:
        return run_all(work.plan, left, one, jobs=jobs, tell=tell)
    except KeyboardInterrupt:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_IGN)  # a stop often comes twice: to the group, and to this process
        stop_commands()
        raise


def reader(work: Bench):
    """Results by (row name, seed)."""

    def read(name: str, seed: int) -> Result | None:
        return work.read(work.plan.row(name), seed) if name else None

    return read


def show(args: Args, work: Bench, rows: list[Row], tables: list[str]) -> None:
    """Print what there is, as the options ask."""
    found, made = lines(work.plan, rows, reader(work), work.state), claims(work.plan, reader(work))
    if args.update_docs:
        update(DOCS, work, tables)
    if args.json:
        cli.print_json(as_json(found, made))
        return
    if args.markdown:
        cli.console.print(markdown_tables(found, tables), markup=False, soft_wrap=True)
        if args.claims:
            cli.console.print("\n" + markdown_claims(made), markup=False, soft_wrap=True)
        return
    images = next((r["images"] for line in found for r, _ in line.pairs), 0)
    cli.console.print(rich_table(f"{work.plan.name}, {images:,} test images", found, WORK))
    cli.console.print(rich_table("energy per inference, chip and host", found, energy_columns(tables)))
    odd = [line.row.name for line in found for r, _ in line.pairs if not all(e["equal"] for e in r["exact"].values())]
    if odd:
        cli.console.print(f"NOT exact: {', '.join(odd)}", style="red", markup=False)
    if args.claims:
        cli.console.print(rich_claims(made))


def update(path: Path, work: Bench, tables: list[str]) -> None:
    """Fill a plan's markers in a markdown file: ``table:PLAN``, ``table:PLAN SYSTEM``, ``claims:PLAN`` and ``curves:PLAN``.

    Raises
    ------
    DeployError
        If the file has none of them, or one of another kind.
    """
    plan: Plan = work.plan
    command = f"Not measured yet: `python bench/systems.py {plan.name} --update-docs`."
    found = []

    def content(key: str) -> str | None:
        kind, _, rest = key.partition(":")
        name, _, system = rest.partition(" ")
        if name != plan.name:
            return None
        found.append(key)
        if kind == "claims":
            made = claims(plan, reader(work))
            return markdown_claims(made) if made else command
        if kind == "curves":
            picture = path.parent / "images" / f"curves-{name}.svg"
            drawn = f"![Accuracy over energy on {name}](images/{picture.name})"
            return drawn if picture.is_file() else f"Not drawn yet: `python bench/curves.py {name}`."
        if kind != "table":
            raise DeployError(str(path), f"unknown marker <!-- {key} -->", "use table, claims or curves")
        shown = lines(plan, [r for r in plan.rows if not system or r.system == system], reader(work), work.state)
        return markdown_tables(shown, tables) if any(line.pairs for line in shown) else command

    text = fill(path.read_text(encoding="utf-8"), content)
    if not found:
        raise DeployError(str(path), f"has no marker of plan {plan.name}", "write <!-- table:PLAN --> and <!-- end --> on two lines")
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
