"""What a run did, group by group: exact counts by sample and timestep, and which neurons were active on average."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from spikegate.engine.chip_time.schedule import exits_by_margin
from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, DeployError, Graph
from spikegate.hw_sim.chip.groups import Group, groups_of

NEUROBENCH = {
    "synop": "SynapticOperations", "effective_acs": "Effective_ACs", "neuron_update": "MembraneUpdates", "spike_out": "ActivationSparsity",
    "step_time": "ModelExecutionRate",
}
LOIHI = {
    "synop": "syn_ops", "effective_acs": "syn_ops", "neuron_update": "dendrite_updates", "spike_in": "spikes_in", "packet": "axon_out",
    "step_time": "execution_time_per_step",
}


@dataclass(frozen=True, eq=False)
class Workload:
    """Counts and activity of N samples over at most T timesteps.

    Attributes
    ----------
    counts : int64 [N, T, groups, COUNTERS]; a `current`'s counts stand with the groups that read it
    activity : group -> float64 [T, positions, channels], mean events per inference; sums equal the counted ``spike_out``
    alive : gate (``~`` before it: of the timestep before) -> float64 [T, tokens], mean share of inferences in which a token lives
    exit_step : int64 [N]
    graded : group -> int64 [N, T], sum of the values sent, where they are graded and were recorded
    recorded : groups whose activity was recorded; that of the others is spread evenly over their neurons
    back : (source, target) of edges that act a timestep later
    exits : whether a leading class can end a sample early
    host : (values, bits of each) that the host sends at a time
    """

    groups: list[Group]
    counts: np.ndarray
    activity: dict[str, np.ndarray]
    alive: dict[str, np.ndarray]
    exit_step: np.ndarray
    graded: dict[str, np.ndarray] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    back: tuple[tuple[str, str], ...] = ()
    exits: bool = False
    host: tuple[int, int] = (0, 0)

    @property
    def samples(self) -> int:
        return len(self.counts)

    @property
    def timesteps(self) -> int:
        return self.counts.shape[1]

    @property
    def depth(self) -> int:
        return max(g.level for g in self.groups)

    @cached_property
    def index(self) -> dict[str, int]:
        return {g.name: i for i, g in enumerate(self.groups)}

    def count(self, counter: str) -> np.ndarray:
        """One counter, int64 [N, T, groups]."""
        return self.counts[..., COUNTERS.index(counter)]

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean counts per inference, float64 [T, groups, COUNTERS]."""
        return self.counts.sum(0) / max(1, self.samples)

    @cached_property
    def running(self) -> np.ndarray:
        """Which samples run which timestep, bool [N, T]."""
        return np.arange(1, self.timesteps + 1) <= self.exit_step[:, None]

    @cached_property
    def visits(self) -> np.ndarray:
        """Neurons visited if every mapped one is, halted or not, int64 [N, T, groups]."""
        return self.running[..., None] * np.array([g.neurons for g in self.groups], np.int64)

    @property
    def interval(self) -> int:
        """Chip steps between the starts of two timesteps in a pipeline: what an edge back to an earlier level brings has to be there."""
        level = {g.name: g.level for g in self.groups}
        return max([1, *(level[a] - level[b] + 1 for a, b in self.back if a in level and b in level)])

    @property
    def pipeline_safe(self) -> bool:
        """Whether a pipeline is worth it: a timestep starts before the one before is half through, and none that an exit saves."""
        return not self.exits and (self.interval == 1 or 2 * self.interval <= self.depth)

    @property
    def periods(self) -> np.ndarray:
        """Chip steps from a sample's start to that of the next in a full pipeline, int64 [N]; `Schedule.period` tells why."""
        known = self.exit_step - 1 + -(-self.depth // self.interval)
        return np.where(self.exit_step < self.timesteps, np.minimum(known, self.timesteps), self.exit_step) * self.interval

    def ledger(self) -> dict[str, Any]:
        """Sums over groups per sample and timestep [N, T], with the field's names for them."""
        binary = {g.name: g.payload_bits for g in self.groups}
        bits = np.array([binary[g.name] for g in self.groups], np.int64)
        sums = {c: self.count(c).sum(2) for c in COUNTERS}
        sums |= {
            "effective_acs": sums["synop"] + sums["attention_ac"],
            "payload_bits": (self.count("spike_out") * bits).sum(2),
            "graded_sum": sum(self.graded.values(), np.zeros(self.counts.shape[:2], np.int64)),
            "visits_all_mapped": self.visits.sum(2),
            "visits_alive": sums["neuron_update"],
        }
        return sums


def workload_of(graph: Graph, record: Record) -> Workload:
    """The workload of a recorded run.

    Raises
    ------
    DeployError
        If the record is of another net.
    """
    groups = groups_of(graph)
    if list(graph.ops) != record.ops:
        raise DeployError("events", "were not recorded with this net", "run deploy/run.py again")
    at = {n: i for i, n in enumerate(record.ops)}
    counts = record.counts[:, :, [at[g.name] for g in groups]].copy()
    where = {g.name: i for i, g in enumerate(groups)}
    for name in graph.only("current"):
        readers = [e.target for e in graph.consumers(name)]
        for reader in readers:
            counts[:, :, where[reader]] += record.counts[:, :, at[name]] // len(readers)
    spikes = counts[..., COUNTERS.index("spike_out")].sum(0) / max(1, len(counts))
    activity = {g.name: _activity(g, record.activity.get(g.name), spikes[:, i]) for i, g in enumerate(groups)}
    recorded = frozenset(g.name for g in groups if g.name in record.activity)
    alive = {}
    for k, gate in enumerate(record.gates, 1):
        alive[gate] = record.alive[:, :, k].mean(0)
    if record.gates:
        before = record.alive[:, :, 0].mean(0)
        alive |= {f"~{g.gate[1:]}": before for g in groups if g.gate.startswith("~")}
    back = tuple((e.source, e.target) for e in graph.edges if e.delay)
    values = {n: v for n, v in record.values.items() if n in where}
    return Workload(groups, counts, activity, alive, record.exit_step, values, recorded, back, bool(exits_by_margin(graph)),
                    _host(graph))


def unrun(graph: Graph) -> Workload:
    """A net of which nothing was recorded: no events, no samples. Enough to place it."""
    groups = groups_of(graph)
    counts = np.zeros((0, 1, len(groups), len(COUNTERS)), np.int64)
    activity = {g.name: np.ones((1, g.positions, g.channels)) for g in groups}
    back = tuple((e.source, e.target) for e in graph.edges if e.delay)
    return Workload(groups, counts, activity, {}, np.zeros(0, np.int64), back=back, exits=bool(exits_by_margin(graph)),
                    host=_host(graph))


def _host(graph: Graph) -> tuple[int, int]:
    return int(np.prod(graph.input_shape)), graph.input_payload.bits


def _activity(group: Group, recorded: np.ndarray | None, spikes: np.ndarray) -> np.ndarray:
    """Events of each neuron per timestep and inference, scaled to the counted ones [T]."""
    shape = (len(spikes), group.positions, group.channels)
    even = np.full(shape[1:], 1 / (shape[1] * shape[2]))
    if recorded is None or recorded.size != np.prod(shape):
        return spikes[:, None, None] * even
    sums = recorded.reshape(len(spikes), -1).sum(1)
    shares = recorded.reshape(shape) / np.maximum(sums, 1)[:, None, None]
    shares[sums == 0] = even
    return shares * spikes[:, None, None]
