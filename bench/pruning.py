"""python bench/pruning.py: accuracy over events of nets whose tokens are pruned without training."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

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
    data_path: Path | None = None
    """Local copy of the data set."""
    output: Path = Path("bench/results/pruning.json")
    """Where the figures are kept; rows of other nets stay."""


def rows(net: Path, shares: tuple[float, ...], patience: tuple[int, ...], data_path: Path | None) -> list[dict[str, Any]]:
    """Accuracy, tokens and events of one net, one row for each share and patience; cuts come from validation images, figures from test."""
    from spikegate.convert.prune import ENOUGH, before_blocks, calibrated_cut, with_gate
    from spikegate.data.shipped import open_images
    from spikegate.deploy.bundle import open_export
    from spikegate.engine import integer

    bundle = open_export(net)
    manifest, graph = bundle.manifest, bundle.graph
    embedding, grid = before_blocks(graph, manifest["embedding_ops"]), tuple(manifest["grid"])
    with_gate(graph, embedding, grid, 0)  # names what cannot be pruned, before anything is run
    validation = bundle.host.encode(open_images(bundle.folder, manifest, "validation", data_path).x[:ENOUGH])
    test = open_images(bundle.folder, manifest, "test", data_path)
    x = bundle.host.encode(test.x)
    whole = integer.run(graph, x, test.y)
    found = []
    for quiet in patience:
        for share in shares:
            cut = calibrated_cut(graph, embedding, grid, validation, share, quiet)
            record = integer.run(with_gate(graph, embedding, grid, cut, quiet), x, test.y)
            found.append({
                "net": str(net), "images": len(x), "patience": quiet, "share": share, "cut": cut, "tokens": record.mean_tokens,
                "events": float(record.chip_events.mean() / whole.chip_events.mean()), "accuracy": record.accuracy,
                "accuracy_static": whole.accuracy,
            })
    return found


def main() -> None:
    """Measure, print and keep."""
    args = cli.parse(Args, "Accuracy over events of nets pruned without training.")
    found = [row for net in args.nets for row in rows(net, args.shares, args.patience, args.data_path)]
    table = Table(box=None)
    for name in ("net", "patience", "share", "tokens", "events", "accuracy", "static"):
        table.add_column(name, justify="left" if name == "net" else "right")
    for row in found:
        shares = (f"{row[k]:.1%}" for k in ("share", "tokens", "events"))
        table.add_row(row["net"], str(row["patience"]), *shares, f"{row['accuracy']:.2%}", f"{row['accuracy_static']:.2%}")
    cli.console.print(table)
    kept = json.loads(args.output.read_text()) if args.output.is_file() else []
    measured = {row["net"] for row in found}
    args.output.write_text(json.dumps([row for row in kept if row["net"] not in measured] + found, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main)
