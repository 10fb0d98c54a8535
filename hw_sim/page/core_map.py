"""Where a net lies on a chip: use of each core, load of each link, and the fullest core of each op."""

from __future__ import annotations

import numpy as np

from spikegate.hw_sim.chip.fit import RESOURCES, limits, used, utilisation
from spikegate.hw_sim.chip.hardware import Hardware
from spikegate.hw_sim.chip.noc import DIRECTIONS
from spikegate.hw_sim.energy.units import count_text
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import RunView
from spikegate.hw_sim.page.svg import WIDTH, Canvas, ident, ticks

AWAY = ((1, 0), (-1, 0), (0, 1), (0, -1))  # of `DIRECTIONS`, in tiles
THICKEST = 7.0
LABEL = 104.0


def core_map(view: RunView) -> Figure | None:
    """The mesh: a square for each core, shaded by its fullest resource; lines between tiles as thick as their packets are many."""
    hw = view.hardware
    if hw is None:
        return None
    mesh, mapping = hw.placement.mesh, hw.mapping
    pitch = WIDTH / (mesh.width + 0.1)
    tile = pitch * 0.66
    c = Canvas(0)
    top = 14.0
    full = fullest(hw)
    x, y = mesh.xy(hw.placement.slots)
    peak = float(hw.load.links.max(initial=0))

    def centre(column: float, row: float) -> tuple[float, float]:
        return (column + 0.5) * pitch + 0.05 * pitch, top + (row + 0.5) * pitch

    for d, (dx, dy) in enumerate(AWAY):
        for row, column in zip(*np.nonzero(hw.load.links[d])):
            load = float(hw.load.links[d, row, column])
            (x0, y0), (x1, y1) = centre(column, row), centre(column + dx, row + dy)
            side = 0.16 * pitch  # the two directions of a link run beside each other
            ox, oy = (-dy * side, dx * side)
            tip = f"tile ({column}, {row}) {DIRECTIONS[d]}: {count_text(load)} packets per inference"
            thick = 0.6 + THICKEST * pitch / 45 * load / peak
            c.line(x0 + ox, y0 + oy, x1 + ox, y1 + oy, "link", width=thick, opacity=0.35 + 0.65 * load / peak, tip=tip)
    per = int(np.ceil(mesh.cores_per_tile**0.5))
    size = tile / per
    filled = set()
    for core in range(mapping.cores):
        slot = int(hw.placement.slots[core])
        filled.add(slot)
        _core(c, *_corner(mesh, slot, centre, tile, size, per), size, min(1.0, float(full[core])),
              f"core {core}: {mapping.work.groups[mapping.group_of[core]].name}, {100 * full[core]:.0f} % of its fullest resource")
    for slot in range(mesh.slots):
        if slot not in filled:
            left, up = _corner(mesh, slot, centre, tile, size, per)
            c.rect(left, up, size - 1, size - 1, "empty")
    bottom = top + mesh.height * pitch + 4
    for k, v in enumerate((0.05, 0.25, 0.5, 0.75, 1.0)):
        c.rect(k * 16, bottom + 3, 15, 8, "accent", opacity=0.1 + 0.9 * v)
    c.text(84, bottom + 11, "core: 5 to 100 % full", "s", size=9.5)
    c.line(214, bottom + 7, 236, bottom + 7, "link", width=4)
    c.text(240, bottom + 11, f"link: up to {count_text(peak)}", "s", size=9.5, within=WIDTH - 240)
    c.text(0, 9, f"{mapping.cores} of {mesh.slots} cores, {mapping.chips} chip{'s' if mapping.chips > 1 else ''}", "s", size=9.5)
    c.height = bottom + 16
    name = f"cores-{ident(view.label)}"
    spot = hw.load.hot_spots(1)
    says = f"{hw.title}: squares are cores, shaded by their fullest resource; orange lines are links between tiles, as thick as their load."
    if spot:
        s = spot[0]
        most = f"{count_text(s['packets'])} packets per inference"
        says += f" The fullest link leaves tile ({s['x']}, {s['y']}) to the {s['direction']} with {most}."
    alt = f"{view.label} on {mapping.cores} cores of {hw.chip.name}; the fullest core is at {100 * full.max():.0f} %."
    data = [
        [str(i), mapping.work.groups[mapping.group_of[i]].name, f"({int(x[i])}, {int(y[i])})",
         *(f"{int(used(mapping)[r][i]):,}" for r in RESOURCES), f"{100 * full[i]:.0f} %"]
        for i in range(mapping.cores)
    ]
    columns = ["core", "op", "tile", *(r.replace("_", " ") for r in RESOURCES), "fullest"]
    return Figure(name, "Cores and links", says, c.svg(name, alt), columns, data, _broken(hw))


def fullest(hw: Hardware) -> np.ndarray:
    """Use of each core's fullest resource of those with a known limit, float64 [cores]."""
    use, most = used(hw.mapping), limits(hw.mapping)
    return np.max([use[r] / most[r] for r in RESOURCES], axis=0)


def use_of_ops(view: RunView) -> Figure | None:
    """Fullest core of each op."""
    hw = view.hardware
    if hw is None:
        return None
    rows = utilisation(hw.mapping)
    c = Canvas(0)
    y = 14.0
    width = WIDTH - LABEL - 46
    top = max(1.0, *(r["fullest"] for r in rows))
    end = 14 + 15 * len(rows)
    for v in ticks(top, 4):
        c.line(LABEL + width * v / top, 10, LABEL + width * v / top, end, "grid")
        c.text(LABEL + width * v / top, 7, f"{100 * v:.0f} %", "s", anchor="middle", size=9)
    if top > 1:
        c.line(LABEL + width / top, 10, LABEL + width / top, end, "second", tip="100 %: what a core holds")
    for r in rows:
        c.text(0, y + 10, r["op"], within=LABEL - 5, size=9.5)
        most = max((n for n in RESOURCES if r[n]["max"]), key=lambda n: r[n]["used"] / r[n]["max"])
        tip = f"{r['op']}: {r[most]['used']:,} of {r[most]['max']:,} {most.replace('_', ' ')}"
        c.rect(LABEL, y + 2, width * r["fullest"] / top, 10, "main" if r["fullest"] <= 1 else "spent", tip=tip)
        number = f"{r['cores']} core{'s' if r['cores'] > 1 else ''}"
        c.text(LABEL + width * r["fullest"] / top + 4, y + 10, number, "s", size=9)
        y += 15
    c.height = end + 3
    name = f"use-{ident(view.label)}"
    says = f"Use of each op's fullest core, of the resource that is scarcest there; {hw.chip.name}."
    alt = f"{view.label}: fullest cores by op, at most {100 * max(r['fullest'] for r in rows):.0f} %."
    data = [
        [r["op"], r["kind"], str(r["cores"]), *(f"{r[n]['used']:,}" + (f" of {r[n]['max']:,}" if r[n]["max"] else "") for n in RESOURCES),
         f"{100 * r['fullest']:.0f} %"]
        for r in rows
    ]
    columns = ["op", "type", "cores", *(r.replace("_", " ") for r in RESOURCES), "fullest"]
    return Figure(name, "Fullest core of each op", says, c.svg(name, alt), columns, data)


def _broken(hw: Hardware) -> str:
    if hw.fits:
        return ""
    more = f" and {len(hw.violations) - 3} more" if len(hw.violations) > 3 else ""
    return "Does not fit: " + "; ".join(f"{v.op} {v.what}" for v in hw.violations[:3]) + more


def _corner(mesh, slot: int, centre, tile: float, size: float, per: int) -> tuple[float, float]:
    """Upper left corner of a core's square within its tile."""
    column, row = (int(v[0]) for v in mesh.xy(np.array([slot])))
    cx, cy = centre(column, row)
    down, right = divmod(slot % mesh.cores_per_tile, per)
    return cx - tile / 2 + right * size, cy - tile / 2 + down * size


def _core(c: Canvas, x: float, y: float, size: float, share: float, tip: str) -> None:
    c.rect(x, y, size - 1, size - 1, "page")
    c.rect(x, y, size - 1, size - 1, "accent", opacity=0.1 + 0.9 * share, tip=tip)
