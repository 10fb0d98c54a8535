"""python bench/exits.py: accuracy over events of nets that exit early by margins of validation images, without training."""

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

from spikegate.command import cli
from spikegate.errors import DeployError

KEPT = Path(__file__).parent / "results" / "exits.json"


@dataclass
class Args:
    """Calibrate the exits of static nets by changed answers and by lost accuracy, and run their test images on the integer reference."""

    nets: Annotated[list[Path], tyro.conf.Positional] = field(default_factory=lambda: [Path("zoo:spikformer-digits")])
    """Exports, or zoo:<name>."""
    drops: tuple[float, ...] = (0.0, 0.003, 0.01, 0.03, 0.1)
    """Of --exit-drop: shares of the validation answers that may change."""
    losses: tuple[float, ...] = (0.003, 0.01, 0.03)
    """Of --exit-loss: shares of accuracy on validation images; what cannot be had has no row."""
    images: int | None = None
    """At most so many test images; all if left out."""
    data_path: Path | None = None
    """Local copy of the data set."""
    output: Path = KEPT
    """Where the figures are kept; rows of other nets stay."""
    report_only: bool = False
    """Measure nothing, show what is kept."""
    update_docs: bool = False
    """Write table and chart of all that is kept into the documentation, too."""


def rows(net: Path, args: Args) -> list[dict[str, Any]]:
    """Accuracy, timesteps, tokens and events of one net, one row for each rule that its validation images allow."""
    from spikegate.convert.calibrate import with_margin
    from spikegate.convert.exits import Rule, calibrated
    from spikegate.data.shipped import open_images
    from spikegate.deploy.bundle import open_export
    from spikegate.engine import integer

    bundle = open_export(net)
    graph, encode = bundle.graph, bundle.host.encode
    validation, test = (open_images(bundle.folder, bundle.manifest, part, args.data_path) for part in ("validation", "test"))
    x, y = encode(test.x[: args.images]), test.y[: args.images]
    static, found = integer.run(graph, x, y), []
    for rule in [*(Rule(drop=d) for d in args.drops), *(Rule(loss=d) for d in args.losses)]:
        try:
            margin = calibrated(graph, encode, validation.x, validation.y, rule).margin
        except DeployError as e:
            cli.console.print(f"{net}: {e}", markup=False, soft_wrap=True)
            continue
        record = integer.run(with_margin(graph, margin), x, y)
        found.append({
            "net": str(net), "images": len(x), "rule": rule.given[0], "share": rule.drop if rule.loss is None else rule.loss,
            "timesteps": record.mean_timesteps, "of": graph.timesteps, "tokens": record.mean_tokens,
            "events": float(record.chip_events.mean() / static.chip_events.mean()),
            "accuracy": record.accuracy, "accuracy_static": static.accuracy,
        })  # fmt: skip
    return found


def main() -> None:
    """Measure, print and keep."""
    args = cli.parse(Args, "Accuracy over events of nets that exit early without training.")
    kept = json.loads(args.output.read_text()) if args.output.is_file() else []
    if not args.report_only:
        found = [row for net in args.nets for row in rows(net, args)]
        measured = {str(net) for net in args.nets}
        kept = [row for row in kept if row["net"] not in measured] + found
        args.output.write_text(json.dumps(kept, indent=1) + "\n")
    from bench.pruning_report import exits_markdown, update

    cli.console.print(exits_markdown(kept), markup=False, soft_wrap=True)
    if args.update_docs:
        for path in update(exits=args.output):
            cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
