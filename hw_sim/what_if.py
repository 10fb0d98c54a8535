"""What if: run each setting on the integer reference, place and price it, write sweep-<what>.json, print a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from spikegate.command import cli
from spikegate.command.runs import find_export, run_of
from spikegate.data.shipped import Images, open_images
from spikegate.engine import integer
from spikegate.engine.record import Record
from spikegate.files import atomic
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Graph
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.mapping import Mapping, map_to
from spikegate.hw_sim.chip.profile import Chip, load_chip
from spikegate.hw_sim.chip.splitting import finer
from spikegate.hw_sim.chip.workload import Workload, workload_of
from spikegate.hw_sim.energy.cost_tables import CostTable, load_tables
from spikegate.hw_sim.energy.ledger import NetInfo
from spikegate.hw_sim.energy.pricing import price
from spikegate.hw_sim.energy.units import count_text, digits, energy_text
from spikegate.hw_sim.on_cores import coarser
from spikegate.hw_sim.tables.chip_tables import time_text
from spikegate.hw_sim.variants import CREDITS, margins, with_credit, with_margin, with_timesteps
from spikegate.ops.exit_gate import NEVER

CORES, BITS = (1, 2, 4, 8), (8, 6, 4, 2)
Row = dict[str, Any]


@dataclass(frozen=True)
class Net:
    """An export with its first test images."""

    graph: Graph
    manifest: dict[str, Any]
    folder: Path
    embedded: np.ndarray
    images: Images

    def run(self, graph: Graph | None = None, **more: Any) -> Record:
        return integer.run(graph or self.graph, self.embedded, self.images.y, **more)


@dataclass(frozen=True)
class Setting:
    """Where things are placed and what prices them."""

    chip: Chip
    tables: list[CostTable]
    schedule: str


def sweep(run: Path | None = None, over: str = "timesteps", values: list[float] | None = None, *, op: str | None = None,
          against: Path | None = None, images: int = 256, data_path: Path | None = None, chip: str = "loihi2", schedule: str = "auto",
          costs: tuple[str, ...] | list[str] = ("paper45", "loihi1-davies"), as_json: bool = False,
          output: Path | None = None, cluster: str | None = None) -> list[Row]:
    """Run, write and print; returns the rows. Parameters as the options of hw_sim/sweep.py.

    Raises
    ------
    DeployError
        No export, too few images, a setting that this net does not have, a bad chip profile or cost table.
    """
    net = open_net(run, images, data_path)
    setting = Setting(load_chip(chip), [t for t in load_tables(list(costs)) if not t.counts_only], schedule)
    if not setting.tables:
        raise DeployError("--costs", "names no table with prices", "use paper45 or loihi1-davies")
    what = "runs" if against is not None else over
    rows = (beside(net, open_net(against, images, data_path), setting) if against is not None
            else sweep_rows(net, setting, over, values, op, cluster))
    figures = {
        "schema": 1, "over": what, "images": len(net.images), "shipped": net.images.shipped,
        "chip": setting.chip.name, "op": op, "rows": rows,
        "net": net.manifest["name"], "energy": "pJ per inference; chip_pj: events, host_pj: embedding, placed_pj: with packets and hops",
    }
    folder = output or net.folder / "report"
    with atomic(folder / f"sweep-{what}.json") as part:
        part.write_text(json.dumps(figures, indent=2, sort_keys=True, default=float) + "\n")
    if as_json:
        cli.print_json(figures)
        return rows
    cli.console.print(_table(what, rows, setting, net))
    if what == "bits":
        cli.console.print("bits: memory and cores alone; the net was run with its own weights, so accuracy with fewer bits is not known.")
    cli.console.print(f"wrote {folder}/sweep-{what}.json", soft_wrap=True, markup=False)
    return rows


def open_net(given: Path | None, images: int, data_path: Path | None = None) -> Net:
    """An export, and its first test images through the host's embedding."""
    export = find_export(given)
    manifest, graph = read_manifest(export), read_graph(export / "model.net")
    graph.check()
    if images < 1:
        raise DeployError("--images", f"{images} test images", "use 1 or more")
    opened = open_images(export, manifest, f"test:{images}", data_path, option="--images")
    return Net(graph, manifest, run_of(export), open_host(export, graph, manifest).encode(opened.x), opened)


def sweep_rows(net: Net, setting: Setting, over: str, values: list[float] | None, op: str | None, cluster: str | None = None) -> list[Row]:
    """One row for each value of the setting that `over` names; `cluster`: computed by its workers."""
    if op is not None and (over != "cores" or op not in net.graph.ops):
        hint = "it names an op of the net (see export.py --dry-run) for --over cores"
        raise DeployError("--op", f"{op!r} with --over {over}", hint)
    if values is not None and any(v <= 0 for v in values):
        raise DeployError("--values", "are factors or numbers above 0", "for example --values 0.5 1 2")
    if over == "credit":
        return _rows(net, setting, [(f"x {v:g}", with_credit(net.graph, v)) for v in values or CREDITS], cluster)
    if over == "exit":
        full = net.run(with_margin(net.graph, np.full(net.graph.timesteps, NEVER)), spikes=net.graph.only("readout"))
        return _rows(net, setting, [(label, with_margin(net.graph, m)) for label, m in margins(net.graph, full, values)], cluster)
    if over == "timesteps":
        steps = range(1, net.graph.timesteps + 1) if values is None else [int(v) for v in values]
        if any(not 1 <= t <= net.graph.timesteps for t in steps):
            raise DeployError("--values", f"the net has {net.graph.timesteps} timesteps", f"use 1 to {net.graph.timesteps}")
        return _rows(net, setting, [(str(t), with_timesteps(net.graph, t)) for t in steps], cluster)
    if cluster is not None:
        raise DeployError("--cluster", f"--over {over} runs the net once", "leave it out, or use --over credit, exit or timesteps")
    record = net.run()
    work = workload_of(net.graph, record)
    if over == "bits":
        return [_figures(str(int(v)), net, record, coarser(work, int(v)), setting) for v in values or BITS]
    return [_figures(f"x {v:g}", net, record, work, setting, more_cores(work, setting.chip, v, op)) for v in values or CORES]


def more_cores(work: Workload, chip: Chip, factor: float, op: str | None) -> Mapping:
    """Every group (or that of `op` alone) on at least `factor` times its cores, as far as its neurons can be divided."""
    plain = map_to(work, chip)
    cuts = [finer(c, round(c.cores * factor)) if op in (None, c.group.name) else c for c in plain.cuts]
    return Mapping(chip, work, cuts)


def beside(one: Net, other: Net, setting: Setting) -> list[Row]:
    """Two nets on the same images."""
    if any(one.manifest[k] != other.manifest[k] for k in ("data", "dataset")):
        names = f"{one.manifest['name']} and {other.manifest['name']}"
        raise DeployError("--against", f"{names} have different data", "compare runs of one data set")
    return [_row(net, setting, net.manifest["name"], net.graph) for net in (one, other)]


def _rows(net: Net, setting: Setting, settings: list[tuple[str, Graph]], cluster: str | None) -> list[Row]:
    if cluster is None:
        return [_row(net, setting, *each) for each in settings]
    from spikegate.command.cluster import workers_of

    with workers_of(cluster) as workers:
        return workers.map(_row, settings, net, setting)


def _row(net: Net, setting: Setting, label: str, graph: Graph) -> Row:
    record = net.run(graph)
    return _figures(label, net, record, workload_of(graph, record), setting)


def _figures(label: str, net: Net, record: Record, work: Workload, setting: Setting, mapping: Mapping | None = None) -> Row:
    hw = on_chip(work, setting.chip, setting.tables, schedule=setting.schedule, method="greedy", mapping=mapping)
    prices = [price(record, NetInfo.from_manifest(net.manifest), t) for t in setting.tables]
    assert hw.times is not None
    cores = {g.name: c.cores for g, c in zip(work.groups, hw.mapping.cuts)}
    return {
        "value": label, "accuracy": record.accuracy, "mean_tokens": record.mean_tokens, "mean_timesteps": record.mean_timesteps,
        "chip_events": float(record.chip_events.mean()), "chip_pj": {p.table.name: p.chip_pj for p in prices},
        "host_pj": {p.table.name: p.host_pj for p in prices}, "placed_pj": {e.table.name: e.dynamic.value for e in hw.energies},
        "fits": hw.fits, "cores": hw.mapping.cores, "chips": hw.mapping.chips, "cores_by_op": cores,
        "memory_words": int(hw.mapping.words.sum()), "schedule": hw.times.schedule, "chip_steps": float(hw.times.steps.mean()),
        "latency_s": float(hw.times.sum_ns.mean()) * 1e-9, "interval_s": float(hw.times.interval_ns.mean()) * 1e-9,
    }


def _table(over: str, rows: list[Row], setting: Setting, net: Net) -> Table:
    """Rows as text; placed energies where only the placement changes."""
    kind = "placed_pj" if over in ("cores", "bits") else "chip_pj"
    title = f"{net.manifest['name']} over {over}, {net.images.described}, {setting.chip.name} (estimates)"
    out = Table(title=title, title_justify="left", box=None)
    names = [t.name for t in setting.tables]
    for column in (over, "accuracy", "tokens", "timesteps", "chip events", *names, "cores", "words", "schedule", "chip steps", "time"):
        out.add_column(column, justify="right")
    for r in rows:
        cells = [r["value"], f"{100 * r['accuracy']:.2f} %", f"{100 * r['mean_tokens']:.1f} %", digits(r["mean_timesteps"]),
                 count_text(r["chip_events"]), *(energy_text(r[kind][n]) for n in names), f"{r['cores']}{'' if r['fits'] else ' !'}",
                 f"{r['memory_words']:,}", r["schedule"], f"{r['chip_steps']:.1f}", time_text(r["latency_s"] * 1e9)]
        out.add_row(*cells)
    return out
