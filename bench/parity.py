"""python bench/parity.py: the same net, data and schedule here and in SpikingJelly, and what each difference is worth."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import importlib.util
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from bench.interleaved import progress
from spikegate.command import cli
from spikegate.files import atomic
from spikegate.graph.ir import DeployError

BESIDE = ("spikingjelly", "spikegate")


@dataclass
class Args:
    """Train what the kept figures lack, one net after another; a run that was stopped goes on at the next net."""

    rows: Annotated[tuple[str, ...], tyro.conf.Positional] = (
        "digits", "fashion-14", "cifar10-8", "cifar10-8-published", "cifar10-32", "cifar10-16-width",
    )
    """Which rows."""
    programs: tuple[str, ...] = BESIDE
    """What is trained; "all" for every form of ours and of SpikingJelly's."""
    seeds: int = 3
    """Seeds of each."""
    fashion: Path | None = None
    """Local copy of Fashion-MNIST."""
    cifar10: Path | None = None
    """Local copy of CIFAR-10."""
    threads: int = 1
    """Threads."""
    report_only: bool = False
    """Train nothing, show what there is."""
    markdown: bool = False
    """Show the table as markdown."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path = Path("bench/results/parity.json")
    """JSON to read and to write, after each training."""


def main() -> None:
    """Parse the command line, train, print and write."""
    args = cli.parse(Args, "Accuracy beside SpikingJelly.")
    kept: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {}
    if not args.report_only:
        _train(args, kept)
    lines = summary(kept)
    if args.json:
        cli.print_json(lines)
    elif args.markdown:
        cli.console.print(as_markdown(lines), markup=False, soft_wrap=True)
    else:
        show(lines)


def _train(args: Args, kept: dict[str, Any]) -> None:
    if importlib.util.find_spec("spikingjelly") is None:
        raise DeployError("bench", "spikingjelly is not installed", "pip install 'spikegate[spikingjelly]'")
    import torch

    from bench import parity_rows
    from spikegate.engine.memory import keep_memory
    from spikegate.train.machine import describe

    programs = parity_rows.PROGRAMS if args.programs == ("all",) else args.programs
    for option, given, known in (("rows", args.rows, parity_rows.ROWS), ("--programs", programs, parity_rows.PROGRAMS)):
        for odd in sorted({*given} - {*known}):
            raise DeployError(option, f"unknown: {odd!r}", f"choose from {'; '.join(known)}")
    torch.set_num_threads(args.threads)
    keep_memory()
    for seed in range(args.seeds):
        for row in args.rows:
            for program in programs:
                found = kept.setdefault(row, {}).setdefault(program, {})
                stamp = parity_rows.stamp(row, program, seed)
                if found.get(str(seed), {}).get("settings") == stamp:
                    continue
                name = parity_rows.ROWS[row]["data.name"]
                path = {"fashion": args.fashion, "cifar10": args.cifar10}.get(name)
                found[str(seed)] = parity_rows.train(row, program, seed, path, progress) | {"machine": describe(), "settings": stamp}
                args.output.parent.mkdir(parents=True, exist_ok=True)
                with atomic(args.output) as part:
                    part.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def summary(kept: dict[str, Any]) -> list[dict[str, Any]]:
    """One line for each row and program, means over seeds; ``ahead`` is the difference to SpikingJelly on the seeds that both have."""
    lines = []
    for row, programs in kept.items():
        other = programs.get(BESIDE[0], {})
        for program in sorted(programs, key=lambda p: (not p.startswith(BESIDE[0]), len(p))):
            found = programs[program]
            shared = sorted({*found} & {*other})
            if not found:
                continue
            mean = lambda key, found=found: statistics.mean(f[key] for f in found.values())  # noqa: E731
            lines.append({
                "row": row, "program": program, "seeds": len(found), "first_loss": mean("first_loss"), "accuracy": mean("accuracy"),
                "ahead": statistics.mean(found[s]["accuracy"] - other[s]["accuracy"] for s in shared) if shared else None,
                "deployed": None if found[min(found)]["deployed"] is None else mean("deployed"), "seconds": mean("seconds"),
                "curve": [statistics.mean(c) for c in zip(*([e["validation"] for e in f["epochs"]] for f in found.values()))],
            })  # fmt: skip
    return lines


TITLES = ("row", "program", "seeds", "first loss", "accuracy", "to SpikingJelly", "deployed at once", "s", "by epoch")


def cells(line: dict[str, Any]) -> list[str]:
    """One line's texts; accuracies in per cent, differences in points."""
    share = lambda value: "-" if value is None else f"{100 * value:.1f}"  # noqa: E731
    ahead = "-" if line["ahead"] is None else f"{100 * line['ahead']:+.1f}"
    curve = " ".join(f"{100 * v:.0f}" for v in line["curve"])
    return [line["row"], line["program"], str(line["seeds"]), f"{line['first_loss']:.2f}", share(line["accuracy"]), ahead,
            share(line["deployed"]), f"{line['seconds']:.0f}", curve]  # fmt: skip


def as_markdown(lines: list[dict[str, Any]]) -> str:
    """The table for a page."""
    rows = [TITLES, tuple("---" if k < 2 else "---:" for k in range(len(TITLES))), *map(cells, lines)]
    return "\n".join("| " + " | ".join(r) + " |" for r in rows)


def show(lines: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for k, title in enumerate(TITLES):
        table.add_column(title, justify="left" if k < 2 else "right")
    for line in lines:
        table.add_row(*cells(line))
    cli.console.print(table)


if __name__ == "__main__":
    cli.run(main)
