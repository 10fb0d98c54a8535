"""`estimate.py --where`: where halting saves events, from the runs with and without it; prints two tables, writes where.json."""

from __future__ import annotations

from pathlib import Path

from spikegate.command import cli
from spikegate.command.runs import named
from spikegate.files import atomic
from spikegate.graph.ir import DeployError
from spikegate.hw_sim import foreign
from spikegate.hw_sim.energy.measured import find_measured
from spikegate.hw_sim.energy.where import where
from spikegate.hw_sim.side_by_side import text_of
from spikegate.hw_sim.tables.where_table import show


def run(run: Path | None, output: Path | None, *, as_json: bool = False) -> Path:
    """Compare a halting run with the same without halting; returns the folder with where.json.

    Raises
    ------
    DeployError
        No export or events, a static net, or no run without halting.
    """
    if run is not None and (run.suffix == ".net" or foreign.is_foreign(run)):
        raise DeployError(str(run), "is no export of a net that halts", "name a run folder, an export, or zoo:<name>")
    net = find_measured(run)
    if not net.halting:
        raise DeployError(str(net.run), "is static: nothing halts", "name a run that halts")
    if net.off is None:
        raise DeployError(str(net.run), "was not run without halting", f"python deploy/run.py {named(net.export)} --halt off")
    found = where(net.record, net.off, net.info.embedding_ops, net.info.sources)
    folder = output or net.run / "report"
    with atomic(folder / "where.json") as part:
        part.write_text(text_of(found.to_json()), encoding="utf-8")
    if as_json:
        cli.print_json(found.to_json())
        return folder
    show(found, cli.console)
    cli.console.print(f"wrote {folder}/where.json", soft_wrap=True, markup=False)
    return folder
