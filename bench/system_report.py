"""The systems of a plan: measure what is missing or stale, then show tables and claims."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.claims import Result, claims
from bench.measure import ROOT, TABLES, Bench, measure, ordered, stop_commands
from bench.plan import RESULTS, Plan, Row, read_plan
from bench.schedule import run_all
from bench.table import WORK, energy_columns, fill, lines, markdown_claims, markdown_tables, rich_claims, rich_table
from bench.table import as_json as to_json
from spikegate.command import cli
from spikegate.command.cluster import workers_of
from spikegate.files import atomic
from spikegate.graph.ir import DeployError
from spikegate.hw_sim.energy.cost_tables import load_tables

RUNS = Path("runs/bench")
DOCS = ROOT / "docs" / "systems.md"


def bench(plan_name: str = "digits", rows: str | None = None, *, seeds: int | None = None, jobs: int = 1, lava: bool = False,
          data_path: Path | None = None, costs: list[str] | None = None, report_only: bool = False, runs: Path = RUNS,
          results: Path | None = None, cluster: str | None = None, train_only: bool = False, **shown: bool) -> int:
    """Measure and show; returns how many nets failed. Parameters as the options of bench/systems.py, `shown` those of `show`.

    Raises
    ------
    DeployError
        Unknown plan, row or cost table.
    """
    plan = read_plan(plan_name)
    chosen = plan.rows if rows is None else [plan.row(name.strip()) for name in rows.split(",")]
    if jobs < 1 or (seeds is not None and seeds < 1):
        raise DeployError("--jobs" if jobs < 1 else "--seeds", "must be 1 or more", "leave it out for the default")
    tables = [t.name for t in load_tables(costs or TABLES)]
    work = Bench(plan, list(costs or TABLES), runs, results or RESULTS, data_path, lava, train_only)
    failed = {} if report_only else measure_all(work, chosen, seeds, jobs, cluster)
    if not train_only:
        show(work, chosen, tables, **shown)
    for (name, seed), why in failed.items():
        cli.errors.print(f"failed: {name}, seed {seed}: {why}", style="red", markup=False, soft_wrap=True)
    return len(failed)


def measure_all(work: Bench, rows: list[Row], seeds: int | None, jobs: int, cluster: str | None = None) -> dict[tuple[str, int], str]:
    """Measure what is not there yet; returns what failed and why. With `cluster` its workers measure."""
    left = work.left(ordered(work.plan, rows, seeds))
    if not left:
        return {}

    def tell(line: str) -> None:
        cli.errors.print(line, markup=False, soft_wrap=True)

    def one(row: Row, seed: int) -> None:
        measure(work, row, seed)

    with ExitStack() as stack:
        workers = None if cluster is None else stack.enter_context(workers_of(cluster))
        there = replace(work, runs=work.runs.resolve(), results=work.results.resolve(), data=work.data and work.data.resolve())

        def elsewhere(row: Row, seed: int) -> None:
            assert workers is not None
            workers.one(measure, there, row, seed)

        try:
            if workers is None:
                return run_all(work.plan, left, one, jobs=jobs, tell=tell)
            return run_all(work.plan, left, elsewhere, jobs=workers.workers, tell=tell)
        except KeyboardInterrupt:
            for again in (signal.SIGINT, signal.SIGTERM):
                signal.signal(again, signal.SIG_IGN)  # a stop often comes twice: to the group, and to this process
            stop_commands()
            if workers is not None:
                workers.everywhere(stop_commands)
            raise


def reader(work: Bench):
    """Results by (row name, seed)."""

    def read(name: str, seed: int) -> Result | None:
        return work.read(work.plan.row(name), seed) if name else None

    return read


def show(work: Bench, rows: list[Row], tables: list[str], *, update_docs: bool = False, as_json: bool = False, markdown: bool = False,
         with_claims: bool = False) -> None:
    """Print what there is, as the options ask."""
    found, made = lines(work.plan, rows, reader(work), work.state), claims(work.plan, reader(work))
    if update_docs:
        update(DOCS, work, tables)
    if as_json:
        cli.print_json(to_json(found, made))
        return
    if markdown:
        cli.console.print(markdown_tables(found, tables), markup=False, soft_wrap=True)
        if with_claims:
            cli.console.print("\n" + markdown_claims(made), markup=False, soft_wrap=True)
        return
    images = next((r["images"] for line in found for r, _ in line.pairs), 0)
    cli.console.print(rich_table(f"{work.plan.name}, {images:,} test images", found, WORK))
    cli.console.print(rich_table("energy per inference, chip and host", found, energy_columns(tables)))
    odd = [line.row.name for line in found for r, _ in line.pairs if not all(e["equal"] for e in r["exact"].values())]
    if odd:
        cli.console.print(f"NOT exact: {', '.join(odd)}", style="red", markup=False)
    if with_claims:
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
