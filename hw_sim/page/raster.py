"""Spike raster of an image: every op's neurons from left to right, its timesteps from top to bottom."""

from __future__ import annotations

import numpy as np

from spikegate.hw_sim.energy.ledger import GATE_KINDS
from spikegate.hw_sim.energy.units import digits
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import RunView
from spikegate.hw_sim.page.svg import WIDTH, Canvas, ident, num, runs_of

LABEL, ROW, SPACE = 104.0, 4.0, 5.0
BINS = 512  # neurons beyond it share a place: no screen shows more
SILENT = (*GATE_KINDS, "readout", "current")  # kinds that send words, not spikes
MARKS = 60_000  # at most; bins get wider until there are fewer


def raster(view: RunView) -> Figure | None:
    """The last example image's spikes; None where no spikes are known."""
    kinds = dict(zip(view.main.record.ops, view.main.record.kinds))
    spikes = {n: v for n, v in view.examples.spikes.items() if v.ndim >= 2 and kinds.get(n) not in SILENT}
    if not spikes:
        return None
    bins = BINS
    while bins > 32 and sum(_marks(v, bins) for v in spikes.values()) > MARKS:
        bins //= 2
    sample = int(view.examples.sample)
    exits = int(view.main.record.exit_step[sample])
    dead = _dead(view)
    c = Canvas(0)
    steps = max(len(v) for v in spikes.values())
    marks = [("mark", "spike"), *[("lost", "neurons of halted tokens")] * bool(dead), *[("panel", "after the exit")] * (exits < steps)]
    y = c.legend(marks) + 3
    width = WIDTH - LABEL
    data = []
    shared = False
    for name, value in spikes.items():
        flat = value.reshape(len(value), -1) != 0
        number = flat.shape[1]
        shared |= number > bins
        high = len(value) * ROW
        c.text(0, y + high / 2 + 3.5, name, within=LABEL - 5, size=9.5)
        c.rect(LABEL, y, width, high, "box")
        path = ""
        for t in range(len(value)):
            top = y + t * ROW
            if t >= exits:
                c.rect(LABEL, top, width, ROW, "panel")
                continue
            if name in dead and value.ndim == 3 and value.shape[1] == dead[name].shape[1]:
                for a, n in runs_of(dead[name][t]):
                    scale = width / value.shape[1]
                    c.rect(LABEL + a * scale, top, n * scale, ROW, "lost")
            places, unit = _binned(flat[t], bins)
            path += "".join(f"M{num(LABEL + a * unit * width)} {num(top + ROW / 2)}h{num(n * unit * width)}" for a, n in runs_of(places))
        c.raw(f'<path class="spikes" stroke-width="{num(ROW * 0.8)}" d="{path}"><title>{name}: {int(flat.sum())} spikes</title></path>')
        data.append([name, f"{number:,}", *(f"{int(v):,}" for v in flat.sum(1)), f"{digits(100 * float(flat[:exits].mean()))} %"])
        y += high + SPACE
    c.height = y
    total = sum(int((v != 0).sum()) for v in spikes.values())
    name = f"spikes-{ident(view.label)}"
    says = f"Spikes of image {sample + 1} ({view.examples.source}): neurons from left to right (token by token), timesteps downwards."
    if any((np.abs(v) > 1).any() for v in spikes.values()):
        says += " A graded event is one mark, whatever its value."
    if shared:
        says += f" Where an op has more than {bins} neurons, neighbours share a mark."
    alt = f"{view.label}: raster of {total:,} spikes of {len(spikes)} ops over {steps} timesteps."
    columns = ["op", "neurons", *(f"spikes, timestep {t + 1}" for t in range(steps)), "active"]
    return Figure(name, view.label, says, c.svg(name, alt), columns, data)


def _binned(row: np.ndarray, bins: int) -> tuple[np.ndarray, float]:
    """(which places have a spike, width of a place as a share of the row)."""
    per = -(-len(row) // bins)
    return np.logical_or.reduceat(row, np.arange(0, len(row), per)), per / len(row)


def _marks(value: np.ndarray, bins: int) -> int:
    return sum(len(runs_of(_binned(row, bins)[0])) for row in value.reshape(len(value), -1) != 0)


def _dead(view: RunView) -> dict[str, np.ndarray]:
    """Op -> which tokens of the image are halted where a gate acts on the op, bool [T, tokens]."""
    record = view.main.record
    if view.work is None or not record.gates:
        return {}
    at = {g: k for k, g in enumerate(record.gates, 1)}
    out = {}
    for group in view.work.groups:
        entry = 0 if group.gate.startswith("~") else at.get(group.gate)
        if group.gate and entry is not None:
            out[group.name] = ~record.alive[view.examples.sample, :, entry]
    return out
