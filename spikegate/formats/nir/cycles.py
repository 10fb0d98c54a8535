"""Feedback in a NIR graph: which edges bring the timestep before, and the order of the walk."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.reading import Flat

Edge = tuple[str, str]
NO_NEURONS, FEEDBACK = "leads back to itself without neurons", "feedback goes from spiking neurons through linear nodes"


def components(nodes: Iterable[str], edges: list[Edge]) -> list[set[str]]:
    """Strongly connected parts with a cycle."""
    after: dict[str, list[str]] = {n: [] for n in nodes}
    for a, b in edges:
        after[a].append(b)

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(after[start])
        while waiting:
            n = waiting.pop()
            if n not in seen:
                seen.add(n)
                waiting += after[n]
        return seen

    to = {n: reach(n) for n in after}
    found: list[set[str]] = []
    for n in after:
        if n in to[n] and not any(n in part for part in found):
            found.append({m for m in to[n] if n in to[m]})
    return found


def looping(flat: Flat, firing: tuple[str, ...], dt: float) -> set[Edge]:
    """Edges that carry spikes of the timestep before: those from a layer into its own feedback.

    NIR is a system of equations; in timesteps a cycle needs one edge that waits. Where a cycle holds one layer of neurons it is
    clear which. Where it holds several, a Delay must say it.

    Raises
    ------
    DeployError
        For cycles without neurons, cycles of several layers, feedback that also leads out of its cycle.
    """
    late: set[Edge] = set()
    edges = [(a, b) for a, b in flat.edges if not _waits(flat, a, dt)]
    for part in components(flat.nodes, edges):
        neurons = sorted(n for n in part if flat.kind(n) in firing)
        if not neurons:
            voltage = sorted(n for n in part if flat.kind(n) in ("I", "LI", "CubaLI"))
            raise DeployError((voltage or sorted(part))[0], "is fed back as a voltage" if voltage else NO_NEURONS, FEEDBACK)
        if len(neurons) > 1:
            what = f"a cycle runs through several layers ({', '.join(neurons)}); NIR does not say which edge waits a timestep"
            raise DeployError(neurons[0], what, "put a Delay of one timestep into it")
        out = [(a, b) for a, b in edges if a in part - {*neurons} and b not in part]
        if out:
            what = f"is feedback of {neurons[0]} and also feeds {out[0][1]}"
            raise DeployError(out[0][0], what, "give the feedback nodes of its own")
        late |= {(neurons[0], b) for a, b in edges if a == neurons[0] and b in part}
    return late


def _waits(flat: Flat, name: str, dt: float) -> bool:
    """Whether a node holds its signal for a timestep at least, in every element; a delay is rounded to whole timesteps."""
    return flat.kind(name) == "Delay" and bool((np.round(np.asarray(flat.nodes[name].delay, float) / dt) > 0).all())


def order(flat: Flat, firing: tuple[str, ...]) -> list[str]:
    """Nodes after the linear ones that they read; what neurons send is known beforehand."""
    try:
        return list(TopologicalSorter({n: {a for a in flat.before(n) if flat.kind(a) not in firing} for n in flat.nodes}).static_order())
    except CycleError as e:
        raise DeployError(e.args[1][0], NO_NEURONS, FEEDBACK) from None


def layers_in_order(now: dict[str, set[str]], late: dict[str, set[str]]) -> list[str]:
    """Layers after those that they read in the same timestep, and where that goes after those that they read later, too."""
    reads = {n: set(before) for n, before in now.items()}
    for n, before in late.items():
        for b in before - {n}:
            if not _leads(n, b, reads):
                reads[n].add(b)
    return list(TopologicalSorter(reads).static_order())


def _leads(start: str, end: str, reads: dict[str, set[str]]) -> bool:
    """Whether `end` reads `start`, over whatever layers."""
    seen, waiting = set(), [end]
    while waiting:
        n = waiting.pop()
        if n == start:
            return True
        if n not in seen:
            seen.add(n)
            waiting += reads[n]
    return False
