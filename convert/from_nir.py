"""python convert/from_nir.py FILE: a NIR file as a net that deploy/run.py takes."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not convert/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from spikegate.command import cli
from spikegate.command.refusals import reported


@dataclass
class Args:
    """Import a NIR file: docs/importing.md says what is taken and what is refused."""

    file: Annotated[Path | None, tyro.conf.Positional] = None
    """NIR file."""
    output: Path | None = None
    """Folder that model.net is written to; runs/<name of the file> if left out."""
    timesteps: int | None = None
    """Timesteps of a sample, where the file does not say it."""
    dt: float | None = None
    """Timestep in the unit of the file's time constants (seconds); from the file's metadata, else 1."""
    calibrate: str | None = None
    """Samples on which floats and integers are compared: a .npy file [samples, timesteps, ...], or the share of inputs that spike in
    samples that are made up (0.2 if left out)."""
    reset: Literal["zero", "subtract", "subtract-late"] = "zero"
    """What a spike did to the voltage in the model, which NIR cannot say: set it to 0 as NIR's equations do, subtract the threshold
    (Sinabs), or subtract it one timestep later, past the leak (snnTorch's default)."""
    levels: int = 1
    """Most spikes of a timestep where a spike subtracts (Sinabs' MultiSpike); 0: as many as the voltage holds."""
    json: bool = False
    """Print what was written as JSON only."""


def main() -> None:
    """Parse the command line and import."""
    args = cli.parse(Args, "Import a NIR file.")
    if args.file is None:
        cli.errors.print("error: no file named\n  hint: give a NIR file", style="red", markup=False)
        sys.exit(2)
    from spikegate.convert.nir_file import import_nir

    with reported(args.json):
        import_nir(args.file, args.output, args.timesteps, dt=args.dt, calibrate=args.calibrate, reset=args.reset, levels=args.levels,
                   as_json=args.json)


if __name__ == "__main__":
    cli.run(main)
