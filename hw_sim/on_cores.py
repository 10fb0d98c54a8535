"""The place command: read net and events, put them on a chip, write hardware.json, print."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from spikegate.command import cli
from spikegate.command.runs import ROOT, find_export, run_of
from spikegate.files import atomic
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Graph
from spikegate.hw_sim import by_image
from spikegate.hw_sim.chip import ledger_file
from spikegate.hw_sim.chip.groups import Group
from spikegate.hw_sim.chip.hardware import Hardware, on_chip, to_json
from spikegate.hw_sim.chip.papers import at_rate, shapes
from spikegate.hw_sim.chip.profile import Chip, load_chip
from spikegate.hw_sim.chip.workload import Workload, unrun, workload_of
from spikegate.hw_sim.energy.cost_tables import CostTable, load_tables
from spikegate.hw_sim.energy.measured import Measured, find_measured
from spikegate.hw_sim.energy.units import energy_text
from spikegate.hw_sim.tables.chip_tables import rate_lines, rates, show, time_text


@dataclass(frozen=True)
class Placeable:
    """What to place: a workload, its title, where its report goes, a note for the user, and the run that was recorded, if one was."""

    work: Workload
    title: str
    folder: Path
    host_macs: int = 0
    note: str = ""
    run: Path | None = None


def of_run(given: Path | None) -> Placeable:
    """An exported net, with its events if some were recorded.

    Raises
    ------
    DeployError
        No export, or damaged files.
    """
    export = find_export(given)
    graph, manifest = read_graph(export / "model.net"), read_manifest(export, verify=False)
    folder = run_of(export)
    macs, title = int(manifest["host_macs"]), f"{manifest['name']} ({manifest['model']})"
    if (folder / "deploy" / "events.npz").is_file():
        work = workload_of(graph, find_measured(export).record)
        return Placeable(work, f"{title} on {work.samples} recorded images", folder / "report", macs, run=export)
    note = f"No events recorded: cores only. For time and energy: python deploy/run.py {given or export}"
    return Placeable(unrun(graph), title, folder / "report", macs, note)


def of_paper(name: str, rate: float, timesteps: int) -> Placeable:
    """Shapes of a paper's net at one firing rate; see `spikegate.hw_sim.chip.papers`."""
    work = at_rate(shapes(name), rate, timesteps)
    note = "Nothing was run: shapes and one firing rate. The host's first convolution is left out."
    return Placeable(work, f"{name}, every neuron at rate {rate:g}, {timesteps} timesteps", ROOT / name / "report", note=note)


def run(net: Placeable, chip: str, costs: list[str], output: Path | None, *, schedule: str = "auto", placement: str = "optimised",
        sweep: str = "none", as_json: bool = False, noc: str = "none", images: int = 0,
        rate: float | None = None) -> Path:
    """Place a net and write RUN/report/hardware.json, with events also ledger.json; returns the folder.

    Raises
    ------
    DeployError
        A bad chip profile or cost table, a schedule that this net cannot have, a network simulator that cannot be had.
    """
    profile, tables = load_chip(chip), load_tables(costs)
    folder, work = output or net.folder, net.work
    hw = on_chip(work, profile, tables, schedule=schedule, method=placement, host_macs=net.host_macs)
    figures = to_json(hw) | {"name": net.title, "note": net.note}
    if rate is not None:
        if hw.times is None:
            raise DeployError("--frames-per-second", "needs recorded events", "python deploy/run.py RUN --target int")
        figures["at_rate"] = {n: r.to_json() for n, r in rates(hw, rate).items()}
    rows = sweep_rows(work, profile, tables, sweep, schedule, placement)
    simulated = None
    if noc != "none":
        from spikegate.hw_sim.sanafe import detailed

        if net.run is None:
            raise DeployError("--noc", "has no events to replay", "name a run with recorded events: python deploy/run.py RUN --target int")
        figures["network_detail"] = simulated = detailed.detailed(net.run, hw, tables, noc)
    if images:
        if net.run is None or images < 0:
            raise DeployError("--by-image", "needs recorded events and a number of images", "python deploy/run.py RUN --target int")
        figures["by_image"] = by_image.of_run(net.run, hw, images)
    if rows:
        figures["sweep"] = {"over": sweep, "rows": rows}
    write(folder, figures)
    written = [f"{folder}/hardware.json"]
    if work.samples:
        with atomic(folder / "ledger.json") as part:
            part.write_text(json.dumps(ledger_file.to_json(hw.mapping), sort_keys=True) + "\n")
        written.append("ledger.json")
    if as_json:
        cli.print_json(figures)
        return folder
    cli.console.print(net.title, markup=False)
    show(hw, cli.console)
    for line in [] if rate is None else rate_lines(hw, rate):
        cli.console.print(line, markup=False, soft_wrap=True)
    if images:
        by_image.show(figures["by_image"], cli.console)
    if simulated is not None:
        detailed.show(simulated, cli.console)
    if rows:
        cli.console.print(_sweep_table(sweep, rows))
    for line in (net.note, f"wrote {', '.join(written)}"):
        if line:
            cli.console.print(line, soft_wrap=True, markup=False)
    return folder


def write(folder: Path, figures: dict[str, Any]) -> None:
    """hardware.json, atomically."""
    with atomic(folder / "hardware.json") as part:
        part.write_text(json.dumps(figures, indent=2, sort_keys=True, default=float) + "\n")


def of_measured(net: Measured, export_graph: Graph, chip: Chip, tables: list[CostTable], schedule: str) -> Hardware:
    """The hardware part of an estimate."""
    return on_chip(workload_of(export_graph, net.record), chip, tables, schedule=schedule, host_macs=int(net.manifest["host_macs"]))


def truncated(work: Workload, timesteps: int) -> Workload:
    """The same run stopped after so many timesteps; the decision is then the one that it would have made there."""
    return dataclasses.replace(
        work, counts=work.counts[:, :timesteps], activity={n: a[:timesteps] for n, a in work.activity.items()},
        alive={n: a[:timesteps] for n, a in work.alive.items()}, exit_step=np.minimum(work.exit_step, timesteps),
        graded={n: v[:, :timesteps] for n, v in work.graded.items()},
    )


def coarser(work: Workload, bits: int) -> Workload:
    """The same events with weights stored in at most so many bits; the net's accuracy with them is not known here."""

    def stored(group: Group) -> Group:
        return dataclasses.replace(group, projections=tuple(dataclasses.replace(p, bits=min(p.bits, bits)) for p in group.projections))

    return dataclasses.replace(work, groups=[stored(g) for g in work.groups])


def sweep_rows(work: Workload, chip: Chip, tables: list[CostTable], over: str, schedule: str, placement: str) -> list[dict[str, Any]]:
    """One row per setting: cores, chips, time, energy by each table that prices any."""
    cases: list[tuple[int, Workload, Chip]] = []
    if over == "timesteps" and work.samples:
        cases = [(t, truncated(work, t), chip) for t in range(1, work.timesteps + 1)]
    elif over == "bits":
        cases = [(b, coarser(work, b), chip) for b in (8, 6, 4, 2)]
    elif over == "neurons":
        cases = [(n, work, _smaller(chip, n)) for n in _steps(chip)]
    rows = []
    for value, case, profile in cases:
        hw = on_chip(case, profile, tables, schedule=schedule, method=placement)
        energy = {e.table.name: e.dynamic.value for e in hw.energies if not e.counts_only}
        times = None if hw.times is None else float(hw.times.sum_ns.mean()) * 1e-9
        rows.append({"value": value, "fits": hw.fits, "cores": hw.mapping.cores, "chips": hw.mapping.chips, "latency_s": times,
                     "dynamic_pj": energy})
    return rows


def _steps(chip: Chip) -> list[int]:
    most = chip.limit("neurons_per_core") or 1024
    return [n for n in (most, most // 2, most // 4, most // 8, most // 16, most // 32) if n]


def _smaller(chip: Chip, neurons: int) -> Chip:
    """The chip with no more than so many neurons on a core: the same net on more cores."""
    limits = dict(chip.limits)
    for name in ("neurons_per_core", "neurons_per_conv_core"):
        limits[name] = limits[name].model_copy(update={"value": float(min(neurons, chip.limit(name) or neurons))})
    return chip.model_copy(update={"limits": limits})


def _sweep_table(over: str, rows: list[dict[str, Any]]) -> Table:
    out = Table(title=f"sweep over {over}", title_justify="left")
    names = list(rows[0]["dynamic_pj"])
    for column in (over, "fits", "cores", "chips", "time", *names):
        out.add_column(column, justify="right")
    for r in rows:
        time = "" if r["latency_s"] is None else time_text(r["latency_s"] * 1e9)
        out.add_row(str(r["value"]), "yes" if r["fits"] else "no", str(r["cores"]), str(r["chips"]), time,
                    *(energy_text(r["dynamic_pj"][n]) for n in names))
    return out
