"""Energy of a placed net by one cost table: dynamic, static and total apart, host apart, with bands; refused where a price is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikegate.graph.ir import COUNTERS, INPUT
from spikegate.hw_sim.chip.latency import Latency
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.noc import Load, route
from spikegate.hw_sim.chip.placement import Placement
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import HOST, IDLE, PLACED, QUANTITIES, UPDATES, CostTable
from spikegate.hw_sim.energy.ledger import quantities
from spikegate.hw_sim.energy.pricing import COMPONENT_OF, unpriced

STATE_BYTES = 3  # a 24-bit membrane
COMPONENTS = ("synapses", "attention", "neurons", "idle visits", "packets", "hops", "gates", "memory")


@dataclass(frozen=True, eq=False)
class PlacedEnergy:
    """Mean energy per inference.

    Attributes
    ----------
    components : `COMPONENTS` -> Band; they add up to `dynamic`. "idle visits" are those of neurons that are not updated: every mapped
        neuron is visited in every chip step, those of halted tokens and, with `wait`, those whose turn it is not
    ops_pj : float64 [T, groups], the events' own energy (no packets, hops or memory)
    static : of all chips over an inference, None where the table has no static power for this chip
    host_pj : the host's embedding; None if it has no price. Host I/O has none in any table
    unpriced : counter -> mean events without a price
    """

    table: CostTable
    components: dict[str, Band]
    ops_pj: np.ndarray
    static: Band | None
    host_pj: float | None
    unpriced: dict[str, float]
    left_out: list[str] = field(default_factory=list)

    @property
    def counts_only(self) -> bool:
        return self.table.counts_only

    @property
    def dynamic(self) -> Band:
        return sum(self.components.values(), Band())

    @property
    def idle_visits(self) -> Band:
        return self.components["idle visits"]

    @property
    def dynamic_if_skipped(self) -> Band:
        """Dynamic energy of a chip that does not visit neurons that are not updated."""
        return self.dynamic - self.idle_visits

    @property
    def total(self) -> Band | None:
        """Dynamic and static; None (refused) if events have no price, if there is no static power, or if the table only counts."""
        if self.unpriced or self.static is None or self.counts_only:
            return None
        return self.dynamic.ordered + self.static  # static power has a band of its own

    @property
    def label(self) -> str:
        return self.table.label

    def to_json(self) -> dict[str, Any]:
        total, skipped = self.total, None if self.counts_only else self.dynamic_if_skipped.to_json()
        reason = (
            f"no price for {', '.join(self.unpriced)}" if self.unpriced
            else "counts only" if self.counts_only else "no static power for this chip in this table" if self.static is None else ""
        )
        return {
            "label": self.label, "dynamic_pj": None if self.counts_only else self.dynamic.to_json(),
            "components_pj": {n: b.to_json() for n, b in self.components.items()}, "partial": bool(self.unpriced),
            "static_pj": None if self.static is None else self.static.to_json(), "total_pj": None if total is None else total.to_json(),
            "total_refused": reason, "idle_visits_pj": self.idle_visits.to_json(),
            "dynamic_if_skipped_pj": skipped, "host_embedding_pj": self.host_pj, "host_io_pj": None,
            "unpriced_events": self.unpriced, "left_out": self.left_out, "ops_pj": self.ops_pj.sum(0).tolist(),
            "timesteps_pj": self.ops_pj.sum(1).tolist(),
        }


def price_placed(mapping: Mapping, placement: Placement, table: CostTable, times: Latency | None, host_macs: int = 0) -> PlacedEnergy:
    """Price a placed workload. Messages are booked as packets, one for each core that an event goes to, hops by the placement."""
    work = mapping.work
    events = quantities(work.counts).sum(0) / max(1, work.samples)  # [T, groups, QUANTITIES]
    events[..., QUANTITIES.index("message")] = 0
    traffic = mapping.traffic.sum(0)
    load = route(placement.mesh, placement.slots, traffic)
    out = dict.fromkeys(COMPONENTS, Band())
    waits = times is not None and times.schedule == "wait"
    waiting = work.depth if waits else work.interval  # chip steps from one timestep to the next
    spare = float((waiting * work.visits.sum() - work.count("neuron_update").sum()) / max(1, work.samples))
    sums = np.where(np.array(QUANTITIES) == IDLE, max(0.0, spare), events.sum((0, 1)))
    for q, number in zip(QUANTITIES, sums):
        component = COMPONENT_OF["neuron_update" if q in UPDATES else q]
        out["packets" if component == "messages" else component] += _band(table, table.entry(q), number)
    out["packets"] += _band(table, "message", load.packets)
    out["hops"] += _hops(mapping, placement, table, load, traffic)
    out["memory"] += _memory(mapping, table)
    missing = unpriced(sums, host_macs, table)
    if load.packets and table.pj("message") is None:
        missing["message"] = load.packets
    weights = np.array([table.pj(q) or 0.0 for q in QUANTITIES])
    left = [n for n in (*COUNTERS, HOST) if n in table.leaves_out] + [n for n in PLACED if n not in table.placed]
    host = None if HOST not in table.prices else host_macs * table.prices[HOST].pj
    static = None if times is None else _static(mapping, table, times)
    return PlacedEnergy(table, out, events @ weights, static, host, missing, left)


def host_io(mapping: Mapping) -> dict[str, float]:
    """Events that cross the chip's edge per inference: what the host sends, and what ops without a reader send."""
    work = mapping.work
    read = {p.source for g in work.groups for p in g.projections}
    fed = [i for i, g in enumerate(work.groups) if any(p.source == INPUT for p in g.projections)]
    last = [i for i, g in enumerate(work.groups) if g.name not in read]
    received, sent = (work.mean[..., COUNTERS.index(c)].sum(0) for c in ("spike_in", "spike_out"))
    return {"events_in": float(received[fed].sum()), "words_out": float(sent[last].sum())}


def _band(table: CostTable, name: str, number: float) -> Band:
    price = table.prices.get(name) or table.placed.get(name)
    return Band() if price is None else Band(number * price.pj, *(number * v for v in table.ends_pj(name)))


def _hops(mapping: Mapping, placement: Placement, table: CostTable, load: Load, traffic: np.ndarray) -> Band:
    band = _band(table, "hop_x", load.hops_x) + _band(table, "hop_y", load.hops_y)
    if "bit_hop" in table.placed:
        bits = np.array([g.payload_bits for g in mapping.work.groups])[mapping.group_of]
        band += _band(table, "bit_hop", route(placement.mesh, placement.slots, traffic * bits[:, None]).hops)
    return band


def _memory(mapping: Mapping, table: CostTable) -> Band:
    """Accesses times their price, which grows with the memory on the core (linear between the table's points, flat outside)."""
    if not table.memory_pj:
        return Band()
    size, pj = np.array(table.memory_pj).T
    counts = mapping.counts.sum(0)
    adds = counts[:, COUNTERS.index("synop")] + counts[:, COUNTERS.index("attention_ac")]
    updates = counts[:, COUNTERS.index("neuron_update")]
    weights = float(adds @ np.interp(mapping.words * 8, size, pj))
    states = float((adds + updates) @ np.interp(mapping.neurons * STATE_BYTES, size, pj))
    return _band(table, "weight_access", weights) + _band(table, "state_access", states)


def _static(mapping: Mapping, table: CostTable, times: Latency) -> Band | None:
    """All chips' static power over one inference; unused cores included."""
    entry = mapping.chip.power["static_chip"]
    if mapping.chip.name not in table.chips or entry.value is None:
        return None
    seconds = float(times.interval_ns.mean()) * 1e-9
    low, high = entry.band
    return Band(*(w * mapping.chips * seconds * 1e12 for w in (entry.value, low, high)))
