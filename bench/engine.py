"""python bench/engine.py: synaptic operations per second of the engine beside a bare scatter loop and a float32 product."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from spikegate.command import cli
from spikegate.graph.ir import DeployError

SHAPES = ((49, 64, 64), (49, 64, 128), (196, 384, 384), (64, 384, 1536))  # tokens, channels in, channels out
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
CALLS = 20  # of a contestant in a round
SHARE = 0.6  # of the bare loop's speed


@dataclass
class Args:
    """A token-wise layer with neurons and event counts as the engine runs it; the loop and the product only add up weights."""

    densities: tuple[float, ...] = DENSITIES
    """Shares of active inputs."""
    samples: int = 4
    """Samples at a time."""
    repeats: int = 5
    """Turns."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/engine.json if left out."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Synaptic operations per second.")
    if min(args.samples, args.repeats) < 1 or not all(0 < d <= 1 for d in args.densities):
        raise DeployError("--densities", "a density is not in (0, 1], or a count less than 1", "give densities like 0.1")
    from bench import interleaved

    rows = [measured(shape, d, args.samples, args.repeats) for shape in SHAPES for d in args.densities]
    worst = min(rows, key=lambda r: r["of_the_loop"])
    middle = interleaved.median([r["of_the_loop"] for r in rows])
    found = {
        "rows": rows, "samples": args.samples, "repeats": args.repeats, "machine": interleaved.machine("processor"),
        "targets": [
            interleaved.verdict("synaptic operations per second over the bare loop's, median of all shapes", middle, SHARE),
            interleaved.verdict(f"the same, worst ({worst['shape']}, density {worst['density']:g})", worst["of_the_loop"], SHARE),
        ],
    }  # fmt: skip
    path = interleaved.keep("engine", None, found, args.output)
    if args.json:
        cli.print_json(found)
        return
    table = Table(box=None, pad_edge=False, title="10^9 synaptic operations per second", title_justify="left")
    for title in ("shape", "density", "bare loop", "event by event", "float32 product", "engine, with neurons", "of the loop"):
        table.add_column(title, justify="left" if title == "shape" else "right")
    for r in rows:
        table.add_row(r["shape"], f"{r['density']:g}", *(f"{r['gsynops'][k]:.1f}" for k in ("loop", "events", "product", "engine")),
                      f"{r['of_the_loop']:.2f}")
    cli.console.print(table)
    interleaved.show_targets(found["targets"])
    interleaved.show_machine(found)
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


@functools.cache
def bare_loop() -> Callable[..., None]:
    """``acc[m] = sum of weight[c] over the events c of row m``: the least that an event-driven program does."""
    from numba import njit

    @njit(nogil=True)
    def loop(x, weight, acc):  # type: ignore[no-untyped-def]
        for m in range(len(x)):
            for n in range(weight.shape[1]):
                acc[m, n] = 0
            for c in range(x.shape[1]):
                if x[m, c] != 0:
                    for n in range(weight.shape[1]):
                        acc[m, n] += weight[c, n]

    return loop


def measured(shape: tuple[int, int, int], density: float, samples: int, repeats: int) -> dict[str, Any]:
    """One layer at one density; all contestants must give the same sums."""
    import time

    import numpy as np

    from bench import interleaved
    from spikegate.graph.ir import Sources
    from spikegate.neurons.cuba import Cuba
    from spikegate.ops.conv import Conv

    tokens, inner, outer = shape
    rng = np.random.default_rng(0)
    op = Conv(rng.integers(-20, 20, (outer, inner, 1, 1)) * 2, np.zeros(outer, np.int64), grid=(1, tokens), neuron=Cuba(4096, 2048, 900))
    x = (rng.random((samples, tokens, inner)) < density).astype(np.int32)
    flat, columns = x.reshape(-1, inner), np.ascontiguousarray(op.weight[:, :, 0, 0].T, np.int32)
    floats = columns.astype(np.float32)
    acc = np.zeros((len(flat), outer), np.int32)

    loop = bare_loop()
    op.taps.__dict__["share"] = 2.0
    by_events = op.taps.sums(Sources((x,)).merged)[0]
    del op.taps.__dict__["share"]
    loop(flat, columns, acc)
    assert np.array_equal(acc, by_events.reshape(acc.shape)) and np.array_equal(acc, flat.astype(np.float32) @ floats)
    state = op.state(samples)
    t = np.ones(samples, np.int64)

    def event_by_event() -> None:
        op.taps.__dict__["share"] = 2.0
        op.taps.sums(Sources((x,)).merged)
        del op.taps.__dict__["share"]

    contestants = {
        "loop": lambda: loop(flat, columns, acc), "events": event_by_event, "product": lambda: flat.astype(np.float32) @ floats,
        "engine": lambda: op.advance(state, {"x": Sources((x,))}, t),
    }  # fmt: skip
    again = {n: lambda c=c: [c() for _ in range(CALLS)] for n, c in contestants.items()}  # one call is too short for the clock
    times = {n: [s / CALLS for s in found] for n, found in interleaved.interleaved(again, repeats, time.process_time).items()}
    synops = int(x.sum()) * outer
    speed = {n: synops / interleaved.median(s) / 1e9 for n, s in times.items()}
    return {"shape": f"{tokens} tokens, {inner} to {outer}", "density": density, "synops": synops, "gsynops": speed,
            "of_the_loop": interleaved.ratio(times, "loop", "engine")}


if __name__ == "__main__":
    cli.run(main)
