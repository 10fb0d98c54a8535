"""A workload on the cores of a chip, before the cores get their places: shares of every count, packets between cores, fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikegate.graph.ir import COUNTERS, INPUT
from spikegate.hw_sim.chip.profile import Chip
from spikegate.hw_sim.chip.reach import axons, landing, packets
from spikegate.hw_sim.chip.splitting import Cut, split
from spikegate.hw_sim.chip.workload import Workload
from spikegate.ops.base.patches import patches

BY_LANDING = ("synop", "attention_ac", "spike_in")


@dataclass(frozen=True, eq=False)
class Mapping:
    """Groups cut onto cores; core numbers run through the groups in graph order."""

    chip: Chip
    work: Workload
    cuts: list[Cut]

    @cached_property
    def first(self) -> np.ndarray:
        """First core of each group, and the number of all cores, int64 [groups + 1]."""
        return np.concatenate([[0], np.cumsum([c.cores for c in self.cuts])]).astype(np.int64)

    @property
    def cores(self) -> int:
        return int(self.first[-1])

    @property
    def chips(self) -> int:
        return -(-self.cores // self.chip.cores_per_chip)

    @cached_property
    def group_of(self) -> np.ndarray:
        """Group of each core, int64 [cores]."""
        return np.repeat(np.arange(len(self.cuts)), [c.cores for c in self.cuts])

    def of(self, group: int) -> slice:
        """Cores of a group."""
        return slice(int(self.first[group]), int(self.first[group + 1]))

    @cached_property
    def neurons(self) -> np.ndarray:
        return np.concatenate([c.neurons for c in self.cuts])

    @cached_property
    def words(self) -> np.ndarray:
        return np.repeat([c.words for c in self.cuts], [c.cores for c in self.cuts])

    def shares(self, group: int, counter: str, t: int) -> np.ndarray:
        """How a group's count of timestep `t` (from 0) divides over its cores, float64 [cores of the group], sum 1."""
        return self._shares[group][counter][t]

    @cached_property
    def _shares(self) -> list[dict[str, np.ndarray]]:
        return [self._shares_of(i) for i in range(len(self.cuts))]

    def _shares_of(self, i: int) -> dict[str, np.ndarray]:
        cut, group = self.cuts[i], self.work.groups[i]
        steps = max(1, self.work.timesteps)
        even = np.tile(cut.neurons / cut.neurons.sum(), (steps, 1))
        living = even
        alive = self.work.alive.get(group.gate)
        own = None if alive is None else patches(group.grid, len(alive[0]))
        if alive is not None and own is not None:
            living = _by_position(alive[:, own], cut, even)
        landed = np.zeros((steps, cut.cores))
        for p in group.projections:
            if p.control or p.source == INPUT or p.source not in self.work.activity:
                continue
            for t in range(self.work.timesteps):
                landed[t] += landing(p, self.work.activity[p.source][t], cut)
        sent = np.zeros((steps, cut.cores))
        for t in range(self.work.timesteps):
            sent[t] = _by_block(self.work.activity[group.name][t], cut)
        shares = {"neuron_update": living, "gate_update": living, "spike_out": _normal(sent, even), "message": _normal(sent, even)}
        return shares | dict.fromkeys(BY_LANDING, _normal(landed, living))

    @cached_property
    def counts(self) -> np.ndarray:
        """Mean counts per inference on each core, float64 [T, cores, COUNTERS]."""
        out = np.zeros((self.work.timesteps, self.cores, len(COUNTERS)))
        for i in range(len(self.cuts)):
            for k, counter in enumerate(COUNTERS):
                for t in range(self.work.timesteps):
                    out[t, self.of(i), k] = self.work.mean[t, i, k] * self.shares(i, counter, t)
        return out

    @cached_property
    def edges(self) -> list[tuple[int, int, int]]:
        """(source group, target group, index of the projection) of everything that is sent from core to core."""
        at = self.work.index
        return [
            (at[p.source], i, k)
            for i, g in enumerate(self.work.groups)
            for k, p in enumerate(g.projections)
            if p.source in at
        ]

    @cached_property
    def traffic(self) -> np.ndarray:
        """Packets per inference from core to core, float32 [T, cores, cores]; without a run one event of each neuron, T = 1."""
        steps = len(next(iter(self.work.activity.values())))
        out = np.zeros((steps, self.cores, self.cores), np.float32)
        for a, b, k in self.edges:
            active = self.work.activity[self.work.groups[a].name]
            for t in range(steps):
                out[t, self.of(a), self.of(b)] += packets(self.work.groups[b].projections[k], active[t], self.cuts[a], self.cuts[b])
        return out

    @cached_property
    def axons_in(self) -> np.ndarray:
        """Distinct source neurons that reach each core, int64 [cores]; the host's are not counted."""
        out = np.zeros(self.cores, np.int64)
        for a, b, k in self.edges:
            source = self.work.groups[a]
            out[self.of(b)] += axons(self.work.groups[b].projections[k], source.positions, source.channels, self.cuts[b])
        return out

    @cached_property
    def axons_out(self) -> np.ndarray:
        """Pairs of a neuron and a core that it sends to, by sending core, int64 [cores]."""
        out = np.zeros(self.cores)
        for a, b, k in self.edges:
            source = self.work.groups[a]
            ones = np.ones((source.positions, source.channels))
            out[self.of(a)] += packets(self.work.groups[b].projections[k], ones, self.cuts[a], self.cuts[b]).sum(1)
        return out.astype(np.int64)


def map_to(work: Workload, chip: Chip) -> Mapping:
    """Cut every group of a workload for a chip."""
    return Mapping(chip, work, [split(g, chip) for g in work.groups])


def _by_block(values: np.ndarray, cut: Cut) -> np.ndarray:
    """Sum a map [positions, channels] over each core's part, float64 [cores]."""
    out = np.zeros((cut.position_blocks, cut.channel_blocks))
    np.add.at(out, cut.block_of_position, np.add.reduceat(values, np.arange(0, cut.group.channels, cut.channels), axis=1))
    return out.ravel()


def _by_position(alive: np.ndarray, cut: Cut, even: np.ndarray) -> np.ndarray:
    """Shares of a group's updates where tokens [T, positions] live for different lengths of time."""
    ones = np.ones(cut.group.channels)
    return _normal(np.stack([_by_block(row[:, None] * ones, cut) for row in alive]), even)


def _normal(values: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Rows scaled to the sum 1; `otherwise` where a row is zero."""
    sums = values.sum(1, keepdims=True)
    return np.where(sums > 0, values / np.where(sums > 0, sums, 1), otherwise)
