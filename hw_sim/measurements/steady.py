"""A workload of one chip step in which every layer is busy, from the mean rate of each layer: what a net does that always runs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spikegate.graph.ir import COUNTERS, INPUT
from spikegate.hw_sim.chip.groups import Group
from spikegate.hw_sim.chip.reach import landing
from spikegate.hw_sim.chip.splitting import Cut
from spikegate.hw_sim.chip.workload import Workload


def steady(groups: list[Group], rates: Mapping[str, float]) -> Workload:
    """One sample of one timestep; `rates` are spikes per neuron and step by group (compartments beside the map's send none)."""
    fires = {g.name: np.full((g.positions, g.channels), rates[g.name]) for g in groups}
    counts = np.zeros((1, 1, len(groups), len(COUNTERS)), np.int64)
    for i, g in enumerate(groups):
        whole = Cut(g, g.grid[1], g.grid[0], g.channels, 0)
        sources = [p for p in g.projections if p.source != INPUT]
        readers = sum(p.source == g.name for h in groups for p in h.projections)
        spikes = float(fires[g.name].sum())
        values = {
            "synop": sum(float(landing(p, fires[p.source], whole).sum()) for p in sources if p.taps is not None),
            "spike_in": sum(float(fires[p.source].sum()) for p in sources), "neuron_update": g.neurons, "spike_out": spikes,
            "message": spikes * readers,
        }
        for name, value in values.items():
            counts[0, 0, i, COUNTERS.index(name)] = round(value)
    activity = {n: a[None] for n, a in fires.items()}
    return Workload(groups, counts, activity, {}, np.array([1]), recorded=frozenset(activity))
