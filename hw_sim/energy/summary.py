"""All figures of a report as one JSON-ready dict; energies carry their unit in the name (`_pj`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.command.runs import named
from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS
from spikegate.hw_sim.energy.cost_tables import ACTIVE, COLUMNS, INACTIVE, QUANTITIES, CostTable
from spikegate.hw_sim.energy.ledger import Ledger, book
from spikegate.hw_sim.energy.measured import Measured
from spikegate.hw_sim.energy.pricing import Energy, price_ledger
from spikegate.hw_sim.energy.saving import Saving, split

ONCE = ("level_conv",)  # kinds that work at the first timestep only
LABELS = {"static": "static", "halt_off": "adaptive, halting off", "adaptive": "adaptive"}


@dataclass(frozen=True)
class Priced:
    """One net: its record, its events summed up and its energy by each table."""

    measured: Measured
    record: Record
    ledger: Ledger
    energy: dict[str, Energy]


@dataclass(frozen=True)
class Estimate:
    """Everything that is shown. `nets` holds some of "static", "halt_off", "adaptive", in this order; `main` is the net that was named."""

    main: str
    nets: dict[str, Priced]
    tables: list[CostTable]
    saving: Saving | None
    notes: list[str]


def estimate(net: Measured, static: Measured | None, tables: list[CostTable]) -> Estimate:
    """Price a net, the same without halting, and its static twin, and split the saving."""

    def priced(measured: Measured, record: Record) -> Priced:
        ledger = book(record, measured.info)
        return Priced(measured, record, ledger, {t.name: price_ledger(ledger, t) for t in tables})

    if not net.halting:
        return Estimate("static", {"static": priced(net, net.record)}, tables, None, ["This net is static: nothing halts."])
    nets, notes = {}, []
    if static is not None:
        nets["static"] = priced(static, static.record)
    else:
        dataset = net.manifest["dataset"]
        notes.append(f"No static twin was found: no static run on {dataset} with events of the same images (--static RUN names one).")
    if net.off is not None:
        nets["halt_off"] = priced(net, net.off)
    else:
        notes.append(f"Token and timestep halting cannot be separated yet: python deploy/run.py {named(net.export)} --halt off")
    nets["adaptive"] = priced(net, net.record)
    ledgers = {k: v.ledger for k, v in nets.items()}
    saving = split(ledgers["adaptive"], ledgers.get("halt_off"), ledgers.get("static"), net.record.exit_step, ledgers["adaptive"].kinds)
    return Estimate("adaptive", nets, tables, saving, notes)


def dense_ops(net: Priced) -> int:
    """Accumulates per inference if every input were active at every timestep, the host's MACs included."""
    steps, info = net.record.counts.shape[1], net.measured.info
    chip = sum(info.dense_ops[n] * (1 if k in ONCE else steps) for n, k in zip(net.ledger.ops, net.ledger.kinds))
    return chip + info.host_macs


def neurobench(net: Priced) -> dict[str, Any]:
    """NeuroBench's names: operations per inference (ACs on the chip, MACs on the host) and the share of silent neuron updates."""
    n = net.ledger.samples
    total = dict(zip(QUANTITIES, net.ledger.total.tolist()))
    updates = total[ACTIVE] + total[INACTIVE]
    return {
        "synaptic_operations": {
            "Effective_ACs": (total["synop"] + total["attention_ac"]) / n,
            "Effective_MACs": net.measured.info.host_macs,
            "Dense": dense_ops(net),
        },
        "activation_sparsity": 1 - total[ACTIVE] / updates if updates else None,
    }


def _energy(energy: Energy) -> dict[str, Any]:
    p5, p50, p95 = np.percentile(energy.chip_per_sample_pj, [5, 50, 95])
    return {
        "host_pj": energy.host_pj,
        "chip_pj": energy.chip_pj,
        "chip_band_pj": energy.chip.to_json(),
        "chip_if_skipped_pj": energy.skipped.to_json(),
        "idle_visits_known": energy.visits_known,
        "total_pj": energy.total_pj,
        "components_pj": energy.components_pj,
        "components_band_pj": {n: b.to_json() for n, b in energy.bands.items()},
        "left_out": energy.left_out,
        "partial": energy.partial,
        "unpriced_events": energy.unpriced,
        "chip_per_sample_pj": {"p5": p5, "p50": p50, "p95": p95},
        "ops_pj": {n: dict(zip(COLUMNS, row)) for n, row in zip(energy.ops, energy.energy_pj.sum(0).tolist())},
        "timesteps_pj": energy.energy_pj.sum((1, 2)).tolist(),
    }


def _net(net: Priced) -> dict[str, Any]:
    record, manifest = net.record, net.measured.manifest
    mean = record.counts.sum((0, 1)) / len(record.counts)
    return {
        "run": str(net.measured.run),
        "name": manifest["name"],
        "model": manifest["model"],
        "accuracy": None if record.labels is None else record.accuracy,
        "mean_tokens": record.mean_tokens,
        "mean_timesteps": record.mean_timesteps,
        "timesteps": record.counts.shape[1],
        "target": record.meta.get("target"),
        "images_per_s": record.meta.get("images_per_s"),
        "host_macs": net.measured.info.host_macs,
        "events": {
            "total": dict(zip(COUNTERS, mean.sum(0).tolist())),
            "ops": {n: dict(zip(COUNTERS, row)) for n, row in zip(record.ops, mean.tolist())},
        },
        "gate_events": dict(zip(QUANTITIES, (net.ledger.gates.sum((0, 1)) / net.ledger.samples).tolist())),
        **neurobench(net),
        "energy": {name: _energy(e) for name, e in net.energy.items()},
    }


def _saving(saving: Saving, tables: list[CostTable]) -> dict[str, Any]:
    def quantities(events: np.ndarray) -> dict[str, int]:
        return dict(zip(QUANTITIES, events.tolist()))

    energy = {}
    for table in tables:
        before, after = saving.ends(table)
        skipped = saving.ends(table, visited=False)
        energy[table.name] = {
            "before_pj": before.value,
            "after_pj": after.value,
            "rows_pj": saving.rows_pj(table),
            "rows_band_pj": {n: b.to_json() for n, b in saving.bands(table).items()},
            "idle_visits_known": saving.visits,
            "before_if_skipped_pj": skipped[0].value,
            "after_if_skipped_pj": skipped[1].value,
            "saved_pj": saving.saved(table).to_json(),
            "saved_if_skipped_pj": saving.saved(table, visited=False).to_json(),
            "unpriced_events": saving.unpriced(table),
        }
    return {
        "baseline": saving.baseline,
        "samples": saving.samples,
        "before_events": quantities(saving.before),
        "after_events": quantities(saving.after),
        "rows_events": {name: quantities(events) for name, events in saving.rows.items()},
        "energy": energy,
    }


def to_json(e: Estimate) -> dict[str, Any]:
    """The report as a dict: mean per inference everywhere but in the split's events, which are sums over `samples`."""
    net = e.nets[e.main]
    meta = net.record.meta
    return {
        "schema": 1,
        "run": str(net.measured.run),
        "dataset": net.measured.manifest["dataset"],
        "split": meta.get("split"),
        "shipped": bool(meta.get("shipped")),
        "samples": net.ledger.samples,
        "target": meta.get("target"),
        "main": e.main,
        "notes": e.notes,
        "nets": {name: _net(n) for name, n in e.nets.items()},
        "saving": None if e.saving is None else _saving(e.saving, e.tables),
        "tables": {t.name: t.model_dump(mode="json", by_alias=True) for t in e.tables},
    }
