"""python hw_sim/estimate.py [RUN]: energy per inference from the recorded events, by several cost tables, and an HTML report."""

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
    """Price the events of a deployed net and compare it with its static twin."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or export folder, or what deploy/run.py wrote for a NetX file; the newest export if left out."""
    static: Path | None = None
    """Run or export of the static twin; the newest static run with events of the same images if left out."""
    costs: list[str] = field(default_factory=lambda: ["paper45", "loihi1-davies"])
    """Cost tables, by name or as paths of YAML files."""
    chip: str | None = None
    """Also put the net on a chip profile (loihi1, loihi2, or a YAML file): cores, time, energy; see hw_sim/place.py."""
    schedule: Literal["auto", "pipelined", "wait"] = "auto"
    """With --chip: a timestep every chip step, or one after the other; auto pipelines where halting allows."""
    where: bool = False
    """Instead of energy: which parts of the net, and which timesteps, the events come from that halting saves."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """Where to write; RUN/report if left out."""


def main() -> None:
    """Parse the command line, price, write and print."""
    args = cli.parse(Args, "Energy per inference of a deployed net, from its recorded events.")
    if args.where:
        from spikegate.hw_sim import where_report

        where_report.run(args.run, args.output, as_json=args.json)
        return
    from spikegate.hw_sim.energy_report import run

    run(args.run, args.static, args.costs, args.output, as_json=args.json, chip=args.chip, schedule=args.schedule)


if __name__ == "__main__":
    cli.run(main)
