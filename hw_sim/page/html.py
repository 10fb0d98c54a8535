"""The HTML page of a report: one file that fetches nothing, from the figures and tables of its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spikegate.data.shipped import images_text
from spikegate.fidelity import told
from spikegate.hw_sim.chip.placed_energy import host_io
from spikegate.hw_sim.energy.cost_tables import EVIDENCE, CostTable
from spikegate.hw_sim.energy.units import band_text, count_text, digits, saving_text
from spikegate.hw_sim.page import core_map, energy_figure, halting_figure, halting_maps, latency_figure, raster, saving_figure
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import Row, RunView, rows
from spikegate.hw_sim.tables.chip_tables import beside_lines, energy_cells, fit_line, noc_lines, sure_lines, time_text
from spikegate.hw_sim.tables.energy_tables import SKIPPED, fact_rows, partial_text

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Group:
    """Figures that belong together, side by side where there is room; `heading` may be empty."""

    heading: str
    figures: list[Figure]


Sections = dict[str, list[Group]]


def figures(views: list[RunView], tables: list[CostTable]) -> Sections:
    """Every figure by section, in the page's order; sections without a figure are left out."""
    side_by_side = rows(views)

    def by_run(of: Callable[[RunView], Iterable[Figure | None]]) -> list[Group]:
        return [group(s.label, of(s)) for s in views]

    found = {
        "energy": [group("", (energy_figure.by_component(side_by_side, t) for t in tables))],
        "ops": by_run(lambda s: (energy_figure.by_op(Row(s.label, s.main), t) for t in tables)),
        "saving": by_run(lambda s: (saving_figure.waterfall(s, t) for t in tables)),
        "tokens": [group("", (halting_figure.tokens(s) for s in views))],
        "spikes": [group("", (raster.raster(s) for s in views))],
        "cores": by_run(lambda s: (core_map.core_map(s), core_map.use_of_ops(s))),
        "latency": by_run(lambda s: (latency_figure.chip_steps(s), latency_figure.terms(s))),
    }
    return {name: kept for name, groups in found.items() if (kept := [g for g in groups if g.figures])}


def group(heading: str, found: Iterable[Figure | None]) -> Group:
    """Those figures that there are."""
    return Group(heading, [f for f in found if f is not None])


def render(views: list[RunView], tables: list[CostTable], sections: Sections, command: str) -> str:
    """The page as text; `command` repeats it."""
    env = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    side_by_side = rows(views)
    return env.get_template("report.html").render(
        title=" and ".join(s.label for s in views) if len(views) < 4 else f"{len(views)} runs",
        cards=[_card(s, tables) for s in views],
        notes=_notes(views),
        labels=[r.label for r in side_by_side],
        facts=fact_rows([r.net for r in side_by_side]) + _energies(side_by_side, tables),
        exact=[_exact(s) for s in views],
        imported=[(s.label, [_imported(r) for r in s.imported]) for s in views if s.imported],
        figures=sections,
        maps=[m for s in views if (m := halting_maps.maps(s)) is not None],
        placed=[_placed(s) for s in views if s.hardware is not None],
        chips=list({s.hardware.chip.name: s.hardware.chip for s in views if s.hardware is not None}.values()),
        tables=[_table(t, side_by_side) for t in tables],
        evidence=EVIDENCE,
        commands=_commands(views, command),
        nets=[_net(s) for s in views],
    )


def _card(s: RunView, tables: list[CostTable]) -> dict[str, Any]:
    """The headline of a run."""
    record, manifest, meta = s.main.record, s.net.manifest, s.main.record.meta
    facts = []
    if record.labels is not None:
        facts.append(("accuracy", f"{100 * record.accuracy:.2f} %", f"{s.main.ledger.samples:,} images"))
    if record.gates:
        facts.append(("tokens", f"{digits(100 * record.mean_tokens)} %", "of (timestep, block, token) cells"))
    facts.append(("timesteps", f"{record.mean_timesteps:.2f}", f"of {record.counts.shape[1]}, mean"))
    for table in tables:
        e = s.main.energy[table.name]
        remark = "partial, " if e.partial else ""
        remark += f"chip, {table.name}, estimate"
        if s.estimate.saving is not None:
            saving = s.estimate.saving
            remark += f"; {saving_text(saving.saved(table), saving.ends(table)[0])} against {s.baseline}"
        remark += f"; {band_text(e.skipped)} if idle neurons are not visited" if e.skipped != e.chip else ""
        facts.append(("energy per inference", band_text(e.chip), remark))
    if s.hardware is not None:
        m = s.hardware.mapping
        facts.append(("cores", str(m.cores), f"{m.chips} chip{'s' if m.chips > 1 else ''}, {s.hardware.title}"
                      + ("" if s.hardware.fits else "; does not fit")))
        if s.hardware.times is not None:
            facts.append(("time per inference", time_text(float(np.median(s.hardware.times.sum_ns))), f"median, {s.hardware.title}"))
    images = images_text(s.main.ledger.samples, meta.get("split", ""), manifest["dataset"], meta.get("shipped", False))
    return {
        "label": s.label, "facts": facts, "what": f"{manifest['model']} on {images}",
    }


def _notes(views: list[RunView]) -> list[str]:
    out = [f"{s.label}: {note}" if len(views) > 1 else note for s in views for note in s.notes]
    keys = {(s.net.manifest["dataset"], s.main.record.meta.get("split"), s.main.ledger.samples) for s in views}
    if len(keys) > 1:
        out.append("These runs were recorded on different images: do not compare their figures.")
    return out


def _energies(side_by_side: list[Row], tables: list[CostTable]) -> list[tuple[str, list[str]]]:
    def cells(table: CostTable, which: str) -> list[str]:
        energies = [r.net.energy[table.name] for r in side_by_side]
        return [("partial: " if e.partial else "") + band_text(getattr(e, which)) for e in energies]

    out = []
    for t in tables:
        name = f"{t.label.replace(' (estimate)', '')} (estimate)"
        out.append((f"chip energy, {name}", cells(t, "chip")))
        if out[-1][1] != cells(t, "skipped"):
            out.append((f"{SKIPPED}, {name}", cells(t, "skipped")))
    return out


def _imported(row: dict[str, Any]) -> tuple[str, str, str]:
    """A layer of an import: name, fidelity with the measured agreement, what changed."""
    share = row.get("agreement")
    word = told(str(row["fidelity"]), float(share) if isinstance(share, int | float) else float("nan"))
    return str(row.get("name", "")), word, "; ".join(map(str, row.get("notes", [])))


def _exact(s: RunView) -> dict[str, str]:
    """What is known of how exact a run's events are."""
    meta, found, examples = s.main.record.meta, s.compared, s.examples
    target = {"lava": "Lava processes", "int": "integer reference"}.get(str(meta.get("target")), str(meta.get("target", "unknown")))
    if found is None:
        text = f"not recorded; python deploy/compare.py {s.given}"
    elif found.get("equal"):
        text = f"equal: {' = '.join(found['targets'])}, {found['spikes']:,} spikes of {found['images']} images"
    else:
        text = f"differ ({', '.join(found['targets'])}): {(found.get('divergence') or {}).get('op', 'see deploy/compare.py')}"
    again = "not run again"
    if examples.compared:
        equal = f"same counters, masks, logits and exits on {examples.compared} images"
        again = f"differs in {examples.differs}" if examples.differs else equal
    rate = meta.get("images_per_s")
    return {"label": s.label, "target": target + (f", {rate:.1f} images/s" if rate else ""), "compared": text, "again": again,
            "bad": "yes" if examples.differs or (found is not None and not found.get("equal")) else ""}


def _placed(s: RunView) -> dict[str, Any]:
    hw = s.hardware
    assert hw is not None
    io = host_io(hw.mapping)
    host = f"host I/O is counted, not priced by any table: {count_text(io['events_in'])} events in, {count_text(io['words_out'])} words out"
    return {
        "label": s.label, "fit": fit_line(hw), "rows": [energy_cells(e) for e in hw.energies],
        "lines": [line[:1].upper() + line[1:].rstrip(".") + "." for line in (*noc_lines(hw), *beside_lines(hw), *sure_lines(hw), host)],
    }


def _table(table: CostTable, side_by_side: list[Row]) -> dict[str, Any]:
    missing = {k: v for r in side_by_side for k, v in r.net.energy[table.name].unpriced.items()}
    return {"table": table, "partial": partial_text(missing)}


def _commands(views: list[RunView], command: str) -> list[str]:
    out = []
    for s in views:
        meta = s.main.record.meta
        data = f"{meta.get('split', 'test')}:{s.main.ledger.samples}"
        base = f"python deploy/run.py {s.given} --data {data} --target {meta.get('target', 'int')}"
        out.append(base)
        if s.net.off is not None:
            out.append(f"{base} --halt off")
        if s.compared is not None:
            out.append(f"python deploy/compare.py {s.given} --data {s.compared['data']} --targets {','.join(s.compared['targets'])}")
    return [*out, command]


def _net(s: RunView) -> dict[str, str]:
    manifest = s.net.manifest
    return {"label": s.label, "name": manifest["name"], "model": manifest["model"], "sha": manifest["sha256"].get("model.net", "unknown")}
