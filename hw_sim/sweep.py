"""python hw_sim/sweep.py [RUN]: what if: other halting thresholds, exit margins, timesteps, cores or weight bits; or beside another run."""

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
    """Repeat an exported net with other settings on the same images: accuracy, events, energy, cores and time of each."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder or export folder; the newest export if left out."""
    over: Literal["credit", "exit", "timesteps", "cores", "bits"] = "timesteps"
    """credit: of each token at the start, as factors (halting threshold); exit: margins, as factors, or quantiles of the leads where none
    are calibrated; timesteps: at most; cores: of each op, as factors; bits: of stored weights (memory and cores; accuracy is not known)."""
    values: list[float] | None = None
    """Settings to try; a list that fits if left out."""
    op: str | None = None
    """With --over cores: only this op gets more cores."""
    against: Path | None = None
    """Instead: another run or export on the same images, side by side."""
    images: int = 256
    """Test images to run on the integer reference."""
    data_path: Path | None = None
    """Local copy of the data set: its folder or npz file. Left out: images that come with the net, what the export says, or a download."""
    chip: str = "loihi2"
    """Chip profile: loihi1, loihi2, or the path of a YAML file."""
    schedule: Literal["auto", "pipelined", "wait"] = "auto"
    """pipelined: timesteps start as close as feedback allows; wait: one after the other; auto: pipelined where halting allows it."""
    costs: list[str] = field(default_factory=lambda: ["paper45", "loihi1-davies"])
    """Cost tables, by name or as paths of YAML files."""
    cluster: str | None = None
    """Share the settings: local (a process for each core), local:N, or tcp://host:port of a Dask scheduler. Equal to one process."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """Where to write sweep-<what>.json; RUN/report if left out."""


def main() -> None:
    """Parse the command line, run, write and print."""
    args = cli.parse(Args, "What-if: the same net with other settings, or two nets side by side.")
    from spikegate.hw_sim.what_if import sweep

    sweep(args.run, args.over, args.values, op=args.op, against=args.against, images=args.images, data_path=args.data_path, chip=args.chip,
          schedule=args.schedule, costs=args.costs, cluster=args.cluster, as_json=args.json, output=args.output)


if __name__ == "__main__":
    cli.run(main)
