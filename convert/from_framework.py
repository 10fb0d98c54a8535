"""python convert/from_framework.py FILE.py:function: a model of snnTorch or Sinabs as a net that deploy/run.py takes."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not convert/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from spikegate.command import cli
from spikegate.command.extras import needs
from spikegate.command.refusals import reported
from spikegate.command.runs import ROOT


@dataclass
class Args:
    """Import a model of snnTorch or Sinabs: docs/importing.md says what is taken and what is refused."""

    model: Annotated[str | None, tyro.conf.Positional] = None
    """FILE.py:function, a function without arguments that returns the model. The file is run: give only one that you trust."""
    shape: tuple[int, ...] = ()
    """Shape of what the model is called with: one timestep of one sample, as 1 784; for Sinabs a sequence, as 1 20 784."""
    timesteps: int = 25
    """Timesteps of a sample."""
    weights: Path | None = None
    """State dict of the model, if the function does not load it."""
    calibrate: str | None = None
    """Samples on which model and integers are compared: a .npy file [samples, timesteps, ...], or the share of inputs that spike in
    samples that are made up (0.2 if left out)."""
    output: Path | None = None
    """Folder that model.net is written to; runs/<name of the file> if left out."""
    json: bool = False
    """Print what was written as JSON only."""


def main() -> None:
    """Parse the command line and import."""
    args = cli.parse(Args, "Import a model of snnTorch or Sinabs.")
    if args.model is None or not args.shape:
        cli.errors.print("error: no model or no shape named\n  hint: give FILE.py:function and --shape 1 784", style="red", markup=False)
        sys.exit(2)
    with reported(args.json), needs("NIR"):
        import torch

        from spikegate.convert.frameworks.importing import import_framework
        from spikegate.convert.nir_file import samples_named, written
        from spikegate.convert.spikingjelly.loading import load_model

        model = load_model(args.model, args.weights)
        found = import_framework(model, torch.zeros(args.shape), args.timesteps, samples_named(args.calibrate))
        stem = Path(args.model.split(":")[0]).stem
        written(*found, (args.output or ROOT / stem) / "model.net", args.model, args.json)


if __name__ == "__main__":
    cli.run(main)
