"""python bench/pricing.py: what the ledger costs: time to price and place a net of published size, and recording beside not recording."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from spikegate.command import cli
from spikegate.graph.ir import DeployError

SECONDS, GB, SHARE = 60, 8, 0.10
PAPER, PAPER_IMAGES = "spikformer-4-384", 32


@dataclass
class Args:
    """Pricing starts after the run: in each round a new process reads net and events, and writes all figures by all cost tables."""

    nets: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Nets whose recording is timed: of the zoo, or the one of published size, which is priced, too; all if left out. Others keep
    their figures."""
    images: int = 2048
    """Images of a round of a zoo net; the net of published size takes 32."""
    repeats: int = 5
    """Turns."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/pricing.json if left out."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Time of pricing and placing, and of recording.")
    if min(args.images, args.repeats) < 1:
        raise DeployError("--repeats", "a count is less than 1", "give at least 1")
    from bench import interleaved, zoo_nets
    from spikegate.command import runs

    nets = args.nets or (*runs.zoo_names(), PAPER)
    loaded = {n: zoo_nets.load(n, args.images) for n in nets if n != PAPER}
    rows = kept(args.output or interleaved.RESULTS / "pricing.json")
    if PAPER in nets or "pricing" not in rows:
        with tempfile.TemporaryDirectory() as scratch:
            interleaved.progress(f"{PAPER}: run, then priced and placed; recorded and not")
            graph, x = paper(Path(scratch))
            rows["pricing"] = pricing(Path(scratch), args.repeats)
            rows["recording"][PAPER] = recording(graph, lambda: x, args.repeats)
    for name, net in loaded.items():
        interleaved.progress(f"{name}: recorded and not")
        rows["recording"][name] = of_zoo(net, args.repeats)
    found = rows | {"repeats": args.repeats, "machine": interleaved.machine("processor"), "targets": targets(rows)}
    path = interleaved.keep("pricing", None, found, args.output)
    if args.json:
        cli.print_json(found)
        return
    p = found["pricing"]
    lines = [f"{PAPER}: {p['seconds']:.1f} s and {p['memory_gb']:.2f} GB to price and place {p['images']} images by {p['tables']} tables "
             f"on {p['cores']} cores of {p['chips']} chips"]
    for name, row in found["recording"].items():
        with_, without = row["ms_per_image"]["recorded"], row["ms_per_image"]["not recorded"]
        lines.append(f"{name}: {with_:.3f} ms an image with the ledger, {without:.3f} without ({100 * row['overhead']:+.1f} %)")
    for line in lines:
        cli.console.print(line, markup=False, soft_wrap=True)
    interleaved.show_targets(found["targets"])
    interleaved.show_machine(found)
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def kept(path: Path) -> dict[str, Any]:
    """What was measured before on this processor with these versions; nothing of any other."""
    from bench import interleaved

    old = json.loads(path.read_text()) if path.is_file() else {}
    here, there = interleaved.machine("processor"), old.get("machine", {})
    same = all(there.get(k) == v for k, v in here.items() if k != "load")
    return {k: old[k] for k in ("pricing", "recording")} if same else {"recording": {}}


def targets(rows: dict[str, Any]) -> list[dict[str, Any]]:
    from bench.interleaved import verdict

    p = rows["pricing"]
    return [
        verdict(f"{PAPER}: seconds to price and place", p["seconds"], SECONDS, most=True),
        verdict(f"{PAPER}: GB of memory", p["memory_gb"], GB, most=True),
        *(verdict(f"{n}: share of time that recording adds", r["overhead"], SHARE, most=True) for n, r in rows["recording"].items()),
    ]


def paper(folder: Path) -> tuple[Any, Any]:
    """Net of published size, random weights, and 32 images (one shifted); its events are recorded into `folder`."""
    import numpy as np

    from bench.paper import exported
    from spikegate.engine import integer

    graph, x = exported(PAPER, folder / "model.net")
    x = np.concatenate([np.roll(x, k, 1) for k in range(PAPER_IMAGES)])
    integer.warm(graph)
    integer.run(graph, x).save(folder / "events.npz")
    return graph, x


def pricing(folder: Path, repeats: int) -> dict[str, Any]:
    """Seconds (wall, start of Python left out) and peak memory of `priced`, each round in a new process."""
    from bench.interleaved import median

    found = []
    for _ in range(repeats):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found.append(pool.submit(priced, folder).result())
    return found[0] | {k: median([f[k] for f in found]) for k in ("seconds", "memory_gb")}


def priced(folder: Path) -> dict[str, Any]:
    """What hw_sim/place.py and hw_sim/estimate.py do with net and events, by every cost table: ledgers, placement, time, energy, files."""
    import resource

    start = time.perf_counter()
    from spikegate.engine.record import Record
    from spikegate.formats.netx.graph_file import read_graph
    from spikegate.hw_sim.chip import ledger_file
    from spikegate.hw_sim.chip.hardware import on_chip, to_json
    from spikegate.hw_sim.chip.profile import load_chip
    from spikegate.hw_sim.chip.workload import workload_of
    from spikegate.hw_sim.energy.cost_tables import load_tables, names
    from spikegate.hw_sim.energy.ledger import NetInfo, book
    from spikegate.hw_sim.energy.pricing import price_ledger

    graph, record, tables = read_graph(folder / "model.net"), Record.load(folder / "events.npz"), load_tables(names())
    ledger = book(record, NetInfo(sources={n: [e.source for e in graph.edges if e.target == n] for n in graph.ops}))
    energies = [price_ledger(ledger, t).chip_pj for t in tables]
    hw = on_chip(workload_of(graph, record), load_chip("loihi2"), tables)
    (folder / "hardware.json").write_text(json.dumps(to_json(hw), default=float))
    (folder / "ledger.json").write_text(json.dumps(ledger_file.to_json(hw.mapping)))
    return {
        "seconds": time.perf_counter() - start, "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "cores": hw.mapping.cores, "chips": hw.mapping.chips, "tables": len(energies), "images": len(record.counts),
    }  # fmt: skip


def of_zoo(net: Any, repeats: int) -> dict[str, Any]:
    from spikegate.formats.event_host import open_host
    from spikegate.formats.manifest import read_manifest

    host = open_host(net.folder, net.graph, read_manifest(net.folder))
    return recording(net.graph, lambda: host.encode(net.images), repeats)


def recording(graph: Any, embed: Callable[[], Any], repeats: int) -> dict[str, Any]:
    """Processor time of a deployment on the engine (embedding, run) that records and writes its events beside the same that does not.

    Logits and exits have to be equal.
    """
    from bench import interleaved
    from bench.uncounted import uncounted
    from spikegate.engine import integer

    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:

        def recorded() -> None:
            kept["recorded"] = integer.run(graph, embed())
            kept["recorded"].save(Path(scratch) / "events.npz")

        def bare() -> None:
            with uncounted():
                kept["not recorded"] = integer.run(graph, embed())

        times = interleaved.interleaved({"recorded": recorded, "not recorded": bare}, repeats, time.process_time)
    a, b = kept["recorded"], kept["not recorded"]
    if not ((a.logits == b.logits).all() and (a.exit_step == b.exit_step).all()) or b.counts.any():
        raise RuntimeError("the run that does not record is not the same run")
    n = len(a.counts)
    return {
        "ms_per_image": {k: 1000 * interleaved.median(t) / n for k, t in times.items()}, "images": n,
        "overhead": interleaved.ratio(times, "recorded", "not recorded") - 1,
    }


if __name__ == "__main__":
    cli.run(main)
