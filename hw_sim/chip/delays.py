"""Delay lines that a schedule needs: what is early waits on the chip. Counted from the placed groups; no table has a price for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spikegate.graph.ir import INPUT
from spikegate.hw_sim.chip.profile import Chip
from spikegate.hw_sim.chip.workload import Workload


@dataclass(frozen=True)
class Delay:
    """The line behind one source, shared by its readers: longest delay in chip steps, values held at once and their bits."""

    source: str
    steps: int
    cells: int
    bits: int


def delay_lines(work: Workload, schedule: str) -> list[Delay]:
    """By source, in graph order; the same as `spikegate.engine.chip_time.schedule.Schedule.delays` (a test holds them together)."""
    level = {INPUT: 0} | {g.name: g.level for g in work.groups}
    size = {INPUT: work.host} | {g.name: (g.positions * g.channels, g.payload_bits) for g in work.groups}
    apart = work.depth if schedule == "wait" else work.interval
    back, longest = set(work.back), dict.fromkeys(level, 0)
    for g in work.groups:
        for p in g.projections:
            if p.source in level:
                late = apart if (p.source, g.name) in back else 0
                longest[p.source] = max(longest[p.source], g.level - 1 - level[p.source] + late)
    out = []
    for source, steps in longest.items():
        values, bits = size[source]
        cells = -(-steps // apart) * values
        if cells:
            out.append(Delay(source, steps, cells, cells * bits))
    return out


def to_json(work: Workload, schedule: str, chip: Chip) -> dict[str, Any]:
    """Sums, by source, and how many more cores the values would take as relay neurons, one for each."""
    lines = delay_lines(work, schedule)
    cells = sum(d.cells for d in lines)
    most = chip.limit("neurons_per_core") or 1
    sources = {d.source: {"steps": d.steps, "values": d.cells, "bits": d.bits} for d in lines}
    return {
        "steps": max((d.steps for d in lines), default=0), "values": cells, "bits": sum(d.bits for d in lines),
        "cores_as_relay_neurons": -(-cells // most), "sources": sources, "placed": False, "priced": False,
    }  # fmt: skip
