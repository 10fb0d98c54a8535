"""python hw_sim/report.py [RUN...]: one HTML page, JSON and CSV on what the runs do and what it would cost."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not hw_sim/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from spikegate.command import cli


@dataclass
class Args:
    """Accuracy, exactness, energy, saving, halting, spikes, cores and latency of deployed nets, side by side."""

    runs: Annotated[list[Path], tyro.conf.Positional] = field(default_factory=list)
    """Run or export folders, or zoo:<name>, that deploy/run.py was run on; the newest export if left out."""
    static: Path | None = None
    """Static twin of the halting runs; a static one among RUNS, or else one beside the run, if left out."""
    costs: list[str] = field(default_factory=lambda: ["paper45", "loihi1-davies", "loihi2-pilotnet"])
    """Cost tables, by name or as paths of YAML files."""
    chip: str = "loihi2"
    """Chip profile (loihi1, loihi2, or a YAML file)."""
    schedule: Literal["auto", "pipelined", "wait"] = "auto"
    """A timestep every chip step, or one after the other; auto pipelines where halting allows."""
    images: int = 6
    """Images to draw halting maps of, and to run through the integer reference again as a check; 0 for none."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """Folder to write to; RUN/report if left out, runs/report for several runs."""


def main() -> None:
    """Parse the command line, collect, draw and write."""
    args = cli.parse(Args, "One HTML page, JSON and CSV on deployed nets, side by side.")
    from spikegate.hw_sim.side_by_side import run

    run(args.runs, args.static, args.costs, args.chip, args.output, schedule=args.schedule, images=args.images, to_stdout=args.json)


if __name__ == "__main__":
    cli.run(main)
