"""Delay lines that a schedule needs: what is early waits on the chip, in the delays of its axons, or else in relay neurons."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.graph.ir import COUNTERS, INPUT
from spikegate.hw_sim.chip.groups import Group, Projection
from spikegate.hw_sim.chip.profile import Chip
from spikegate.hw_sim.chip.workload import Workload

LINE = ".late"  # ends the name of a group of relay neurons, before its number


@dataclass(frozen=True)
class Delay:
    """The line behind one source, shared by its readers: longest delay in chip steps, values held at once and their bits."""

    source: str
    steps: int
    cells: int
    bits: int


def delay_lines(work: Workload, schedule: str) -> list[Delay]:
    """By source, in graph order; the same as `spikegate.engine.chip_time.schedule.Schedule.delays` (a test holds them together)."""
    size = {INPUT: work.host} | {g.name: (g.positions * g.channels, g.payload_bits) for g in work.groups}
    apart, longest = _apart(work, schedule), dict.fromkeys(size, 0)
    for (source, _), late in _waits(work, schedule).items():
        longest[source] = max(longest[source], late)
    out = []
    for source, steps in longest.items():
        values, bits = size[source]
        cells = -(-steps // apart) * values
        if cells:
            out.append(Delay(source, steps, cells, cells * bits))
    return out


def _apart(work: Workload, schedule: str) -> int:
    """Chip steps from one timestep to the next."""
    return work.depth if schedule == "wait" else work.interval


def _waits(work: Workload, schedule: str) -> dict[tuple[str, str], int]:
    """(source, reader) -> chip steps that the source's events come too early."""
    level = {INPUT: 0} | {g.name: g.level for g in work.groups}
    back, apart, out = set(work.back), _apart(work, schedule), {}
    for g in work.groups:
        for p in g.projections:
            if p.source in level:
                out[p.source, g.name] = g.level - 1 - level[p.source] + (apart if (p.source, g.name) in back else 0)
    return out


def stages_for(steps: int, axon: int) -> int:
    """Relay neurons one after the other that a delay takes: each waits one step, and as many as its axons can."""
    return max(0, -(-(steps - axon) // (axon + 1)))


def with_relays(work: Workload, schedule: str, chip: Chip) -> Workload:
    """The workload with groups of relay neurons for what waits longer than the chip's axons can; the same where all fits.

    The host sends when its readers are ready, so its integers need no line. A relay neuron takes one event in and sends it on, with one
    accumulate; it is visited in every chip step, as every neuron is.
    """
    axon, waits = chip.limit("axon_delay") or 0, _waits(work, schedule)
    most = {g.name: 0 for g in work.groups}
    for (source, _), late in waits.items():
        if source in most:
            most[source] = max(most[source], stages_for(late, axon))
    if not any(most.values()):
        return work
    groups, counts, depth = [], [], work.depth
    activity, recorded = dict(work.activity), set(work.recorded)
    at = {c: i for i, c in enumerate(COUNTERS)}
    for i, g in enumerate(work.groups):
        through = tuple(_from_line(p, stages_for(waits.get((p.source, g.name), 0), axon) if p.source in most else 0) for p in g.projections)
        groups.append(dataclasses.replace(g, projections=through))
        counts.append(work.counts[:, :, i])
        for k in range(1, most[g.name] + 1):
            name = f"{g.name}{LINE}{k}"
            before = g.name if k == 1 else f"{g.name}{LINE}{k - 1}"
            level = min(depth, g.level + k * (axon + 1))
            groups.append(Group(name, "delay", g.grid, g.channels, (Projection(before, "direct", name),), payload_bits=g.payload_bits,
                                payload_binary=g.payload_binary, level=level))
            own = np.zeros_like(counts[0])
            spikes = work.counts[:, :, i, at["spike_out"]]
            for c in ("spike_in", "synop", "spike_out", "message"):
                own[..., at[c]] = spikes
            own[..., at["neuron_update"]] = np.minimum(spikes, g.positions * g.channels)
            counts.append(own)
            activity[name] = work.activity[g.name]
            if g.name in work.recorded:
                recorded.add(name)
    order = sorted(range(len(groups)), key=lambda j: groups[j].level)  # a relay may stand before readers that the graph lists earlier
    made = np.stack([counts[j] for j in order], 2)
    return dataclasses.replace(work, groups=[groups[j] for j in order], counts=made, activity=activity, recorded=frozenset(recorded))


def _from_line(p: Projection, stages: int) -> Projection:
    return p if not stages else dataclasses.replace(p, source=f"{p.source}{LINE}{stages}")


def to_json(work: Workload, schedule: str, chip: Chip) -> dict[str, Any]:
    """Sums, by source, and where each line lies: with the host, in the axons, in relay neurons behind them. `work` without relays."""
    lines, axon = delay_lines(work, schedule), chip.limit("axon_delay") or 0
    sizes = {g.name: g.positions * g.channels for g in work.groups}
    relays = {d.source: stages_for(d.steps, axon) * sizes[d.source] for d in lines if d.source in sizes}

    def place(d: Delay) -> str:
        return "host" if d.source == INPUT else "relay neurons" if relays[d.source] else "axon delays"

    sources = {d.source: {"steps": d.steps, "values": d.cells, "bits": d.bits, "place": place(d), "relay_neurons": relays.get(d.source, 0)}
               for d in lines}
    return {
        "steps": max((d.steps for d in lines), default=0), "values": sum(d.cells for d in lines), "bits": sum(d.bits for d in lines),
        "axon_delay": axon, "relay_neurons": sum(relays.values()), "sources": sources, "placed": True, "priced": True,
    }  # fmt: skip
