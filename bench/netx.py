"""python bench/netx.py: the same NetX files in stock `netx.hdf5.Network`, in our drop-in, and in our own runners; equality checked."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from spikegate.command import cli
from spikegate.graph.ir import DeployError

MORE = 10  # steps of the drop-in for each of stock's


@dataclass
class Args:
    """Milliseconds for each timestep of the same stream; stock and ours run alternately, medians over the rounds."""

    nets: Annotated[tuple[str, ...], tyro.conf.Positional] = (
        "tiny", "mnist", "ntidigits", "pilotnet_sdnn", "pilotnet_square", "pilotnet_lif", "tokens",
    )
    """Which files: those of lava-dl's wheel, and a chain of 49 tokens x 64 channels."""
    repeats: int = 3
    """Turns."""
    batch: int = 16
    """Samples in flight of our batched runs; stock takes one."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/netx.json if left out. Nets that were not timed now stay as they are there."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Stock NetX in Lava against ours.")
    from bench import interleaved, stock

    known = {c.name: c for c in stock.CASES}
    for odd in sorted({*args.nets} - {*known}):
        raise DeployError("nets", f"unknown: {odd!r}", f"choose from {', '.join(known)}")
    if min(args.repeats, args.batch) < 1:
        raise DeployError("--repeats", "a count is less than 1", "give at least 1")
    warnings.simplefilter("ignore")
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.nets:
            interleaved.progress(name)
            rows[name] = measured(known[name], Path(scratch), args.repeats, args.batch)
            path = interleaved.keep("netx", name, rows[name], args.output)
    if args.json:
        cli.print_json(rows)
        return
    show(rows)
    interleaved.show_targets([t for r in rows.values() for t in r["targets"]])
    interleaved.show_machine(next(iter(rows.values())))
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def measured(case: Any, scratch: Path, repeats: int, batch: int) -> dict[str, Any]:
    """One file: seconds for each timestep of every contestant, ratios to stock, values compared with stock."""
    import numpy as np

    from bench import interleaved, stock
    from spikegate.deploy.network.network import Network
    from spikegate.engine import integer

    path = case.path(scratch)
    graph = stock.graph_of(case, path)
    x = stock.inputs_of(case, graph, case.samples)
    if case.bits:
        graph.input_payload = type(graph.input_payload)(int(x.min()), int(x.max()))
    many = np.concatenate([x] * (batch if case.samples == 1 else 1))
    last = list(graph.ops)[-1]
    with h5_grid(path) as grid:
        fed = grid if case.first or case.file == "tokens.net" else ()
    total = 16 + case.steps * (repeats + 1)
    more = 16 + MORE * case.steps * (repeats + 1)
    theirs, ours, bare = stock.Script(case, path, x, fed, total), stock.Script(case, path, x, fed, more, drop_in=True), stock.Bare(x)
    start = time.perf_counter()
    theirs.run(theirs.layers)  # until then its last layer shows nothing
    stock_start = time.perf_counter() - start
    ours.run(ours.layers)
    bare.run(4)
    block = Network(graph, "block", batch, patience_s=120)
    with Network(graph, "chip", 1, patience_s=120) as one, Network(graph, "chip", batch, patience_s=120) as wide, block:
        alone, together = x.shape[0] * x.shape[1], many.shape[0] * many.shape[1]
        steps = {"stock": case.steps, "drop-in": MORE * case.steps, "Lava alone": 50, "int": alone, "chip": alone}
        steps |= {f"int, batch {batch}": together, f"chip, batch {batch}": together, f"block, batch {batch}": together}
        contestants = {
            "stock": lambda: theirs.run(case.steps), "drop-in": lambda: ours.run(MORE * case.steps), "Lava alone": lambda: bare.run(50),
            "int": lambda: integer.run(graph, x, batch=1), "chip": lambda: one.run(x),
            f"int, batch {batch}": lambda: integer.run(graph, many, batch=batch), f"chip, batch {batch}": lambda: wide.run(many),
            f"block, batch {batch}": lambda: block.run(many),
        }  # fmt: skip
        times = interleaved.interleaved(contestants, repeats)
        record = one.run(x, spikes=True)
        reference = integer.run(graph, x, spikes=[last])
    same = np.array_equal(record.spikes[last], reference.spikes[last]) and np.array_equal(record.counts, reference.counts)
    values, wrong = stock.compared(case, path, theirs, record.spikes[last], x)
    shown = min(theirs.done, ours.done)
    dropped = int((theirs.outputs()[:shown] != ours.outputs()[:shown]).sum())
    for script in (theirs, ours, bare):
        script.stop()
    each = {n: [s / steps[n] for s in t] for n, t in times.items()}
    ms = {n: 1000 * interleaved.median(t) for n, t in each.items()}
    ratios = {n: interleaved.ratio(each, "stock", n) for n in each if n != "stock"}
    return {
        "file": case.file, "layers": theirs.layers, "timesteps_stock": theirs.done, "timesteps_ours": steps["chip"], "repeats": repeats,
        "ms_per_timestep": ms, "times_stock": ratios, "stock_start_s": stock_start, "density": case.density,
        "compared_with_stock": values, "mismatches": wrong, "drop_in_mismatches": dropped, "chip_equals_int": same,
        "events_out": int((record.spikes[last] != 0).sum()),
        "targets": [
            interleaved.verdict(f"{case.name}: Lava chip over stock", ratios["chip"], case.target),
            interleaved.verdict(f"{case.name}: Lava block over stock", ratios[f"block, batch {batch}"], 20),
            interleaved.verdict(f"{case.name}: drop-in over stock, in an unchanged script", ratios["drop-in"], 10),
        ], "machine": interleaved.machine(),
    }  # fmt: skip


def h5_grid(path: Path) -> Any:
    """Context manager of the file's input map (height, width), or ()."""
    import contextlib

    import h5py

    @contextlib.contextmanager
    def grid():
        with h5py.File(path, "r") as f:
            shape = f["layer/0"].get("shape")
            found = tuple(int(v) for v in shape[()].ravel()) if shape is not None else ()
        yield found[1:] if len(found) == 3 and found[1:] != (1, 1) else ()

    return grid()


def show(rows: dict[str, Any]) -> None:
    """The figures as a table: ms for each timestep and times stock."""
    table = Table(box=None, pad_edge=False)
    names = list(next(iter(rows.values()))["ms_per_timestep"])
    for title in ("net", *(f"{n}, ms" for n in names), "values compared", "mismatches"):
        table.add_column(title, justify="left" if title == "net" else "right")
    for name, row in rows.items():
        cells = [f"{row['ms_per_timestep'][n]:.3g}" + (f" ({row['times_stock'][n]:.0f}x)" if n != "stock" else "") for n in names]
        table.add_row(name, *cells, f"{row['compared_with_stock']:,}", str(row["mismatches"]))
    cli.console.print(table)


if __name__ == "__main__":
    cli.run(main)
