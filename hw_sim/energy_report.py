"""The estimate command: read events, price them, write energy.json, the figures and report.html, print."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from spikegate.command import cli
from spikegate.files import atomic
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError
from spikegate.hw_sim import foreign, on_cores
from spikegate.hw_sim.chip import hardware
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.energy.measured import find_measured, find_static
from spikegate.hw_sim.energy.summary import to_json
from spikegate.hw_sim.page import html
from spikegate.hw_sim.page.run_view import label_of, view_of
from spikegate.hw_sim.page.svg import standalone
from spikegate.hw_sim.side_by_side import priced, text_of
from spikegate.hw_sim.tables.chip_tables import delay_text
from spikegate.hw_sim.tables.chip_tables import show as show_hardware
from spikegate.hw_sim.tables.energy_tables import show


def run(run: Path | None, static: Path | None, costs: list[str], output: Path | None, *, as_json: bool = False, chip: str | None = None,
        schedule: str = "auto") -> Path:
    """Price a run's events and write its report; returns the report's folder.

    Raises
    ------
    DeployError
        No export or events, damaged files, a bad cost table, a static twin that does not fit, a bad chip profile,
        a folder that cannot be written.
    """
    tables = priced(costs)
    if run is not None and run.suffix == ".net" and run.is_file():
        raise DeployError(str(run), "is a net; energy is priced from recorded events", f"python deploy/run.py {run} --input x.npy")
    if run is not None and foreign.is_foreign(run):
        if static is not None or chip is not None:
            raise DeployError("--static, --chip", f"{run} is the run of a NetX file, which is priced by events alone", "leave them out")
        return foreign.run(run, tables, output, as_json=as_json)
    net = find_measured(run)
    if static is not None and not net.halting:
        raise DeployError("--static", f"{net.run} is itself static", "give the halting run as RUN, its static twin as --static")
    twin = find_static(net, static) if net.halting else None
    s = view_of(net, label_of(net), twin, tables, chip=None, images=8, again=False)
    figures = to_json(s.estimate)
    if chip is not None:
        hw = on_cores.of_measured(net, read_graph(net.export / "model.net"), load_chip(chip), tables, schedule)
        s = dataclasses.replace(s, hardware=hw, work=hw.mapping.work)
        figures["hardware"] = hardware.to_json(hw)
        s.notes.extend(delay_text(hw))
    s.notes.append(f"Spikes, cores, latency, and several runs side by side: python hw_sim/report.py {s.given}")
    folder = output or net.run / "report"
    drawn = html.figures([s], tables)
    svgs = {f"{f.name}.svg": standalone(f.svg) for groups in drawn.values() for g in groups for f in g.figures}
    command = shlex.join(["python", "hw_sim/estimate.py", s.given, "--costs", *costs, *(["--chip", chip] if chip else [])])
    content = {"energy.json": text_of(figures), **svgs, "report.html": html.render([s], tables, drawn, command)}
    for name, text in content.items():
        with atomic(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    if as_json:
        cli.print_json(figures)
        return folder
    show(s.estimate, cli.console)
    if s.hardware is not None:
        show_hardware(s.hardware, cli.console)
    cli.console.print(f"wrote {folder}/report.html, energy.json, {', '.join(svgs)}", soft_wrap=True, markup=False)
    return folder
