"""The estimate command: read events, price them, write energy.json, the drawings and report.html, print."""

from __future__ import annotations

import json
from pathlib import Path

from convert import cli
from convert.files import atomic
from convert.ir import DeployError
from convert.netx import read_graph
from convert.runs import find_export
from hw_sim.chip import load_chip
from hw_sim.cost_tables import load_tables, names
from hw_sim.measured import find_measured, find_static, read_images
from hw_sim.printing import show
from hw_sim.summary import estimate, to_json


def run(run: Path | None, static: Path | None, costs: list[str], output: Path | None, *, as_json: bool = False, chip: str | None = None,
        schedule: str = "auto") -> Path:
    """Price a run's events and write its report; returns the report's folder.

    Raises
    ------
    DeployError
        No export or events, damaged files, a bad cost table, a static twin that does not fit, a bad chip profile,
        a folder that cannot be written.
    """
    if not costs:
        raise DeployError("--costs", "names no cost table", f"known: {', '.join(names())}")
    tables = load_tables(costs)
    bare = [t.name for t in tables if t.counts_only]
    if bare:
        raise DeployError("--costs", f"table {bare[0]} only counts", "the counts are printed with any table; name one that has prices")
    net = find_measured(run)
    if static is not None and not net.halting:
        raise DeployError("--static", f"{net.run} is itself static", "give the halting run as RUN, its static twin as --static")
    twin = find_static(net, static) if net.halting else None
    images = read_images(net)
    result = estimate(net, twin, tables)
    figures = to_json(result)
    hw = None
    if chip is not None:
        from hw_sim import hardware, placing

        hw = placing.of_measured(net, read_graph(find_export(run) / "model.net"), load_chip(chip), tables, schedule)
        figures["hardware"] = hardware.to_json(hw)
    folder = output or net.run / "report"
    from hw_sim.report import drawings, render  # matplotlib is slow to import, and not needed to refuse a command

    drawn = drawings(result)
    page = render(result, drawn, images)
    with atomic(folder / "energy.json") as part:
        part.write_text(json.dumps(figures, indent=2, sort_keys=True, default=float) + "\n")
    for name, svg in drawn.items():
        with atomic(folder / f"{name}.svg") as part:
            part.write_text(svg, encoding="utf-8")
    with atomic(folder / "report.html") as part:
        part.write_text(page, encoding="utf-8")
    if as_json:
        cli.print_json(figures)
        return folder
    show(result, cli.console)
    if hw is not None:
        from hw_sim.hardware_printing import show as show_hardware

        show_hardware(hw, cli.console)
    cli.console.print(f"wrote {folder}/report.html, energy.json, {', '.join(f'{n}.svg' for n in drawn)}", soft_wrap=True, markup=False)
    return folder
