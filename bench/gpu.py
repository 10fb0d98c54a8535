"""python bench/gpu.py: training steps of Spikformer-4-384 on one GPU, ours beside SpikingJelly's backends; --check: what must be equal."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from spikegate.command import cli
from spikegate.files import atomic

ROOT = Path(__file__).parents[1]


@dataclass
class Args:
    """Time whole steps in one run; what is done is saved after each row, and no row begins that would end too late."""

    config: Path = ROOT / "conf" / "published" / "spikformer-4-384.yml"
    """Net and training."""
    check: bool = False
    """Only check that this device computes what the processor does: every model, every type of operands."""
    device: str = "auto"
    """auto, cuda, cuda:N, cpu."""
    backend: str | None = None
    """With --check: force torch, compiled or triton, as for a check of Triton's passes by its interpreter."""
    batches: tuple[int, ...] = (256, 512)
    """Images of a step."""
    timesteps: tuple[int, ...] = (4, 1)
    """Timesteps."""
    precisions: tuple[str, ...] = ("float16", "bfloat16", "float32")
    """Types of the operands; SpikingJelly runs float32, and float16 by autocast."""
    models: tuple[str, ...] = ()
    """With --check: these models; all if left out."""
    seconds: float = 225.0
    """Time for all rows."""
    each: float = 2.0
    """Time for one row, after its warm-up."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path = Path("bench/results/gpu.json")
    """JSON to write."""


def main() -> None:
    """Parse the command line, measure or check; exit 1 if something is not equal."""
    args = cli.parse(Args, "Training on one GPU.")
    begun = time.perf_counter()
    from bench import gpu_rows
    from spikegate.train import devices
    from spikegate.train.machine import describe
    from spikegate.train.settings.config import MODELS
    from spikegate.train.settings.options import read_yaml

    device = devices.resolve(args.device)
    devices.prepare(device)
    settings = read_yaml(args.config)
    part = "check" if args.check else "rows"
    result: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {}
    result |= {part: [], f"{part}_machine": describe(device), "config": args.config.name}

    def keep(row: dict[str, Any], line: str) -> None:
        result[part].append(row)
        with atomic(args.output) as file:
            file.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        cli.errors.print(line, markup=False, soft_wrap=True)

    if args.check:
        for row in gpu_rows.check(device, args.backend, args.models or MODELS):
            keep(row, f"{row['model']}, {row['precision']}: {'good' if row['good'] else 'NOT GOOD'}")
        if device.type == "cuda":
            row = gpu_rows.check_graphs(settings, device)
            keep(row, f"replayed steps: {'good' if row['good'] else 'NOT GOOD'}")
    else:
        longest = 0.0
        for case in gpu_rows.cases(args.batches, args.timesteps, args.precisions):
            start = time.perf_counter()
            if start - begun + longest > args.seconds:
                keep({**vars(case), "left_out": "no time left"}, f"{case.text}: no time left")
                continue
            try:
                row = gpu_rows.measure(settings, case, device, args.each)
                line = f"{row['images_per_s']:,.0f} images/s, {row['peak_bytes'] / 2**30:.1f} GiB"
            except Exception as e:  # a program that cannot run here takes no other row along
                row = {"left_out": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"}
                line = row["left_out"]
            longest = max(longest, time.perf_counter() - start)
            keep({**vars(case), **row}, f"{case.text}: {line}")
    if args.json:
        cli.print_json(result)
    else:
        show(result, part)
        cli.console.print(f"written: {args.output}", markup=False, soft_wrap=True)
    if args.check and not all(row["good"] for row in result["check"]):
        sys.exit(1)


def show(result: dict[str, Any], part: str) -> None:
    """The rows as a table."""
    machine = result[f"{part}_machine"]
    title = f"{result['config']} on {machine.get('gpu', machine['cpu'])}, torch {machine['torch']}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    columns = ("model", "precision", "equal", "gradient_error", "good") if part == "check" else (
        "program", "phase", "timesteps", "batch", "precision", "images_per_s", "left_out")  # fmt: skip
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right" if column in ("images_per_s", "batch", "timesteps") else "left")
    for row in result[part]:
        cells = [row.get(c, "") for c in columns]
        table.add_row(*(f"{c:,.0f}" if isinstance(c, float) and c > 10 else f"{c:.1e}" if isinstance(c, float) else str(c) for c in cells))
    cli.console.print(table)


if __name__ == "__main__":
    cli.run(main)
