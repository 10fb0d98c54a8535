"""Which slot of the mesh each core takes: in graph order, or moved about so that packets x hops get few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.noc import Mesh, mesh_for

METHODS = ("greedy", "optimised")
SWAPS_PER_CORE, SWAPS_AT_MOST = 150, 100_000


@dataclass(frozen=True, eq=False)
class Placement:
    """Slots int64 [cores] on a mesh."""

    mesh: Mesh
    slots: np.ndarray


def place(mapping: Mapping, method: str = "optimised", seed: int = 0) -> Placement:
    """Place the cores of a mapping; "greedy" fills the tiles in a snake in graph order, "optimised" goes on from there."""
    mesh = mesh_for(mapping.chip, mapping.chips)
    slots = _snake(mesh)[: mapping.cores]
    if method == "optimised" and mapping.cores > 2:
        slots = _anneal(mesh, slots, mapping.traffic.sum(0), seed)
    return Placement(mesh, slots)


def cost(mesh: Mesh, slots: np.ndarray, traffic: np.ndarray) -> float:
    """Packets x hops."""
    x, y = mesh.xy(slots)
    far = np.abs(x[:, None] - x) + np.abs(y[:, None] - y)
    return float((traffic * far).sum())


def _snake(mesh: Mesh) -> np.ndarray:
    """Slots chip by chip, along each chip's rows of tiles forwards and backwards, so that neighbours in the order stay neighbours."""
    slots = np.arange(mesh.slots)
    within = slots % mesh.cores_per_chip // mesh.cores_per_tile
    row, column = np.divmod(within, mesh.columns)
    column = np.where(row % 2 == 0, column, mesh.columns - 1 - column)
    return slots[np.lexsort((slots % mesh.cores_per_tile, column, row, slots // mesh.cores_per_chip))]


def _anneal(mesh: Mesh, slots: np.ndarray, traffic: np.ndarray, seed: int) -> np.ndarray:
    """Swap two slots, one of them a core's, if that lowers packets x hops, or sometimes if it does not; the best seen is kept."""
    rng = np.random.default_rng(seed)
    cores = len(slots)
    both = (traffic + traffic.T).astype(np.float64)
    np.fill_diagonal(both, 0)
    free = np.setdiff1d(np.arange(mesh.slots), slots)
    places = np.concatenate([slots, free])
    x, y = (v.astype(np.float64) for v in mesh.xy(places))
    tries = min(SWAPS_AT_MOST, SWAPS_PER_CORE * cores)
    pairs = np.stack([rng.integers(0, cores, tries), rng.integers(0, len(places), tries)], 1)
    draws = np.log(rng.random(tries))
    now = best = cost(mesh, places[:cores], traffic)
    kept = places[:cores].copy()
    heat = now / max(1, cores) * 0.1
    for step, (a, b) in enumerate(pairs):
        if x[a] == x[b] and y[a] == y[b]:
            continue
        near = np.abs(x[:cores] - x[b]) + np.abs(y[:cores] - y[b]) - np.abs(x[:cores] - x[a]) - np.abs(y[:cores] - y[a])
        if b < cores:
            row = both[a] - both[b]
            row[a] = row[b] = 0
            change = float(row @ near)
        else:
            row = both[a]
            change = float(row @ near)
        temperature = heat * (1 - step / tries) ** 2
        if change <= 0 or (temperature > 0 and draws[step] < -change / temperature):
            places[[a, b]] = places[[b, a]]
            x[[a, b]], y[[a, b]] = x[[b, a]], y[[b, a]]
            now += change
            if now < best - 1e-9:
                best, kept = now, places[:cores].copy()
    return kept if cost(mesh, kept, traffic) <= cost(mesh, slots, traffic) else slots
