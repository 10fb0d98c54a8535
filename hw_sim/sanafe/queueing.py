"""Time of every chip step with packets that wait for links and receivers: our own form of SANA-FE's *detailed* model, without SANA-FE.

The model (Boyle et al., IEEE TCAD 44(8) 3165-3178, 2025): a core works through its neurons and sends a packet when it comes to a neuron
that fires. A packet's route is the sender's own link and one link for each hop. Packets that are under way count a share on each link of
their route. Where more of them lie on a packet's route than its buffers hold, the sender waits until they have been received; those within
the buffers delay it as far as its hops do not take longer anyway. A core receives one packet after the other, and does its accumulates
before the next. Times of the same moment are taken core by core, so the result does not depend on rounding.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np

from spikegate.hw_sim.chip.noc import Mesh
from spikegate.hw_sim.sanafe.replay import Costs, Played, Replay, simple

LINK_BUFFER = 16  # packets that wait at a link, as in SANA-FE's Loihi model
EAST, WEST, SOUTH, NORTH, DIRECTIONS = range(5)


@dataclass(frozen=True, eq=False)
class Axons:
    """Every (neuron, core that it sends to) once, by sender, neuron and receiver; arrays [axons].

    Attributes
    ----------
    sender, neuron, receiver : int64; `neuron` counts within its core
    work_ns : what receiving one of its packets takes
    hops_ns : the least time on the way
    routes : links of the way, the sender's own first
    first, last : int64 [cores]; which axons are a core's
    """

    sender: np.ndarray
    neuron: np.ndarray
    receiver: np.ndarray
    work_ns: np.ndarray
    hops_ns: np.ndarray
    routes: list[tuple[int, ...]]
    first: np.ndarray
    last: np.ndarray


def queued(replay: Replay, costs: Costs, link_buffer: int = LINK_BUFFER) -> Played:
    """Energies, packets and hops of `simple`, with the time of each chip step as the queues make it."""
    plain = simple(replay, costs)
    axons = _axons(replay, costs)
    tiles = len(np.unique(np.stack(replay.mesh.xy(replay.slots), 1), axis=0))
    sync = [ns for least, ns in costs.sync_ns if least <= tiles][-1]
    steps = np.array([_step(replay, costs, axons, k, link_buffer) + sync for k in range(replay.steps)])
    return replace(plain, step_s=steps * 1e-9)


def _axons(replay: Replay, costs: Costs) -> Axons:
    """Several synapses of a neuron on one core are one packet."""
    parts = [(np.full(len(e.source), e.sender), e.source, np.full(len(e.source), e.receiver), e.fan) for e in replay.edges]
    sender, neuron, receiver = (np.concatenate([p[i] for p in parts] or [np.zeros(0, np.int64)]).astype(np.int64) for i in range(3))
    fan = np.concatenate([p[3] for p in parts] or [np.zeros(0)])
    keys, inverse = np.unique(np.stack([sender, neuron, receiver], 1), axis=0, return_inverse=True)
    sums = np.bincount(inverse.ravel(), fan, minlength=len(keys))
    x, y = replay.mesh.xy(replay.slots)
    ways: dict[tuple[int, int], tuple[tuple[int, ...], float]] = {}
    for a, b in {(int(s), int(r)) for s, _, r in keys}:
        hops = abs(int(x[a] - x[b])) * costs.hop_x[1] + abs(int(y[a] - y[b])) * costs.hop_y[1]
        ways[a, b] = _route(replay.mesh, a, len(replay.neurons), (int(x[a]), int(y[a])), (int(x[b]), int(y[b]))), hops
    found = [ways[int(s), int(r)] for s, _, r in keys]
    cores = np.arange(len(replay.neurons))
    sends = keys[:, 0] if len(keys) else np.zeros(0, np.int64)
    return Axons(sends, keys[:, 1], keys[:, 2], costs.packet_in[1] + sums * costs.synapse[1], np.array([h for _, h in found]),
                 [r for r, _ in found], np.searchsorted(sends, cores), np.searchsorted(sends, cores, "right"))


def _route(mesh: Mesh, sender: int, cores: int, start: tuple[int, int], end: tuple[int, int]) -> tuple[int, ...]:
    """Links: the sender's own, then the one by which each tile is entered; columns first."""
    (x, y), links = start, [sender]
    while (x, y) != end:
        way = EAST if x < end[0] else WEST if x > end[0] else SOUTH if y < end[1] else NORTH
        x, y = x + (way == EAST) - (way == WEST), y + (way == SOUTH) - (way == NORTH)
        links.append(cores + (y * mesh.width + x) * DIRECTIONS + way)
    return tuple(links)


def _step(replay: Replay, costs: Costs, axons: Axons, k: int, link_buffer: int) -> float:
    """Time of one chip step in ns, without its end."""
    sends: list[list[tuple[float, int]]] = []  # by core: (time since the packet before, axon)
    queue: list[tuple[float, int, int]] = []  # (time, core, which of its packets)
    tails, end = [], 0.0
    for core in range(len(replay.neurons)):
        fires = replay.fired[core][k]
        work = np.cumsum(costs.visit[1] + costs.fire[1] * fires)  # until a neuron is done
        own = np.arange(axons.first[core], axons.last[core])
        own = own[fires[axons.neuron[own]]]
        done = work[axons.neuron[own]]
        gaps = np.diff(done, prepend=0.0) + costs.packet_out[1]
        sends.append(list(zip(gaps.tolist(), own.tolist())))
        tails.append(float(work[-1] - (done[-1] if len(done) else 0.0)) if len(work) else 0.0)
        if sends[core]:
            queue.append((sends[core][0][0], core, 0))
        else:
            end = max(end, tails[core])
    heapq.heapify(queue)
    held: dict[int, float] = {}  # link -> packets on it
    free = [0.0] * len(replay.neurons)  # when a core has done with what it received
    flying: list[tuple[float, int]] = []
    under_way, working = 0, 0.0  # their number, and what receiving them takes
    while queue:
        now, core, i = heapq.heappop(queue)
        while flying and flying[0][0] <= now:
            old = heapq.heappop(flying)[1]
            route = axons.routes[old]
            for link in route:
                held[link] -= 1 / (len(route) + 1)
            under_way, working = under_way - 1, working - axons.work_ns[old]
        axon = sends[core][i][1]
        route, to, work_ns = axons.routes[axon], int(axons.receiver[axon]), float(axons.work_ns[axon])
        ahead = sum(held.get(link, 0.0) for link in route)
        each = working / under_way if under_way else 0.0
        sent = now + max(0.0, ahead - len(route) * link_buffer) * each
        arrives = sent + max(float(axons.hops_ns[axon]), ahead * each / len(route))
        received = max(free[to], arrives)
        free[to] = received + work_ns
        end = max(end, sent, free[to])
        heapq.heappush(flying, (received, axon))
        for link in route:
            held[link] = held.get(link, 0.0) + 1 / (len(route) + 1)
        under_way, working = under_way + 1, working + work_ns
        if i + 1 < len(sends[core]):
            heapq.heappush(queue, (sent + sends[core][i + 1][0], core, i + 1))
        else:
            end = max(end, sent + tails[core])
    return end
