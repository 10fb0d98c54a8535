"""python hw_sim/place.py [RUN]: does a net fit a chip, on how many cores, how long does it take, how much energy, and how sure is that."""

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

TABLES = ("synops", "paper45", "int8-45", "lemaire", "yan22", "loihi1-davies", "loihi2-pilotnet")


@dataclass
class Args:
    """Put an exported net on the cores of a chip profile; with recorded events also time and energy."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or export folder; the newest export if left out."""
    chip: str = "loihi2"
    """Chip profile: loihi1, loihi2, or the path of a YAML file."""
    schedule: Literal["auto", "pipelined", "wait"] = "auto"
    """pipelined: timesteps start as close as feedback allows; wait: one after the other; auto: pipelined where halting allows it."""
    placement: Literal["greedy", "optimised"] = "optimised"
    """greedy: in graph order; optimised: moved about so that packets x hops get few."""
    costs: list[str] = field(default_factory=lambda: list(TABLES))
    """Cost tables, by name or as paths of YAML files."""
    sweep: Literal["none", "neurons", "timesteps", "bits"] = "none"
    """Repeat with other neurons per core, fewer timesteps, or coarser weights, and print one line for each."""
    noc: Literal["none", "queues", "sanafe", "sanafe-loihi"] = "none"
    """Replay one image with packets that wait for each other: by our own queues, or in SANA-FE with the chip profile's figures, or with
    SANA-FE's own of Loihi."""
    frames_per_second: float | None = None
    """Also the power at so many inferences a second: static power all the time, dynamic energy for each."""
    by_image: int = 0
    """Time so many images one by one, each with its own packets: true percentiles of latency and traffic."""
    paper: str | None = None
    """Instead of a run: shapes from a paper, spikformer-<blocks>-<width>, with one firing rate everywhere."""
    rate: float = 0.15
    """With --paper: firing rate of every neuron."""
    timesteps: int = 4
    """With --paper: timesteps."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """Where to write hardware.json; RUN/report if left out."""


def main() -> None:
    """Parse the command line, place, write and print."""
    args = cli.parse(Args, "Cores, time and energy of an exported net on a chip profile.")
    from spikegate.hw_sim.on_cores import Placeable, of_paper, of_run, run

    net: Placeable = of_run(args.run) if args.paper is None else of_paper(args.paper, args.rate, args.timesteps)
    run(net, args.chip, args.costs, args.output, schedule=args.schedule, placement=args.placement, sweep=args.sweep, as_json=args.json,
        noc=args.noc, images=args.by_image, rate=args.frames_per_second)


if __name__ == "__main__":
    cli.run(main)
