"""The sweep command: run each setting on the integer reference, place and price it, write sweep-<what>.json, print a table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from convert import cli, engine
from convert.data import load_split
from convert.files import atomic
from convert.host import Host
from convert.ir import DeployError, Graph
from convert.manifest import read_manifest
from convert.netx import read_graph
from convert.ops.exit_gate import NEVER
from convert.record import Record
from convert.runs import find_export, run_of
from hw_sim.chip import Chip, load_chip
from hw_sim.cost_tables import CostTable, load_tables
from hw_sim.energy import price
from hw_sim.hardware import on_chip
from hw_sim.hardware_printing import time_text
from hw_sim.ledger import NetInfo
from hw_sim.mapping import Mapping, map_to
from hw_sim.placing import coarser
from hw_sim.splitting import finer
from hw_sim.units import count_text, digits, energy_text
from hw_sim.variants import CREDITS, margins, with_credit, with_margin, with_timesteps
from hw_sim.workload import Workload, workload_of

if TYPE_CHECKING:
    from hw_sim.sweep import Args

CORES, BITS = (1, 2, 4, 8), (8, 6, 4, 2)
Row = dict[str, Any]


@dataclass(frozen=True)
class Net:
    """An export with its first test images."""

    graph: Graph
    manifest: dict[str, Any]
    folder: Path
    embedded: np.ndarray
    labels: np.ndarray

    def run(self, graph: Graph | None = None, **more: Any) -> Record:
        return engine.run(graph or self.graph, self.embedded, self.labels, **more)


@dataclass(frozen=True)
class Setting:
    """Where things are placed and what prices them."""

    chip: Chip
    tables: list[CostTable]
    schedule: str


def sweep(args: Args) -> list[Row]:
    """Run, write and print; returns the rows.

    Raises
    ------
    DeployError
        No export, too few images, a setting that this net does not have, a bad chip profile or cost table.
    """
    net = open_net(args.run, args.images)
    setting = Setting(load_chip(args.chip), [t for t in load_tables(args.costs) if not t.counts_only], args.schedule)
    if not setting.tables:
        raise DeployError("--costs", "names no table with prices", "use paper45 or loihi1-davies")
    over = "runs" if args.against is not None else args.over
    rows = beside(net, open_net(args.against, args.images), setting) if args.against is not None else swept(net, setting, args)
    figures = {
        "schema": 1, "over": over, "images": len(net.labels), "chip": setting.chip.name, "op": args.op, "rows": rows,
        "net": net.manifest["name"], "energy": "pJ per inference; chip_pj: events, host_pj: embedding, placed_pj: with packets and hops",
    }
    folder = args.output or net.folder / "report"
    with atomic(folder / f"sweep-{over}.json") as part:
        part.write_text(json.dumps(figures, indent=2, sort_keys=True, default=float) + "\n")
    if args.json:
        cli.print_json(figures)
        return rows
    cli.console.print(_table(over, rows, setting, net))
    if over == "bits":
        cli.console.print("bits: memory and cores alone; the net was run with its own weights, so accuracy with fewer bits is not known.")
    cli.console.print(f"wrote {folder}/sweep-{over}.json", soft_wrap=True, markup=False)
    return rows


def open_net(given: Path | None, images: int) -> Net:
    """An export, and its first test images through the host's embedding."""
    export = find_export(given)
    manifest, graph = read_manifest(export), read_graph(export / "model.net")
    graph.check()
    x, labels = load_split(manifest["data"], "test")
    if not 1 <= images <= len(x):
        raise DeployError("--images", f"{images} of {len(x)} test images", f"use 1 to {len(x)}")
    return Net(graph, manifest, run_of(export), Host(export / "embedding.onnx").encode(x[:images]), labels[:images])


def swept(net: Net, setting: Setting, args: Args) -> list[Row]:
    """One row for each value of the setting that `args.over` names."""
    if args.op is not None and (args.over != "cores" or args.op not in net.graph.ops):
        hint = "it names an op of the net (see export.py --dry-run) for --over cores"
        raise DeployError("--op", f"{args.op!r} with --over {args.over}", hint)
    values = args.values
    if values is not None and any(v <= 0 for v in values):
        raise DeployError("--values", "are factors or numbers above 0", "for example --values 0.5 1 2")
    if args.over == "credit":
        return [_row(net, setting, f"x {v:g}", with_credit(net.graph, v)) for v in values or CREDITS]
    if args.over == "exit":
        full = net.run(with_margin(net.graph, np.full(net.graph.timesteps, NEVER)), spikes=net.graph.only("readout"))
        return [_row(net, setting, label, with_margin(net.graph, m)) for label, m in margins(net.graph, full, values)]
    if args.over == "timesteps":
        steps = range(1, net.graph.timesteps + 1) if values is None else [int(v) for v in values]
        if any(not 1 <= t <= net.graph.timesteps for t in steps):
            raise DeployError("--values", f"the net has {net.graph.timesteps} timesteps", f"use 1 to {net.graph.timesteps}")
        return [_row(net, setting, str(t), with_timesteps(net.graph, t)) for t in steps]
    record = net.run()
    work = workload_of(net.graph, record)
    if args.over == "bits":
        return [_figures(str(int(v)), net, record, coarser(work, int(v)), setting) for v in values or BITS]
    return [_figures(f"x {v:g}", net, record, work, setting, more_cores(work, setting.chip, v, args.op)) for v in values or CORES]


def more_cores(work: Workload, chip: Chip, factor: float, op: str | None) -> Mapping:
    """Every group (or that of `op` alone) on at least `factor` times its cores, as far as its neurons can be divided."""
    plain = map_to(work, chip)
    cuts = [finer(c, round(c.cores * factor)) if op in (None, c.group.name) else c for c in plain.cuts]
    return Mapping(chip, work, cuts)


def beside(one: Net, other: Net, setting: Setting) -> list[Row]:
    """Two nets on the same images."""
    if one.manifest["data"] != other.manifest["data"]:
        names = f"{one.manifest['name']} and {other.manifest['name']}"
        raise DeployError("--against", f"{names} have different data", "compare runs of one data set")
    return [_row(net, setting, net.manifest["name"], net.graph) for net in (one, other)]


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
    title = f"{net.manifest['name']} over {over}, {len(net.labels)} test images, {setting.chip.name} (estimates)"
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
