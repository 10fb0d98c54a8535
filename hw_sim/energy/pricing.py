"""Events times prices: energy in pJ by op, timestep and counter, host and chip apart, and what could not be priced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.engine.record import Record
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import COLUMNS, HOST, IDLE, QUANTITIES, UPDATES, CostTable, counter_of
from spikegate.hw_sim.energy.ledger import Ledger, NetInfo, book

COMPONENTS = ("synapses", "attention", "neurons", "idle visits", "messages", "gates", "host")
COMPONENT_OF = {
    "synop": "synapses",
    "spike_in": "messages",
    "attention_ac": "attention",
    "neuron_update": "neurons",
    "spike_out": "messages",
    "message": "messages",
    "gate_update": "gates",
    IDLE: "idle visits",
}


@dataclass(frozen=True)
class Energy:
    """Energy per inference (mean over samples) by one cost table.

    Attributes
    ----------
    work_pj, gates_pj : float64 [T, ops, COLUMNS], the chip's work without the gates' own, and the gates' own
    host_pj : the host's embedding, executed once
    chip : all chip energy with the ends of its band; visits to idle neurons are in it
    skipped : the same on a chip that does not visit neurons that have nothing to update
    visits_known : whether the number of idle visits is known; else both are the same
    bands : component -> its energy with the ends of its band (`COMPONENTS` without the host)
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
    skipped: Band
    visits_known: bool
    bands: dict[str, Band]

    @property
    def energy_pj(self) -> np.ndarray:
        """Chip energy by timestep, op and column, gates included, float64 [T, ops, COLUMNS]."""
        return self.work_pj + self.gates_pj

    @property
    def chip_pj(self) -> float:
        return float(self.energy_pj.sum())

    @property
    def gates_total_pj(self) -> float:
        """What halting itself costs."""
        return float(self.gates_pj.sum())

    @property
    def total(self) -> Band:
        """Chip and host; the host's price has its own band, taken at the same end."""
        low, high = (self.table.ends_pj(HOST) if HOST in self.table.prices else (0.0, 0.0))
        macs = self.host_pj / self.table.prices[HOST].pj if self.host_pj else 0.0
        return self.chip.ordered + Band(self.host_pj, macs * low, macs * high)

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
        missing = {c: [n for n, to in COMPONENT_OF.items() if to == c] for c in COMPONENTS[:-1]}
        listed = [c for c, parts in missing.items() if all(counter_of(n) in self.table.leaves_out for n in parts)]
        return listed + ["host"] * (HOST in self.table.leaves_out)

    @property
    def components_pj(self) -> dict[str, float]:
        """Energy by `COMPONENTS`; they add up to `total_pj`."""
        return {**{n: b.value for n, b in self.bands.items()}, "host": self.host_pj}


def weights_pj(table: CostTable) -> np.ndarray:
    """Price of each quantity in pJ, float64 [QUANTITIES]; 0 where the table has none (see `unpriced`)."""
    return np.array([table.pj(q) or 0.0 for q in QUANTITIES])


def band_pj(events: np.ndarray, table: CostTable) -> Band:
    """Energy of events [QUANTITIES], with what it is at either end of the prices' bands."""
    ends = np.array([_ends(table, q) for q in QUANTITIES])
    return Band(float(events @ weights_pj(table)), float(events @ ends[:, 0]), float(events @ ends[:, 1]))


def _ends(table: CostTable, quantity: str) -> tuple[float, float]:
    """Price of a quantity at either end."""
    name = table.entry(quantity)
    return table.ends_pj(name) if name in table.prices else (0.0, 0.0)


def unpriced(events: np.ndarray, host_macs: float, table: CostTable) -> dict[str, float]:
    """Counters with events [QUANTITIES] (or host MACs) that the table neither prices nor lists under `leaves_out`."""
    missing: dict[str, float] = {}
    for quantity, number in zip((*QUANTITIES, HOST), (*events, host_macs)):
        if number and table.pj(quantity) is None:
            counter = counter_of(quantity)
            missing[counter] = missing.get(counter, 0.0) + float(number)
    return missing


def price_ledger(ledger: Ledger, table: CostTable) -> Energy:
    """Price summed-up events; see `price`."""
    weights = weights_pj(table)
    n = max(1, ledger.samples)
    work, gates = (_by_column(events * weights / n) for events in (ledger.work, ledger.gates))
    total = ledger.total / n
    return Energy(
        table=table,
        ops=ledger.ops,
        work_pj=work,
        gates_pj=gates,
        host_pj=ledger.host_macs * (table.pj(HOST) or 0.0),
        chip_per_sample_pj=ledger.groups.sum((1, 2)) @ weights,
        unpriced=unpriced(total, ledger.host_macs, table),
        chip=band_pj(total, table),
        skipped=band_pj(without_visits(total), table),
        visits_known=ledger.visits,
        bands=_components(ledger, table),
    )


def without_visits(events: np.ndarray) -> np.ndarray:
    """Events [..., QUANTITIES] as a chip has them that does not visit idle neurons."""
    return np.where(np.array([q == IDLE for q in QUANTITIES]), 0, events)


def _components(ledger: Ledger, table: CostTable) -> dict[str, Band]:
    """Energy by component of the chip, each with its band; the bands of a table's parts add up end by end."""
    work, gates = (x.sum((0, 1)) / max(1, ledger.samples) for x in (ledger.work, ledger.gates))
    of = np.array([COMPONENT_OF["neuron_update" if q in UPDATES else q] for q in QUANTITIES])
    bands = {c: band_pj(np.where(of == c, work, 0), table) for c in COMPONENTS[:-1]}
    return bands | {"gates": bands["gates"] + band_pj(gates, table)}


def price(record: Record, info: NetInfo, table: CostTable) -> Energy:
    """Energy per inference of a recorded run; nothing is estimated from rates."""
    return price_ledger(book(record, info), table)


def _by_column(energy_pj: np.ndarray) -> np.ndarray:
    """[..., QUANTITIES] -> [..., COLUMNS]: active and inactive updates are one column."""
    columns = []
    for column in COLUMNS:
        parts = UPDATES if column == "neuron_update" else (column,)
        columns.append(sum(energy_pj[..., QUANTITIES.index(q)] for q in parts))
    return np.stack(columns, -1)
