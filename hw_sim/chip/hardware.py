"""Everything that a chip profile says of a net: fit, cores, mesh, time, energy, and how sure each figure is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.graph.ir import COUNTERS
from spikegate.hw_sim.chip import delays
from spikegate.hw_sim.chip.beside import beside
from spikegate.hw_sim.chip.fit import RESOURCES, Violation, limits, used, utilisation, violations
from spikegate.hw_sim.chip.latency import Latency, latency, schedule_for
from spikegate.hw_sim.chip.mapping import Mapping, map_to
from spikegate.hw_sim.chip.noc import Load, route
from spikegate.hw_sim.chip.placed_energy import PlacedEnergy, host_io, price_placed
from spikegate.hw_sim.chip.placement import Placement, place
from spikegate.hw_sim.chip.profile import Chip
from spikegate.hw_sim.chip.workload import LOIHI, NEUROBENCH, Workload
from spikegate.hw_sim.energy.cost_tables import CostTable

SUBJECT = {"loihi1": "Loihi 1 estimate", "loihi2": "Loihi 2 estimate"}


@dataclass(frozen=True, eq=False)
class Hardware:
    """A workload on a chip; `times` and `energies` are missing where nothing was recorded.

    `work` is the workload as given; that of the mapping has relay neurons beside it, where delays are too long for the chip's axons.
    """

    mapping: Mapping
    placement: Placement
    load: Load
    violations: list[Violation]
    times: Latency | None
    energies: list[PlacedEnergy]
    method: str
    schedule: str
    work: Workload

    @property
    def chip(self) -> Chip:
        return self.mapping.chip

    @property
    def title(self) -> str:
        return SUBJECT.get(self.chip.name, f"{self.chip.name} estimate")

    @property
    def fits(self) -> bool:
        return not self.violations


def on_chip(work: Workload, chip: Chip, tables: list[CostTable], *, schedule: str = "auto", method: str = "optimised", host_macs: int = 0,
            seed: int = 0, mapping: Mapping | None = None) -> Hardware:
    """Cut (unless a `mapping` is given), place, time and price a workload.

    Raises
    ------
    DeployError
        A schedule that this net cannot have.
    """
    schedule = schedule_for(mapping or Mapping(chip, work, []), schedule)
    mapping = mapping or map_to(delays.with_relays(work, schedule, chip), chip)
    placement = place(mapping, method, seed)
    times = latency(mapping, placement, schedule) if work.samples else None
    energies = [price_placed(mapping, placement, t, times, host_macs) for t in tables] if work.samples else []
    load = route(placement.mesh, placement.slots, mapping.traffic.sum(0))
    return Hardware(mapping, placement, load, violations(mapping), times, energies, method, schedule, work)


def to_json(hw: Hardware) -> dict[str, Any]:
    """All figures; means per inference unless named otherwise."""
    mapping, work = hw.mapping, hw.mapping.work
    ran = bool(work.samples)
    return {
        "schema": 1, "title": hw.title, "chip": hw.chip.model_dump(mode="json", by_alias=True), "fits": hw.fits, "cores": mapping.cores,
        "chips": mapping.chips, "violations": [vars(v) for v in hw.violations], "utilisation": utilisation(mapping),
        "cores_detail": _cores(hw), "placement": hw.method, "network_on_chip": _network(hw) if ran else None,
        "ledger": _ledger(hw) if ran else None, "time": None if hw.times is None else hw.times.to_json(),
        "delay_lines": delays.to_json(hw.work, hw.schedule, hw.chip),
        "energy": {e.table.name: e.to_json() for e in hw.energies}, "host_io": host_io(mapping) if ran else None,
        "beside": None if hw.times is None else beside(mapping, hw.times).to_json(),
        "names": {"neurobench": NEUROBENCH, "loihi_profiler": LOIHI},
        "activity": "recorded" if len(work.recorded) == len(work.groups) else "spread evenly where it was not recorded",
    }


def _network(hw: Hardware) -> dict[str, Any]:
    load = hw.load
    return {
        "packets": load.packets, "within_tile": load.within_tile, "hops": load.hops, "hops_x": load.hops_x, "hops_y": load.hops_y,
        "between_chips": load.between_chips, "mean_hops": load.hops / load.packets if load.packets else 0.0,
        "hop_histogram": load.histogram.tolist(), "hot_spots": load.hot_spots(),
    }


def _ledger(hw: Hardware) -> dict[str, Any]:
    """Counts per inference in total, by op and by timestep, under our names; `names` has the field's."""
    work, mapping = hw.mapping.work, hw.mapping
    sums = {k: v.sum(1).mean() for k, v in work.ledger().items()}
    packets = mapping.traffic.sum((0, 2))
    by_group = np.bincount(mapping.group_of, packets, minlength=len(work.groups))
    ops = {}
    for i, g in enumerate(work.groups):
        row = dict(zip(COUNTERS, work.mean[:, i].sum(0).tolist()))
        bits = row["spike_out"] * g.payload_bits
        visits = float(work.visits[:, :, i].sum()) / work.samples
        graded = float(work.graded[g.name].sum() / work.samples) if g.name in work.graded else None
        ops[g.name] = row | {"packet": float(by_group[i]), "payload_bits": bits, "visits_all_mapped": visits, "graded_sum": graded}
    return {
        "total": {**sums, "packet": float(packets.sum()), "exit_step": float(work.exit_step.mean())}, "ops": ops,
        "timesteps": {c: work.mean[:, :, k].sum(1).tolist() for k, c in enumerate(COUNTERS)},
    }


def _cores(hw: Hardware) -> list[dict[str, Any]]:
    """One row per core: op, place, use of each limit, and Loihi's own counters per inference."""
    mapping, mesh = hw.mapping, hw.placement.mesh
    use, most = used(mapping), limits(mapping)
    x, y = mesh.xy(hw.placement.slots)
    counts, sent = mapping.counts.sum(0), mapping.traffic.sum((0, 2))
    at = {c: k for k, c in enumerate(COUNTERS)}
    return [
        {
            "core": c, "op": mapping.work.groups[mapping.group_of[c]].name, "chip": int(hw.placement.slots[c] // mesh.cores_per_chip),
            "tile": [int(x[c]), int(y[c])],
            **{n: {"used": int(use[n][c]), "max": None if np.isinf(most[n][c]) else int(most[n][c])} for n in RESOURCES},
            "syn_ops": float(counts[c, at["synop"]] + counts[c, at["attention_ac"]]),
            "dendrite_updates": float(counts[c, at["neuron_update"]]),
            "axon_out": float(sent[c]) if mapping.work.samples else 0.0,
        }
        for c in range(mapping.cores)
    ]
