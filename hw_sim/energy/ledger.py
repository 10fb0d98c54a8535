"""From an event record to integers that can be priced: sums by op and timestep, the gates' own events apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, load_ops
from spikegate.hw_sim.energy.cost_tables import ACTIVE, IDLE, INACTIVE, QUANTITIES

GATE_KINDS = ("exit_gate", *(kind for kind, op in load_ops().items() if op.halting))
GROUPS = ("embedding", "body", "gates")
SAMPLES_AT_A_TIME = 256  # a test set's counts times a few would not fit small machines


@dataclass(frozen=True)
class NetInfo:
    """What pricing needs to know of an exported net, from its manifest.

    Attributes
    ----------
    host_macs : multiply-accumulates of the host's embedding per inference
    embedding_ops : names of the chip's ops before the first block
    sources : op name -> names of the ops it reads; shows which messages go to gates (empty: none are booked to them)
    dense_ops : op name -> accumulates per timestep if every input were active
    neurons : op name -> neurons that a chip holds for it and visits in every timestep (empty: idle visits are not known)
    """

    host_macs: int = 0
    embedding_ops: frozenset[str] = frozenset()
    sources: dict[str, list[str]] = field(default_factory=dict)
    dense_ops: dict[str, int] = field(default_factory=dict)
    neurons: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> NetInfo:
        rows = manifest.get("ops", [])
        return cls(
            host_macs=int(manifest["host_macs"]),
            embedding_ops=frozenset(manifest["embedding_ops"]),
            sources={r["name"]: [s.lstrip("~") for s in r["sources"]] for r in rows},
            dense_ops={n: int(v) for n, v in manifest["dense_ops"].items()},
            neurons={r["name"]: int(r["neurons"]) for r in rows if "neurons" in r},
        )


@dataclass(frozen=True)
class Ledger:
    """Integer events of a record.

    Attributes
    ----------
    ops, kinds : names and kinds in graph order
    work : int64 [T, ops, QUANTITIES], summed over samples, without the gates' own
    gates : int64 [T, ops, QUANTITIES], summed over samples: what halting itself costs
    groups : int64 [N, T, GROUPS, QUANTITIES], each sample's embedding, body and gates; they add up to everything
    host_macs : per inference
    visits : whether idle visits are among the events; else how many neurons each op has was not known
    """

    ops: list[str]
    kinds: list[str]
    work: np.ndarray
    gates: np.ndarray
    groups: np.ndarray
    host_macs: int
    visits: bool = False

    @property
    def samples(self) -> int:
        return len(self.groups)

    @property
    def total(self) -> np.ndarray:
        """Events summed over samples, timesteps and ops, int64 [QUANTITIES]."""
        return self.groups.sum((0, 1, 2))


def quantities(counts: np.ndarray) -> np.ndarray:
    """Counts int64 [..., COUNTERS] as priceable quantities, int64 [..., QUANTITIES].

    Idle visits are not counted in a run and 0 here; `book` knows them. A neuron update is active if its neuron spikes in it.
    `spike_out` sums values, so a graded output can exceed the neurons of its op: then all its updates are active.
    """
    updates, spikes = (counts[..., COUNTERS.index(c)] for c in ("neuron_update", "spike_out"))
    active = np.minimum(updates, spikes)
    derived = {ACTIVE: active, INACTIVE: updates - active, IDLE: np.zeros_like(updates)}
    return np.stack([derived[q] if q in derived else counts[..., COUNTERS.index(q)] for q in QUANTITIES], -1)


def book(record: Record, info: NetInfo) -> Ledger:
    """Sum a record up.

    To the gates belong: all events of gate ops, every ``gate_update`` elsewhere (what holding a halted token's value costs the
    read-out), and the messages that other ops send to gates. A chip visits every neuron in every timestep that runs; visits without an
    update are booked to the work of the neuron's op, of gates, too.
    """
    is_gate = np.array([k in GATE_KINDS for k in record.kinds])
    in_embedding = np.array([n in info.embedding_ops for n in record.ops]) & ~is_gate
    to_gates, to_all = _consumers(record, info)
    update, message = QUANTITIES.index("gate_update"), QUANTITIES.index("message")
    n, steps = record.counts.shape[:2]
    shape = (steps, len(record.ops), len(QUANTITIES))
    work, gates = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    groups = np.zeros((n, steps, len(GROUPS), len(QUANTITIES)), np.int64)
    for start in range(0, n, SAMPLES_AT_A_TIME):
        rows = slice(start, start + SAMPLES_AT_A_TIME)
        everything = quantities(record.counts[rows])
        everything[..., QUANTITIES.index(IDLE)] = _idle(record, info, rows)
        own = np.zeros_like(everything)
        own[..., update] = everything[..., update]
        own[..., message] = everything[..., message] * to_gates // to_all
        own[:, :, is_gate] = everything[:, :, is_gate]
        own[..., QUANTITIES.index(IDLE)] = 0
        rest = everything - own
        work += rest.sum(0)
        gates += own.sum(0)
        groups[rows, :, 0] = rest[:, :, in_embedding].sum(2)
        groups[rows, :, 1] = rest[:, :, ~in_embedding].sum(2)
        groups[rows, :, 2] = own.sum(2)
    return Ledger(record.ops, record.kinds, work, gates, groups, info.host_macs, _known(record, info))


def _known(record: Record, info: NetInfo) -> bool:
    return all(n in info.neurons for n in record.ops)


def _idle(record: Record, info: NetInfo, rows: slice) -> np.ndarray:
    """Visits to neurons that are not updated, int64 [samples, T, ops]; 0 where the numbers of neurons are not known."""
    updates = record.counts[rows, :, :, COUNTERS.index("neuron_update")]
    if not _known(record, info):
        return np.zeros_like(updates)
    runs = np.arange(1, updates.shape[1] + 1) <= record.exit_step[rows, None]
    return np.maximum(0, runs[..., None] * np.array([info.neurons[n] for n in record.ops]) - updates)


def _consumers(record: Record, info: NetInfo) -> tuple[np.ndarray, np.ndarray]:
    """How many edges leave each op for gates, and for anything, int64 [ops]; ops that the record lacks were not run."""
    kinds = dict(zip(record.ops, record.kinds))
    edges = [(s, target) for target, sources in info.sources.items() if target in kinds for s in sources]
    to_gates = [sum(s == n and kinds[t] in GATE_KINDS for s, t in edges) for n in record.ops]
    to_all = [max(1, sum(s == n for s, _ in edges)) for n in record.ops]
    return np.array(to_gates, np.int64), np.array(to_all, np.int64)
