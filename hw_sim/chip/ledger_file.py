"""The ledger as JSON: counts by op and timestep, by sample and timestep, by core and timestep, under our names and the field's."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.graph.ir import COUNTERS
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.workload import Workload

NAMES = {
    "spike_in": {"neurobench": None, "loihi_profiler": "spikes_in"},
    "synop": {"neurobench": "SynapticOperations", "loihi_profiler": "syn_ops"},
    "attention_ac": {"neurobench": "Effective_ACs", "loihi_profiler": "syn_ops"},
    "effective_acs": {"neurobench": "Effective_ACs", "loihi_profiler": "syn_ops"},
    "neuron_update": {"neurobench": "MembraneUpdates", "loihi_profiler": "dendrite_updates"},
    "visits_all_mapped": {"neurobench": None, "loihi_profiler": "dendrite_updates"},
    "spike_out": {"neurobench": "ActivationSparsity", "loihi_profiler": None},
    "packet": {"neurobench": None, "loihi_profiler": "axon_out"},
}
"""Nearest name of a count in NeuroBench 2.3.0 and in Intel's profiler; None: none. ActivationSparsity is a share of silent updates."""
MEANING = {
    "spike_in": "events that arrive", "synop": "accumulates of non-zero synapses", "attention_ac": "coincidences of attention, accumulated",
    "neuron_update": "neurons that were updated: those of tokens that live", "visits_alive": "the same, as visits",
    "visits_all_mapped": "neurons that a chip visits if it visits all", "gate_update": "work of gates", "spike_out": "events sent",
    "message": "events sent, times ops that receive them", "packet": "events sent, times cores that receive them (by the image: not known)",
    "effective_acs": "synop + attention_ac", "payload_bits": "events sent, times the bits of the op's payload",
    "graded_sum": "sum of the magnitudes sent by ops with a graded payload; null where it was not recorded",
}


def to_json(mapping: Mapping) -> dict[str, Any]:
    """Of a workload that ran: `ops` and `cores` are means per inference for each timestep, `samples` integers [N, T]."""
    work = mapping.work
    packets = mapping.traffic.sum(2)  # [T, sending cores]
    by_group = np.stack([np.bincount(mapping.group_of, row, minlength=len(work.groups)) for row in packets])
    return {
        "schema": 1, "samples_run": work.samples, "timesteps": work.timesteps, "names": NAMES, "meaning": MEANING,
        "ops": {g.name: _op(work, i, by_group[:, i]) for i, g in enumerate(work.groups)},
        "samples": {**{k: v.tolist() for k, v in work.ledger().items()}, "exit_step": work.exit_step.tolist()},
        "cores": _cores(mapping, packets),
    }  # fmt: skip


def _op(work: Workload, i: int, packets: np.ndarray) -> dict[str, Any]:
    group, n = work.groups[i], max(1, work.samples)
    row: dict[str, Any] = {c: work.mean[:, i, k].tolist() for k, c in enumerate(COUNTERS)}
    mean = {c: work.mean[:, i, k] for k, c in enumerate(COUNTERS)}
    graded = (work.graded[group.name].sum(0) / n).tolist() if group.name in work.graded else None
    return row | {
        "kind": group.kind, "effective_acs": (mean["synop"] + mean["attention_ac"]).tolist(), "packet": packets.tolist(),
        "payload_bits": (mean["spike_out"] * group.payload_bits).tolist(), "graded_sum": graded,
        "visits_all_mapped": (work.visits[:, :, i].sum(0) / n).tolist(), "visits_alive": mean["neuron_update"].tolist(),
    }  # fmt: skip


def _cores(mapping: Mapping, packets: np.ndarray) -> list[dict[str, Any]]:
    """By core: accumulates that are done there, updates, packets received and sent."""
    counts, received = mapping.counts, mapping.traffic.sum(1)
    at = {c: k for k, c in enumerate(COUNTERS)}
    acs = counts[..., at["synop"]] + counts[..., at["attention_ac"]]
    columns = {"effective_acs": acs, "neuron_update": counts[..., at["neuron_update"]], "packets_in": received, "packets_out": packets}
    return [
        {"core": c, "op": mapping.work.groups[mapping.group_of[c]].name, **{k: v[:, c].tolist() for k, v in columns.items()}}
        for c in range(mapping.cores)
    ]
