"""python convert/export.py [RUN]: write a trained run as NetX HDF5, ONNX and manifest, or list what would be written."""

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


@dataclass
class Args:
    """Export a trained run: model.net (NetX HDF5), embedding.onnx (stays on the host), manifest.json; or one NIR file."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder; the newest one if left out."""
    output: Path | None = None
    """Where to write; RUN/export if left out."""
    format: Literal["netx", "nir", "bias"] = "netx"
    """nir: write what was exported before (or zoo:<name>) as a NIR file, to --output; RUN/export/model.nir if left out.
    bias: write an export of before 0.3, whose image is replayed in every timestep, with the image as biases instead (needs --output)."""
    exit_drop: float | None = None
    """Calibrate the exit gate's margins: share of the validation answers that may change by it. Left out: no margin."""
    exit_loss: float | None = None
    """Calibrate them by accuracy: as early as costs at most this share of the validation images (0.01: a point), cross-validated."""
    exit_risk: float | None = None
    """Calibrate them with a guarantee: at most this share of all answers changes, with the confidence below."""
    exit_confidence: float = 0.9
    """Probability, over draws of the validation images, that --exit-risk holds."""
    prune: float | None = None
    """Write a pruned form of an export (or zoo:<name>) to --output (RUN/pruned): drop this share of the tokens at most, untrained."""
    prune_loss: float | None = None
    """Of --prune, or in its place: drop as many tokens as cost at most this share of the validation answers (0.003: 0.3 points)."""
    patience: int | None = None
    """Of --prune: timesteps that a token must look like its neighbours, and like itself before, until it is dropped; 2 if left out,
    with --prune-loss the best."""
    prune_embedding: bool = False
    """Of --prune: a dropped token's embedding ends, too, from the timestep after."""
    data_path: Path | None = None
    """Of --prune: local copy of the data set, for its validation images."""
    dry_run: bool = False
    """List every op and check the design rules, write nothing."""
    json: bool = False
    """Print the list as JSON."""


def main() -> None:
    """Parse the command line and export."""
    args = cli.parse(Args, "Export a trained run for deployment.")
    if args.format == "nir":
        from spikegate.convert.nir_file import export_nir

        export_nir(args.run, args.output, as_json=args.json)
        return
    if args.prune is not None or args.prune_loss is not None:
        from spikegate.convert.prune import prune

        prune(args.run, args.output, args.prune, loss=args.prune_loss, patience=args.patience, whole=args.prune_embedding,
              data_path=args.data_path, as_json=args.json)  # fmt: skip
        return
    if args.format == "bias":
        from spikegate.convert.bias_form import rewrite

        rewrite(args.run, args.output, as_json=args.json)
        return
    from spikegate.convert.trained_run import export

    export(args.run, args.output, exit_drop=args.exit_drop, exit_loss=args.exit_loss, exit_risk=args.exit_risk,
           exit_confidence=args.exit_confidence, dry_run=args.dry_run, as_json=args.json)


if __name__ == "__main__":
    cli.run(main)
