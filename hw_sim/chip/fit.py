"""Does a net fit a chip: use of every core's limits, and what to do where one is broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikegate.hw_sim.chip.groups import PAIRS
from spikegate.hw_sim.chip.mapping import Mapping

RESOURCES = ("neurons", "synaptic_words", "axons_in", "axons_out")
PROGRAMMED = (*PAIRS, "token_gate", "rectangle_gate", "token_merge", "token_move", "timestep_gate", "exit_gate", "level_conv", "relay",
              "inject")
ADVICE = {
    "neurons": "lower the channels, or cut the layer into several ops",
    "synaptic_words": "lower the inputs of one neuron (fewer channels, a smaller kernel) or the weight bits",
    "axons_in": "lower the number of source neurons (pool before it, fewer channels) or cut the layer's inputs",
    "axons_out": "lower the layer's fan-out in cores: fewer or smaller readers, or relay neurons",
}


@dataclass(frozen=True)
class Violation:
    """A broken limit: op, what is wrong, what to do."""

    op: str
    what: str
    hint: str


def used(mapping: Mapping) -> dict[str, np.ndarray]:
    """Use of each resource by core, int64 [cores]."""
    return {"neurons": mapping.neurons, "synaptic_words": mapping.words, "axons_in": mapping.axons_in, "axons_out": mapping.axons_out}


def limits(mapping: Mapping) -> dict[str, np.ndarray]:
    """Limit of each resource by core, float64 [cores]; inf where none is published."""
    chip = mapping.chip
    conv = np.array([mapping.work.groups[g].conv_like for g in mapping.group_of])
    whole = {n: chip.limit(n) for n in ("synaptic_words", "axons_in", "axons_out")}
    out = {n: np.full(mapping.cores, np.inf if v is None else float(v)) for n, v in whole.items()}
    out["neurons"] = np.where(conv, chip.limit("neurons_per_conv_core") or np.inf, chip.limit("neurons_per_core") or np.inf)
    return out


def violations(mapping: Mapping) -> list[Violation]:
    """Every broken limit by op, and every op that the chip has no operation for; empty if the net fits."""
    found, use, most = [], used(mapping), limits(mapping)
    chip = mapping.chip
    for i, group in enumerate(mapping.work.groups):
        cores = mapping.of(i)
        for name in RESOURCES:
            over = use[name][cores] > most[name][cores]
            if over.any():
                peak, limit = int(use[name][cores].max()), int(most[name][cores][0])
                what = f"needs {peak:,} {name.replace('_', ' ')} on {int(over.sum())} of {over.size} cores, {chip.name} holds {limit:,}"
                found.append(Violation(group.name, what, ADVICE[name]))
        bits = chip.limit("weight_bits") or 64
        if any(p.bits > bits for p in group.projections):
            found.append(Violation(group.name, f"has weights of more than {bits} bits", "quantise them more coarsely in training"))
        graded = chip.limit("graded_bits") or 1
        sends = any(p.source == group.name for g in mapping.work.groups for p in g.projections)
        if sends and not group.payload_binary and (not chip.supports.graded_spikes or group.payload_bits > graded):
            most_bits = graded if chip.supports.graded_spikes else "none"
            what = f"sends graded spikes of {group.payload_bits} bits; {chip.name} carries {most_bits}"
            found.append(Violation(group.name, what, "use a chip with graded spikes (--chip loihi2), or binary spikes in training"))
        if group.kind in PROGRAMMED and not chip.supports.programmable_neurons:
            what = f"{chip.name} has no operation like {group.kind}"
            found.append(Violation(group.name, what, "use a chip with programmable neurons (--chip loihi2)"))
    return found


def utilisation(mapping: Mapping) -> list[dict[str, Any]]:
    """One row per op: cores, how it is cut, the fullest core's use of each resource with its limit (None: none published)."""
    use, most = used(mapping), limits(mapping)
    rows = []
    for i, (group, cut) in enumerate(zip(mapping.work.groups, mapping.cuts)):
        cores = mapping.of(i)
        row: dict[str, Any] = {
            "op": group.name, "kind": group.kind, "cores": cut.cores, "neurons_total": group.neurons,
            "cut": {"height": cut.height, "width": cut.width, "channels": cut.channels},
        }
        for name in RESOURCES:
            limit = most[name][cores][0]
            row[name] = {"used": int(use[name][cores].max()), "max": None if np.isinf(limit) else int(limit)}
        shares = [r["used"] / r["max"] for r in (row[n] for n in RESOURCES) if r["max"]]
        row["fullest"] = max(shares)
        rows.append(row)
    return rows
