"""python convert/export.py [RUN]: write a trained run as NetX HDF5, ONNX and manifest, or list what would be written."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not convert/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from spikegate.command import cli
from spikegate.command.runs import has_export, is_export, is_run
from spikegate.graph.ir import DeployError


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
    """Calibrate the exit gate's margins: share of the validation answers that may change by it. Left out: no margin. Of a trained run, or
    of an export (zoo:<name>, an imported net), which is written anew to --output (RUN/exits) without training."""
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
    """Of --prune, and of exits of an export: local copy of the data set, for its validation images."""
    dry_run: bool = False
    """List every op and check the design rules, write nothing."""
    json: bool = False
    """Print the list as JSON."""


EXITS = ("exit_drop", "exit_loss", "exit_risk", "exit_confidence")
TAKEN: dict[str, tuple[str, ...]] = {  # by what is written: the options that it takes, besides run, output and json
    "--format nir": ("format",),
    "--format bias": ("format",),
    "--prune": ("prune", "prune_loss", "patience", "prune_embedding", "data_path"),
    "exits of an export": (*EXITS, "data_path"),
    "the export of a trained run": (*EXITS, "dry_run"),
}


def main() -> None:
    """Parse the command line and export."""
    args = cli.parse(Args, "Export a trained run for deployment.")
    kind = kind_of(args)
    if kind == "--format nir":
        from spikegate.convert.nir_file import export_nir

        export_nir(args.run, args.output, as_json=args.json)
    elif kind == "--format bias":
        from spikegate.convert.bias_form import rewrite

        rewrite(args.run, args.output, as_json=args.json)
    elif kind == "--prune":
        from spikegate.convert.prune import prune

        prune(args.run, args.output, args.prune, loss=args.prune_loss, patience=args.patience, whole=args.prune_embedding,
              data_path=args.data_path, as_json=args.json)  # fmt: skip
    else:
        from spikegate.convert import exits

        rule = exits.Rule(args.exit_drop, args.exit_loss, args.exit_risk, args.exit_confidence)
        if kind == "exits of an export":
            exits.rewrite(args.run, args.output, rule, data_path=args.data_path, as_json=args.json)
            return
        from spikegate.convert.trained_run import export

        export(args.run, args.output, rule, dry_run=args.dry_run, as_json=args.json)


def kind_of(args: Args) -> str:
    """What is to be written, a key of `TAKEN`.

    Raises
    ------
    DeployError
        An option that this does not take: it would change nothing, which nobody would see.
    """
    given = [f.name for f in fields(args) if getattr(args, f.name) != f.default]
    if args.format != "netx":
        kind = f"--format {args.format}"
    elif args.prune is not None or args.prune_loss is not None:
        kind = "--prune"
    elif any(k in given for k in EXITS) and args.run is not None and (is_export(args.run) or not is_run(args.run)) and has_export(args.run):
        kind = "exits of an export"
    else:
        kind = "the export of a trained run"
    for name in given:
        option = f"--{name.replace('_', '-')}"
        if name not in ("run", "output", "json", *TAKEN[kind]):
            raise DeployError(option, f"changes nothing in {kind}", "leave it out; two forms of a net are written one from the other")
        if name == "exit_confidence" and args.exit_risk is None:
            raise DeployError(option, "is the confidence of --exit-risk, which is not given", "give both, or neither")
    return kind


if __name__ == "__main__":
    cli.run(main)
