"""python bench/systems.py [PLAN]: train, export, deploy, check and price every system of a plan, and print the table."""

from __future__ import annotations

import os
import signal
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from spikegate.command import cli


@dataclass
class Args:
    """Measure the nets of a plan; what was done before is not done again, what was begun goes on."""

    plan: Annotated[str, tyro.conf.Positional] = "digits"
    """Name of a plan in bench/systems/, or the path of such a file."""
    rows: str | None = None
    """Rows, separated by commas (what they need is added); all if left out."""
    seeds: int | None = None
    """At most so many seeds of each row; as in the plan if left out."""
    jobs: int = 1
    """Nets that are worked on at a time."""
    cluster: str | None = None
    """Work on the nets elsewhere: local:N, or tcp://host:port of a Dask scheduler whose workers see these folders."""
    lava: bool = False
    """Check exactness on 128 images in Lava, too, in each mapping."""
    train_only: bool = False
    """Only train, as on a machine with a GPU; the same command without it measures later, also elsewhere with the same runs."""
    data_path: Path | None = None
    """Local copy of the data, as train/run.py's --data.path."""
    costs: list[str] | None = None
    """Cost tables, by name or path; loihi1-davies and paper45 if left out."""
    report_only: bool = False
    """Measure nothing, show what there is."""
    claims: bool = False
    """Show the published claims and whether they were reached."""
    markdown: bool = False
    """Show the tables as markdown."""
    update_docs: bool = False
    """Write the tables into docs/systems.md, too, at their markers."""
    json: bool = False
    """Print the figures as JSON only."""
    runs: Path = Path("runs/bench")
    """Where the run folders lie."""
    results: Path | None = None
    """Where the JSON of each net lies; bench/results if left out."""


def main() -> None:
    """Parse the command line, measure and report; exit 1 if a net failed."""
    args = cli.parse(Args, "Measure every system of a plan.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop leaves the trainings resumable, as Ctrl-C does
    from bench.system_report import bench

    options = {k: v for k, v in vars(args).items() if k not in ("plan", "rows", "json", "claims")}
    if bench(args.plan, args.rows, as_json=args.json, with_claims=args.claims, **options):
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
