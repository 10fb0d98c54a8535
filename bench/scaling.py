"""python bench/scaling.py: how time and memory grow with tokens, channels, timesteps, depth and density: they should as events do."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from spikegate.command import cli
from spikegate.graph.ir import DeployError

USUAL = {"tokens": 49, "channels": 64, "timesteps": 4, "depth": 2, "density": 0.2}
SWEEPS: dict[str, tuple[float, ...]] = {
    "tokens": (16, 49, 196, 784), "channels": (32, 64, 128, 256), "timesteps": (2, 4, 8, 16), "depth": (1, 2, 4, 8),
    "density": (0.05, 0.1, 0.2, 0.4),
}  # fmt: skip
MOST = 1.5  # time's growth over the events' growth, from one value to the next


@dataclass
class Args:
    """Blocks of token-wise layers and spiking attention with random weights; one setting varies, the others stay as they are."""

    settings: Annotated[tuple[str, ...], tyro.conf.Positional] = tuple(SWEEPS)
    """What varies."""
    samples: int = 8
    """Samples of a run, all in flight."""
    repeats: int = 5
    """Turns."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/scaling.json if left out. Settings that were not timed now stay as they are there."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Time and memory over the net's size.")
    for odd in sorted({*args.settings} - {*SWEEPS}):
        raise DeployError("settings", f"unknown: {odd!r}", f"choose from {', '.join(SWEEPS)}")
    if min(args.samples, args.repeats) < 1:
        raise DeployError("--repeats", "a count is less than 1", "give at least 1")
    from bench import interleaved

    parts = {}
    for setting in args.settings:
        interleaved.progress(setting)
        rows = measured(setting, args.samples, args.repeats)
        steps = [(b["ms"] / a["ms"]) / (b["work"] / a["work"]) for a, b in itertools.pairwise(rows)]
        parts[setting] = {
            "rows": rows, "samples": args.samples, "repeats": args.repeats, "machine": interleaved.machine("processor"),
            "target": interleaved.verdict(
                f"{setting}: largest growth of time over growth of events and updates", max(steps), MOST, most=True
            ),
        }  # fmt: skip
        path = interleaved.keep("scaling", setting, parts[setting], args.output)
    if args.json:
        cli.print_json(parts)
        return
    table = Table(box=None, pad_edge=False)
    for title in ("setting", "value", "ms a sample", "10^6 events", "10^6 updates", "ns for each", "MiB"):
        table.add_column(title, justify="left" if title == "setting" else "right")
    for setting, part in parts.items():
        for r in part["rows"]:
            each = 1e6 * r["ms"] / r["work"]
            cells = f"{r['ms']:.3f}", f"{r['events'] / 1e6:.2f}", f"{r['updates'] / 1e6:.3f}", f"{each:.2f}", f"{r['mib']:.1f}"
            table.add_row(setting, f"{r['value']:g}", *cells)
    cli.console.print(table)
    interleaved.show_targets([p["target"] for p in parts.values()])
    interleaved.show_machine(next(iter(parts.values())))
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def net(tokens: int, channels: int, timesteps: int, depth: int, density: float) -> Any:
    """Graph of `depth` spike-driven blocks: q, k, v, attention, projection, two MLP layers, residuals as several sources."""
    import numpy as np

    from spikegate.graph.ir import Graph
    from spikegate.neurons.cuba import Cuba
    from spikegate.ops.conv import Conv
    from spikegate.ops.spiking_attention import SpikingAttention

    rng = np.random.default_rng(0)
    graph = Graph(timesteps=timesteps, input_shape=(tokens, channels))

    def linear(inner: int, outer: int) -> Any:
        weight = rng.integers(-8, 9, (outer, inner, 1, 1)) * 2  # the threshold grows with the spread of the sums
        return Conv(weight, np.zeros(outer, np.int64), grid=(1, tokens), neuron=Cuba(4096, 2048, int(5 * inner**0.5)))

    stream = ["input"]
    for b in range(depth):
        for part in "qkv":
            graph.add(f"b{b}.{part}", linear(channels, channels), x=stream[-2:])
        attention = SpikingAttention(tokens, channels, 4, exponent=0, neuron=Cuba(4096, 2048, 3))
        graph.add(f"b{b}.attention", attention, **{s: f"b{b}.{s}" for s in "qkv"})
        stream = [*stream, graph.add(f"b{b}.proj", linear(channels, channels), x=f"b{b}.attention")]
        graph.add(f"b{b}.fc1", linear(channels, 2 * channels), x=stream[-2:])
        stream = [*stream, graph.add(f"b{b}.fc2", linear(2 * channels, channels), x=f"b{b}.fc1")]
    graph.check()
    return graph


def measured(setting: str, samples: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each value: ms, chip events and neuron updates of a sample, and the memory of a run (peak of NumPy's arrays)."""
    import time
    import tracemalloc

    import numpy as np

    from bench import interleaved
    from spikegate.engine import integer

    cases = {}
    for value in SWEEPS[setting]:
        given = {**USUAL, setting: value}
        shape = {k: int(v) for k, v in given.items() if k != "density"}
        graph = net(**shape, density=given["density"])
        rng = np.random.default_rng(1)
        size = (samples, graph.timesteps, *graph.input_shape)
        cases[value] = graph, (rng.random(size) < given["density"]).astype(np.int32)
    calls = {str(v): lambda c=c: integer.run(*c, batch=samples) for v, c in cases.items()}
    times = interleaved.interleaved(calls, repeats, time.process_time)
    rows = []
    for value, case in cases.items():
        tracemalloc.start()
        record = integer.run(*case, batch=samples)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        events, updates = float(record.chip_events.mean()), float(record.total("neuron_update").mean())
        ms = 1000 * interleaved.median(times[str(value)]) / samples
        # an update costs about as much as 16 accumulates, which come sixteen to an instruction
        rows.append({"value": value, "ms": ms, "events": events, "updates": updates, "work": events + 16 * updates, "mib": peak / 2**20})
    return rows


if __name__ == "__main__":
    cli.run(main)
