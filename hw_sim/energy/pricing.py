"""Events times prices: energy in pJ by op, timestep and counter, host and chip apart, and what could not be priced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import ACTIVE, HOST, INACTIVE, QUANTITIES, CostTable
from spikegate.hw_sim.energy.ledger import Ledger, NetInfo, book

COMPONENTS = ("synapses", "attention", "neurons", "messages", "gates", "host")
COMPONENT_OF = {
    "synop": "synapses",
    "spike_in": "messages",
    "attention_ac": "attention",
    "neuron_update": "neurons",
    "spike_out": "messages",
    "message": "messages",
    "gate_update": "gates",
}


@dataclass(frozen=True)
class Energy:
    """Energy per inference (mean over samples) by one cost table.

    Attributes
    ----------
    work_pj, gates_pj : float64 [T, ops, COUNTERS], the chip's work without the gates' own, and the gates' own
    host_pj : the host's embedding, executed once
    chip : all chip energy with the ends of its band
    chip_per_sample_pj : float64 [N], each sample's chip energy, gates included
    unpriced : counter -> mean events per inference that the table neither prices nor says that it leaves out
    """

    table: CostTable
    ops: list[str]
    work_pj: np.ndarray
    gates_pj: np.ndarray
    host_pj: float
    chip_per_sample_pj: np.ndarray
    unpriced: dict[str, float]
    chip: Band

    @property
    def energy_pj(self) -> np.ndarray:
        """Chip energy by timestep, op and counter, gates included, float64 [T, ops, COUNTERS]."""
        return self.work_pj + self.gates_pj

    @property
    def chip_pj(self) -> float:
        return float(self.energy_pj.sum())

    @property
    def gates_total_pj(self) -> float:
        """What halting itself costs."""
        return float(self.gates_pj.sum())

    @property
    def total_pj(self) -> float:
        return self.chip_pj + self.host_pj

    @property
    def partial(self) -> bool:
        """True if something happened that this table cannot price: the totals are then sums of a part."""
        return bool(self.unpriced)

    @property
    def left_out(self) -> list[str]:
        """Components of which the table says that it has no price for any of their events; their 0 is no measurement."""
        listed = [c for c in COMPONENTS[:-1] if all(n in self.table.leaves_out for n, to in COMPONENT_OF.items() if to == c)]
        return listed + ["host"] * (HOST in self.table.leaves_out)

    @property
    def components_pj(self) -> dict[str, float]:
        """Energy by `COMPONENTS`; they add up to `total_pj`."""
        out = dict.fromkeys(COMPONENTS, 0.0)
        for i, counter in enumerate(COUNTERS):
            out[COMPONENT_OF[counter]] += float(self.work_pj[..., i].sum())
        out["gates"] += self.gates_total_pj
        out["host"] = self.host_pj
        return out


def weights_pj(table: CostTable) -> np.ndarray:
    """Price of each quantity in pJ, float64 [QUANTITIES]; 0 where the table has none (see `unpriced`)."""
    return np.array([table.pj(q) or 0.0 for q in QUANTITIES])


def band_pj(events: np.ndarray, table: CostTable) -> Band:
    """Energy of events [QUANTITIES], with what it is at either end of the prices' bands."""
    ends = np.array([_ends(table, q) for q in QUANTITIES])
    return Band(float(events @ weights_pj(table)), float(events @ ends[:, 0]), float(events @ ends[:, 1]))


def _ends(table: CostTable, quantity: str) -> tuple[float, float]:
    """Price of a quantity at either end; active and inactive updates may share an entry."""
    counter = "neuron_update" if quantity in (ACTIVE, INACTIVE) else quantity
    name = quantity if quantity in table.prices else counter
    return table.ends_pj(name) if name in table.prices else (0.0, 0.0)


def unpriced(events: np.ndarray, host_macs: float, table: CostTable) -> dict[str, float]:
    """Counters with events [QUANTITIES] (or host MACs) that the table neither prices nor lists under `leaves_out`."""
    missing: dict[str, float] = {}
    for quantity, number in zip((*QUANTITIES, HOST), (*events, host_macs)):
        if number and table.pj(quantity) is None:
            counter = "neuron_update" if quantity in (ACTIVE, INACTIVE) else quantity
            missing[counter] = missing.get(counter, 0.0) + float(number)
    return missing


def price_ledger(ledger: Ledger, table: CostTable) -> Energy:
    """Price summed-up events; see `price`."""
    weights = weights_pj(table)
    n = max(1, ledger.samples)
    work, gates = (_by_counter(events * weights / n) for events in (ledger.work, ledger.gates))
    return Energy(
        table=table,
        ops=ledger.ops,
        work_pj=work,
        gates_pj=gates,
        host_pj=ledger.host_macs * (table.pj(HOST) or 0.0),
        chip_per_sample_pj=ledger.groups.sum((1, 2)) @ weights,
        unpriced=unpriced(ledger.total / n, ledger.host_macs, table),
        chip=band_pj(ledger.total / n, table),
    )


def price(record: Record, info: NetInfo, table: CostTable) -> Energy:
    """Energy per inference of a recorded run; nothing is estimated from rates."""
    return price_ledger(book(record, info), table)


def _by_counter(energy_pj: np.ndarray) -> np.ndarray:
    """[..., QUANTITIES] -> [..., COUNTERS]: active and inactive updates are one counter."""
    columns = []
    for counter in COUNTERS:
        parts = (ACTIVE, INACTIVE) if counter == "neuron_update" else (counter,)
        columns.append(sum(energy_pj[..., QUANTITIES.index(q)] for q in parts))
    return np.stack(columns, -1)
