"""Energy by cost model, component, op and timestep."""

from __future__ import annotations

import numpy as np

from spikegate.hw_sim.energy.cost_tables import COLUMNS, CostTable
from spikegate.hw_sim.energy.pricing import COMPONENT_OF, COMPONENTS, Energy
from spikegate.hw_sim.energy.units import band_text, energy_text, unit_for
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import Row
from spikegate.hw_sim.page.svg import WIDTH, Canvas, axis, ident, wide
from spikegate.hw_sim.tables.energy_tables import component_text, partial_text

LABEL, BAR = 104.0, 96.0  # width of the op names and of their bars
CELL = 15.0


def by_component(rows: list[Row], table: CostTable) -> Figure:
    """One bar a net, split by component; the host's embedding apart."""
    energies = [(r.label, r.net.energy[table.name]) for r in rows]
    used = [n for n in COMPONENTS if any(e.components_pj[n] for _, e in energies)]
    top = max((e.total.high for _, e in energies), default=0.0)
    factor, unit = unit_for(top)
    c = Canvas(0)
    y = c.legend((n, n) for n in used) + 2
    first, width = y, WIDTH - 62
    for label, e in energies:
        c.text(0, y + 10, label, within=WIDTH)
        x = 0.0
        for name in used:
            value = e.components_pj[name]
            w = width * value / top if top else 0.0
            c.rect(x, y + 15, w, 14, name, tip=f"{label}, {name}: {energy_text(value)}")
            x += w
        c.text(x + 4, y + 26, energy_text(e.total_pj), "b")
        if top and e.total.low != e.total.high:
            c.line(width * e.total.low / top, y + 31.5, width * e.total.high / top, y + 31.5, "edge")
        y += 38
    axis(c, 0, width, top / factor, first, y - 4, f"energy per inference in {unit} (estimate)")
    c.height = y + 24
    parts = "; ".join(f"{label}: {band_text(e.total)}" for label, e in energies)
    left = sorted({n for _, e in energies for n in e.left_out})
    missing = {k: v for _, e in energies for k, v in e.unpriced.items()}
    says = "Mean estimated energy of one inference, chip and host embedding, by what it is spent on"
    says += "; a line below a bar is the band of the whole." if any(e.total.low != e.total.high for _, e in energies) else "."
    if left:
        says += f" This table has no price for {', '.join(left)}: their bars are missing, not small."
    columns = ["", *COMPONENTS[:-1], "chip", "chip, if idle neurons are not visited", "host", "total"]
    data = [
        [label, *(component_text(e, n) for n in COMPONENTS[:-1]), band_text(e.chip), band_text(e.skipped),
         "left out" if "host" in e.left_out else energy_text(e.host_pj), band_text(e.total)]
        for label, e in energies
    ]
    name = f"energy-{ident(table.name)}"
    alt = f"Stacked bars, energy per inference by {table.label}. {parts}."
    note = f"Partial, {partial_text(missing)}: the sums are of a part." if missing else ""
    return Figure(name, table.label, says, c.svg(name, alt), columns, data, note)


def components_of(e: Energy) -> np.ndarray:
    """Chip energy in pJ by timestep, op and component (without the host), float64 [T, ops, COMPONENTS - 1]."""
    out = np.zeros((*e.work_pj.shape[:2], len(COMPONENTS) - 1))
    for i, counter in enumerate(COLUMNS):
        out[..., COMPONENTS.index(COMPONENT_OF[counter])] += e.work_pj[..., i]
    out[..., COMPONENTS.index("gates")] += e.gates_pj.sum(2)
    return out


def by_op(row: Row, table: CostTable) -> Figure:
    """For each op a bar by component, and a cell for each timestep."""
    energy = row.net.energy[table.name]
    parts = components_of(energy)
    steps = parts.shape[0]
    whole, cells = parts.sum((0, 2)), parts.sum(2)  # [ops], [T, ops]
    used = [i for i, n in enumerate(COMPONENTS[:-1]) if parts[..., i].any()]
    top, peak = float(whole.max(initial=0)) or 1.0, float(cells.max(initial=0)) or 1.0
    c = Canvas(0)
    y = c.legend((COMPONENTS[i], COMPONENTS[i]) for i in used) + 14
    left = LABEL + BAR + 8
    width = (WIDTH - left) / steps
    values = width >= wide("88.8 nJ", 8)
    c.text(LABEL, y - 4, "per inference", "s", size=9)
    for t in range(steps):
        c.text(left + (t + 0.5) * width, y - 4, f"t {t + 1}" if width > 20 else str(t + 1), "s", anchor="middle", size=9)
    for i, op in enumerate(energy.ops):
        c.text(0, y + 10.5, op, within=LABEL - 4, size=9.5)
        x = LABEL
        for k in used:
            w = BAR * parts[:, i, k].sum() / top
            c.rect(x, y + 2, w, CELL - 4, COMPONENTS[k], tip=f"{op}, {COMPONENTS[k]}: {energy_text(parts[:, i, k].sum())}")
            x += w
        for t in range(steps):
            share = cells[t, i] / peak
            at = left + t * width
            shade = 0.06 + 0.94 * share if cells[t, i] else 0.0
            tip = f"{op}, timestep {t + 1}: {energy_text(cells[t, i])}"
            c.rect(at + 0.5, y + 0.5, width - 1, CELL - 1, "accent", opacity=shade, tip=tip)
            if values and cells[t, i]:
                c.text(at + width / 2, y + 10.5, energy_text(cells[t, i]), "on" if shade > 0.5 else "in", anchor="middle", size=7.8)
        y += CELL
    c.height = y + 2
    name = f"ops-{ident(row.label)}-{ident(table.name)}"
    order = np.argsort(-whole)[:3]
    first = ", ".join(f"{energy.ops[i]} {energy_text(whole[i])}" for i in order)
    alt = f"{row.label} by {table.label}: energy of {len(energy.ops)} ops over {steps} timesteps. Most goes to {first}."
    says = f"Chip energy (estimate) of each op: bars by component, then one cell for each timestep. Most goes to {first}."
    columns = ["op", *(COMPONENTS[i] for i in used), *(f"timestep {t + 1}" for t in range(steps)), "all"]
    data = [
        [op, *(energy_text(parts[:, i, k].sum()) for k in used), *(energy_text(v) for v in cells[:, i]), energy_text(whole[i])]
        for i, op in enumerate(energy.ops)
    ]
    return Figure(name, table.label, says, c.svg(name, alt), columns, data)
