"""python deploy/compare.py [RUN]: prove that torch, the integer reference and Lava agree in every spike, or name where they part."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not deploy/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from spikegate.command import cli


@dataclass
class Args:
    """Run targets on the same images and compare all that they compute."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder (or export folder); the newest export if left out."""
    targets: str = "torch,int,lava"
    """Two or three of torch, int, lava; the first is what the others are compared with. With --timing loihi one is enough: all are
    compared with the integer reference in algorithmic timing, int and lava re-indexed."""
    data: str = "test:64"
    """Split and number of images: test, test:64, validation, train."""
    data_path: Path | None = None
    """Local copy of the data set: its folder or npz file. Left out: images that come with the net, what the export says, or a download."""
    timing: Literal["algorithmic", "loihi"] = "algorithmic"
    """algorithmic: one step is one timestep; loihi: one step is one chip step, and every synaptic hop takes one."""
    schedule: Literal["auto", "pipelined", "wait"] = "auto"
    """With --timing loihi: timesteps as close as feedback allows, or each after the one before; auto pipelines where halting allows."""
    mapping: Literal["op", "block", "chip"] | None = None
    """What one Lava process holds. op: one op. block: the ops between two gates; gates and exit are processes of their own. chip: the
    net, gates inside, which is the fastest. Left out: block, or op with --timing loihi."""
    batch: int | None = None
    """Samples in flight; 8 on Lava, 64 on the reference."""
    protocol: Literal["async", "loihi"] | None = None
    """async: each process at its own pace, the whole run in one Lava step; loihi: all in step, one Lava step for each timestep.
    Left out: async, or loihi with --timing loihi."""
    patience: float = 7.0
    """Seconds without any progress after which the process that hangs is named and all is stopped."""
    json: bool = False
    """Print the result as JSON only."""
    output: Path | None = None
    """File that the result is written to as JSON, too; RUN/deploy/compare.json if left out."""


def main() -> None:
    """Parse the command line and compare; exit 1 at a divergence."""
    args = cli.parse(Args, "Prove that torch, integer reference and Lava agree, or name the first divergence.")
    from spikegate.deploy.agreement import compare

    agree = compare(args.run, targets=args.targets, data=args.data, data_path=args.data_path, timing=args.timing, schedule=args.schedule,
                    mapping=args.mapping, batch=args.batch, protocol=args.protocol, patience=args.patience, as_json=args.json,
                    output=args.output)
    if not agree:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main)
