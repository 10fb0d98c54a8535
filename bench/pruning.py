"""python bench/pruning.py: accuracy over events of nets whose tokens are pruned without training."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from spikegate.command import cli


@dataclass
class Args:
    """Prune static nets by several shares and run their test images on the integer reference."""

    nets: Annotated[list[Path], tyro.conf.Positional] = field(default_factory=lambda: [Path("zoo:spikformer-digits")])
    """Exports, or zoo:<name>."""
    shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    """Shares of the validation images' (timestep, token) cells that are dropped, at most."""
    patience: tuple[int, ...] = (1, 2)
    """Quiet timesteps until a token is dropped."""
    parts: tuple[Literal["validation", "test"], ...] = ("test",)
    """Images that are run; cuts come from the first 512 validation images in any case."""
    images: int | None = None
    """At most so many of them; all if left out."""
    data_path: Path | None = None
    """Local copy of the data set."""
    output: Path = Path("bench/results/pruning.json")
    """Where the figures are kept; rows of other nets stay."""
    report_only: bool = False
    """Measure nothing, show what is kept."""
    update_docs: bool = False
    """Write table and chart of all that is kept into the documentation, too."""


def rows(net: Path, args: Args) -> list[dict[str, Any]]:
    """Accuracy, tokens and events of one net, one row for each share, patience, and whether dropped tokens leave the embedding, too."""
    from spikegate.convert.prune import ENOUGH, calibrated_cut
    from spikegate.convert.pruned_graph import before_blocks, with_gate
    from spikegate.data.shipped import open_images
    from spikegate.deploy.bundle import open_export
    from spikegate.engine import integer

    bundle = open_export(net)
    manifest, graph = bundle.manifest, bundle.graph
    embedding, grid = before_blocks(graph, manifest["embedding_ops"]), tuple(manifest["grid"])
    for whole in (False, True):
        with_gate(graph, embedding, grid, 0, whole=whole)  # names what cannot be pruned, before anything is run
    validation = bundle.host.encode(open_images(bundle.folder, manifest, "validation", args.data_path).x[:ENOUGH])
    settings = list(product((False, True), args.patience, args.shares))
    cuts = [calibrated_cut(graph, embedding, grid, validation, share, quiet, whole=whole) for whole, quiet, share in settings]
    found = []
    for part in args.parts:
        images = open_images(bundle.folder, manifest, part, args.data_path)
        x, y = bundle.host.encode(images.x[: args.images]), images.y[: args.images]
        static = integer.run(graph, x, y)
        for (whole, quiet, share), cut in zip(settings, cuts):
            record = integer.run(with_gate(graph, embedding, grid, cut, quiet, whole=whole), x, y)
            found.append({
                "net": str(net), "part": part, "images": len(x), "embedding": whole, "patience": quiet, "share": share, "cut": cut,
                "tokens": record.mean_tokens, "events": float(record.chip_events.mean() / static.chip_events.mean()),
                "accuracy": record.accuracy, "accuracy_static": static.accuracy,
            })
    return found


def main() -> None:
    """Measure, print and keep."""
    args = cli.parse(Args, "Accuracy over events of nets pruned without training.")
    kept = json.loads(args.output.read_text()) if args.output.is_file() else []
    if args.report_only:
        found = kept
    else:
        found = [row for net in args.nets for row in rows(net, args)]
        measured = {row["net"] for row in found}
        kept = [row for row in kept if row["net"] not in measured] + found
        args.output.write_text(json.dumps(kept, indent=1) + "\n")
    table = Table(box=None)
    for name in ("net", "images", "dropped from", "patience", "share", "tokens", "events", "saved events / tokens", "accuracy", "static"):
        table.add_column(name, justify="left" if name in ("net", "dropped from") else "right")
    for row in found:
        shares = (f"{row[k]:.1%}" for k in ("share", "tokens", "events"))
        worth = "-" if row["tokens"] > 0.99 else f"{(1 - row['events']) / (1 - row['tokens']):.2f}"
        table.add_row(
            row["net"], f"{row['images']:,} {row['part']}", "embedding, blocks" if row["embedding"] else "blocks", str(row["patience"]),
            *shares, worth, f"{row['accuracy']:.2%}", f"{row['accuracy_static']:.2%}",
        )  # fmt: skip
    cli.console.print(table)
    if args.update_docs:
        from bench.pruning_report import update

        for path in update(pruning=args.output):
            cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
