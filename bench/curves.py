"""python bench/curves.py [PLAN]: accuracy over energy of each adaptive system along its own setting, with the Pareto front."""

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
    """Measure the points that are missing, then write the curves as JSON and SVG."""

    plan: Annotated[str, tyro.conf.Positional] = "digits"
    """Name of a plan in bench/systems/, or the path of such a file."""
    cost: str = "paper45"
    """Cost table of the energy axis."""
    jobs: int = 1
    """Nets that are worked on at a time."""
    cluster: str | None = None
    """Work on the nets elsewhere: local:N, or tcp://host:port of a Dask scheduler whose workers see these folders."""
    data_path: Path | None = None
    """Local copy of the data, as train/run.py's --data.path."""
    report_only: bool = False
    """Measure nothing, draw what there is."""
    json: bool = False
    """Print the points as JSON only."""
    output: Path | None = None
    """SVG to write (its JSON lies beside the results); docs/images/curves-PLAN.svg if left out."""
    runs: Path = Path("runs/bench")
    """Where the run folders lie."""
    results: Path | None = None
    """Where the JSON of each net lies; bench/results if left out."""


def main() -> None:
    """Parse the command line, measure and draw; exit 1 if a net failed."""
    args = cli.parse(Args, "Accuracy over energy along each adaptive system's own setting.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from bench.curve_points import curves

    failed = curves(args.plan, args.cost, jobs=args.jobs,
                    cluster=args.cluster, data_path=args.data_path, report_only=args.report_only, as_json=args.json,
                    output=args.output, runs=args.runs, results=args.results)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
