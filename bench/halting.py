"""python bench/halting.py: what halting saves in time beside what it saves in events."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from spikegate.command import cli
from spikegate.graph.ir import DeployError

MOST = 1.2  # time ratio over event ratio


@dataclass
class Args:
    """The same net with and without its gates, run alternately; medians over the rounds."""

    nets: Annotated[tuple[str, ...], tyro.conf.Positional] = ("stas-digits", "stas-exit-digits", "at_snn-fashion", "stas-fashion")
    """Adaptive nets of the zoo."""
    batch: int = 64
    """Images in flight."""
    images: int = 1024
    """Images of a round: at its ends the slots fill and run empty, which counts for less in a long one."""
    repeats: int = 5
    """Turns."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/halting.json if left out. Nets that were not timed now stay as they are there."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Time and events with halting and without.")
    if min(args.batch, args.images, args.repeats) < 1:
        raise DeployError("--repeats", "a count is less than 1", "give at least 1")
    from bench import interleaved, zoo_nets

    rows = {}
    for name in args.nets:
        net = zoo_nets.load(name, args.images)
        if not net.adaptive:
            raise DeployError(name, "has no gates", "give an adaptive net, stas-digits for instance")
        interleaved.progress(name)
        rows[name] = measured(net, args.batch, args.repeats)
        path = interleaved.keep("halting", name, rows[name], args.output)
    if args.json:
        cli.print_json(rows)
        return
    for name, row in rows.items():
        on, off = row["ms_per_image"]["on"], row["ms_per_image"]["off"]
        text = f"{name}: time {on:.3f} of {off:.3f} ms ({row['time_ratio']:.2f}), events {row['event_ratio']:.2f} of those without halting"
        cli.console.print(text, markup=False, soft_wrap=True)
    interleaved.show_targets([r["target"] for r in rows.values()])
    interleaved.show_machine(next(iter(rows.values())))
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def measured(net: Any, batch: int, repeats: int) -> dict[str, Any]:
    """Ratios of time and of chip events, halting on over off, on the integer engine."""
    import time

    from bench import interleaved
    from spikegate.deploy.bundle import without_halting
    from spikegate.engine import integer

    graphs = {"on": net.graph, "off": without_halting(net.graph)}
    records = {}

    def call(key: str):
        def run() -> None:
            records[key] = integer.run(graphs[key], net.embedded, batch=batch)

        return run

    # one thread: what else runs matters less
    times = interleaved.interleaved({key: call(key) for key in graphs}, repeats, time.process_time)
    events = {key: float(r.chip_events.mean()) for key, r in records.items()}
    updates = {key: float(r.total("neuron_update").mean()) for key, r in records.items()}
    time_ratio, event_ratio = interleaved.ratio(times, "on", "off"), events["on"] / events["off"]
    return {
        "ms_per_image": {k: 1000 * interleaved.median(t) / len(net.images) for k, t in times.items()}, "chip_events": events,
        "neuron_updates": updates, "time_ratio": time_ratio, "event_ratio": event_ratio, "update_ratio": updates["on"] / updates["off"],
        "batch": batch, "images": len(net.images), "repeats": repeats, "machine": interleaved.machine("processor"),
        "target": interleaved.verdict(f"{net.name}: time ratio over event ratio", time_ratio / event_ratio, MOST, most=True),
    }  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
