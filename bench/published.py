"""python bench/published.py FOLDER...: exported nets of published size with real activity, on a chip, beside a CPU and a GPU."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from spikegate.command import cli

ENERGY = Path("/sys/class/powercap")  # RAPL counters (Linux); often readable by root alone
CPU_NJ, GPU_NJ = 8.6, 0.3
SOURCE = "KerasSpiking's figures for an Intel i7-4960X and an Nvidia GTX Titan Black, an operation of a dense net"
TABLES = ("paper45", "loihi1-davies", "loihi2-pilotnet")
PAGE, MARK = Path(__file__).parents[1] / "docs" / "hardware.md", "published:table"


@dataclass
class Args:
    """Every net runs on a few test images with its halting and without, in its bias form; the ledger of each is placed and priced."""

    exports: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Export folders."""
    data_path: Path
    """Local copy of CIFAR-10 (.npz or folder of images)."""
    images: int = 4
    """Images; a run takes about 80 MB for each."""
    chip: str = "loihi2"
    """Chip profile."""
    frames_per_second: float = 30.0
    """Rate at which the power is given."""
    update_docs: bool = False
    """Write the table into docs/hardware.md, too, at its marker."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/published.json if left out."""


def main() -> None:
    """Parse the command line, run, print and write."""
    args = cli.parse(Args, "Nets of published size with real activity.")
    from bench import interleaved

    rows: dict[str, Any] = {}
    for folder in args.exports:
        interleaved.progress(f"{folder.name}: run, then placed")
        rows |= measured(folder, args)
    found = {"rows": rows, "images": args.images, "chip": args.chip, "frames_per_second": args.frames_per_second, "source": SOURCE,
             "machine": interleaved.machine()}
    path = interleaved.keep("published", None, found, args.output)
    if args.update_docs:
        from bench.table import fill
        from spikegate.files import atomic

        text = PAGE.read_text(encoding="utf-8")
        with atomic(PAGE) as part:
            part.write_text(fill(text, lambda key: markdown(found) if key == MARK else None), encoding="utf-8")
    if args.json:
        cli.print_json(found)
        return
    cli.console.print(markdown(found), markup=False, soft_wrap=True)
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def measured(folder: Path, args: Args) -> dict[str, Any]:
    """Rows of a net, halting and not: events, energies, cores, times; and what the same takes on this processor."""
    import numpy as np

    from spikegate.convert.bias_form import with_biases
    from spikegate.convert.checks.listing import op_rows
    from spikegate.data.shipped import open_images
    from spikegate.deploy.bundle import without_halting
    from spikegate.engine import integer
    from spikegate.formats.host import Host
    from spikegate.formats.manifest import read_manifest
    from spikegate.formats.netx.graph_file import read_graph

    manifest = read_manifest(folder)
    graph = with_biases(read_graph(folder / "model.net"))
    manifest |= {"ops": op_rows(graph), "dense_ops": {n: op.dense_ops for n, op in graph.ops.items()},
                 "embedding_ops": [n for n in manifest["embedding_ops"] if n in graph.ops]}
    images = open_images(folder, manifest, f"test:{args.images}", args.data_path)
    embedded = Host(folder / "embedding.onnx").encode(images.x)
    out, variants = {}, {"": graph}
    if manifest["halting"]:
        variants[", halting off"] = without_halting(graph)
    for suffix, net in variants.items():
        integer.run(net, embedded[:1], images.y[:1])
        start, before = time.process_time(), rapl()
        record = integer.run(net, embedded, images.y, batch=1)
        seconds = (time.process_time() - start) / args.images
        joules = None if before is None else before() / args.images
        row = _row(manifest, net, record, args) | {"cpu_s": seconds, "cpu_j": joules}
        row["correct"] = int(np.count_nonzero(record.prediction == images.y))
        out[manifest["model"] + suffix] = row
    return out


def _row(manifest: dict[str, Any], graph: Any, record: Any, args: Args) -> dict[str, Any]:
    from spikegate.hw_sim.chip.hardware import on_chip
    from spikegate.hw_sim.chip.profile import load_chip
    from spikegate.hw_sim.chip.workload import workload_of
    from spikegate.hw_sim.energy.cost_tables import load_tables
    from spikegate.hw_sim.energy.ledger import NetInfo
    from spikegate.hw_sim.energy.pricing import price
    from spikegate.hw_sim.tables.chip_tables import rates

    tables = load_tables(list(TABLES))
    energies = {t.name: price(record, NetInfo.from_manifest(manifest), t) for t in tables}
    hw = on_chip(workload_of(graph, record), load_chip(args.chip), tables, host_macs=int(manifest["host_macs"]), method="greedy")
    assert hw.times is not None
    placed = {e.table.name: e.to_json() for e in hw.energies}
    interval = float(hw.times.interval_ns.mean()) * 1e-9
    rate = min(args.frames_per_second, 1 / interval)
    return {
        "events": float(record.chip_events.mean()), "tokens": record.mean_tokens, "timesteps": record.mean_timesteps,
        "energy": {n: {"chip_pj": vars(e.chip), "skipped_pj": vars(e.skipped), "host_pj": e.host_pj} for n, e in energies.items()},
        "cores": hw.mapping.cores, "chips": hw.mapping.chips, "fits": hw.fits, "schedule": hw.times.schedule,
        "latency_s": float(hw.times.sum_ns.mean()) * 1e-9, "interval_s": interval, "placed": placed, "rate": rate,
        "at_rate": {n: r.to_json() for n, r in rates(hw, rate).items()},
        "dense_ops": sum(manifest["dense_ops"].values()) * graph.timesteps + int(manifest["host_macs"]),
    }  # fmt: skip


def rapl() -> Callable[[], float] | None:
    """Joules of all processor packages since now; None where their counters cannot be read."""
    files = sorted(ENERGY.glob("intel-rapl:?/energy_uj"))

    def read() -> float:
        return sum(int(f.read_text()) for f in files) * 1e-6

    try:
        start = read()
    except OSError:
        return None
    return (lambda: read() - start) if files else None


def markdown(found: dict[str, Any]) -> str:
    """Two tables: events and energies by table, then cores, time, totals and power at a rate; and a line on CPU and GPU."""
    from spikegate.hw_sim.energy.band import Band
    from spikegate.hw_sim.energy.units import band_text, digits, energy_text
    from spikegate.hw_sim.tables.chip_tables import power_text, time_text

    def band(values: dict[str, float] | None) -> Band | None:
        return None if values is None else Band(values["value"], values["low"], values["high"])

    def text(values: dict[str, float] | None, show: Callable[[Band], str] = band_text) -> str:
        made = band(values)
        return "-" if made is None else show(made)

    rows = found["rows"]
    skip = "if idle neurons are not visited"
    heads = ["net", "tokens", "chip events", "paper45", "loihi1-davies", skip, "loihi2-pilotnet (estimate)", skip]
    out = [heads, ["---"] * len(heads)]
    for name, r in rows.items():
        e = r["energy"]
        pairs = [text(e[t][k]) for t in TABLES[1:] for k in ("chip_pj", "skipped_pj")]
        out.append([f"`{name}`", f"{digits(100 * r['tokens'])} %", f"{r['events']:,.0f}", text(e["paper45"]["chip_pj"]), *pairs])
    heads = ["net", "schedule", "cores (chips)", "latency", "one inference every", "dynamic, placed", skip, "total", "power at a rate"]
    second = [heads, ["---"] * len(heads)]
    for name, r in rows.items():
        p, rate = r["placed"]["loihi2-pilotnet"], r["at_rate"].get("loihi2-pilotnet")
        power = "-" if rate is None else f"{text(rate['power_w'], power_text)} at {digits(r['rate'])} a second"
        second.append([f"`{name}`", r["schedule"], f"{r['cores']:,} ({r['chips']})" + ("" if r["fits"] else ", does not fit"),
                       time_text(r["latency_s"] * 1e9), time_text(r["interval_s"] * 1e9), text(p["dynamic_pj"]),
                       text(p["dynamic_if_skipped_pj"]), text(p["total_pj"]), power])
    first = next(iter(rows.values()))
    times = "; ".join(f"`{n}` {digits(r['cpu_s'])} s" + ("" if r["cpu_j"] is None else f", {digits(r['cpu_j'])} J (RAPL)")
                      for n, r in rows.items())
    dense = first["dense_ops"] * 1e3
    parts = ["\n".join(f"| {' | '.join(r)} |" for r in table) for table in (out, second)]
    unread = "" if any(r["cpu_j"] is not None for r in rows.values()) else "; its energy counters (RAPL) could not be read"
    cpu, gpu = (energy_text(nj * dense) for nj in (CPU_NJ, GPU_NJ))
    parts.append(f"The integer engine on one core of this processor ({found['machine']['cpu']}), an image: {times}{unread}. The same net "
                 f"done densely, {first['dense_ops'] / 1e9:.2f} G operations, at published figures an operation: {cpu} on a CPU, {gpu} "
                 f"on a GPU ({found['source']}).")
    return "\n\n".join(parts)


if __name__ == "__main__":
    cli.run(main)
