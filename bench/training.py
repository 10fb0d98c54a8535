"""python bench/training.py: how fast layers and nets train, side by side with plain torch, lava-dl and spikingjelly."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from spikegate.command import cli
from spikegate.graph.ir import DeployError

DATASETS, NETS = ("digits", "fashion", "cifar10"), ("spikformer", "at_snn", "stas", "qkformer")


@dataclass
class Args:
    """Time forward and backward passes: contestants run alternately, medians over the rounds."""

    parts: Annotated[tuple[str, ...], tyro.conf.Positional] = ("layers", "nets")
    """What to time: layers, nets."""
    datasets: tuple[str, ...] = DATASETS
    """Default nets of these data sets: digits, fashion, cifar10."""
    nets: tuple[str, ...] = NETS
    """Backbones."""
    batch: int = 64
    """Images of a net's batch."""
    repeats: int = 15
    """Turns of the layers."""
    net_repeats: int = 3
    """Turns of the nets."""
    threads: int = 1
    """Threads."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path = Path("bench/results/training.json")
    """JSON to write; parts that were not timed now stay as they are there."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Training speed of layers and nets.")
    _check(args)
    import torch

    from bench import timing
    from spikegate.engine.memory import keep_memory
    from spikegate.train.machine import describe

    torch.set_num_threads(args.threads)
    keep_memory()
    result: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {}

    def progress(text: str) -> None:
        cli.errors.print(text, markup=False)

    if "layers" in args.parts:
        rows, left_out = timing.layers(args.repeats, progress)
        result["layers"] = {"machine": describe(), "clock": timing.clock()[0], "repeats": args.repeats, "rows": rows, "left_out": left_out}
    if "nets" in args.parts:
        rows = timing.nets(args.datasets, args.nets, args.batch, args.net_repeats, progress)
        settings = {"machine": describe(), "clock": timing.clock()[0], "repeats": args.net_repeats, "batch": args.batch}
        result["nets"] = {**settings, "rows": rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    if args.json:
        cli.print_json(result)
        return
    for part in args.parts:
        show(part, result[part])
    cli.console.print(f"written: {args.output}", markup=False, soft_wrap=True)


def _check(args: Args) -> None:
    for option, given, known in (("parts", args.parts, ("layers", "nets")), ("--datasets", args.datasets, DATASETS)):
        for odd in sorted({*given} - {*known}):
            raise DeployError(option, f"unknown: {odd!r}", f"choose from {', '.join(known)}")
    from spikegate.train.settings.config import MODELS

    for odd in sorted({*args.nets} - {*MODELS}):
        raise DeployError("--nets", f"unknown: {odd!r}", f"choose from {', '.join(MODELS)}")
    for option, value in (("batch", args.batch), ("repeats", args.repeats), ("net-repeats", args.net_repeats), ("threads", args.threads)):
        if value < 1:
            raise DeployError(f"--{option}", f"{value} is less than 1", "give at least 1")


def show(part: str, found: dict[str, Any]) -> None:
    """A part as a table, with the machine."""
    machine = found["machine"]
    where = f"{machine['cpu']}, {machine['threads']} thread(s), torch {machine['torch']}"
    where += f"; {found['clock']} time, medians of {found['repeats']} rounds"
    table = Table(title=f"{part}: {where}", title_justify="left", box=None, pad_edge=False)
    if part == "layers":
        for title in ("layer", "program"):
            table.add_column(title, no_wrap=True)
        for title in ("ms", "of plain torch"):
            table.add_column(title, justify="right")
        seen = None
        for row in found["rows"]:
            table.add_row("" if row["layer"] == seen else row["layer"], row["program"], f"{row['ms']:.2f}", f"{row['ratio']:.2f}x")
            seen = row["layer"]
    else:
        columns: dict[str, None] = {}
        lines: dict[tuple[str, str, int], dict[str, str]] = {}
        for row in found["rows"]:
            title = f"{row['phase']} T={row['timesteps']} {row['precision']}"
            columns[title] = None
            lines.setdefault((row["dataset"], row["net"], row["parameters"]), {})[title] = f"{row['images_per_s']:.0f}"
        for title in ("data set", "net", "parameters", *columns):
            table.add_column(title, justify="left" if title in ("data set", "net") else "right")
        for (dataset, net, parameters), cells in lines.items():
            table.add_row(dataset, net, f"{parameters:,}", *(cells.get(c, "-") for c in columns))
    cli.console.print(table)
    if part == "nets":
        cli.console.print("images per second")
    for text in found.get("left_out", []):
        cli.console.print(f"left out: {text}", markup=False)


if __name__ == "__main__":
    cli.run(main)
