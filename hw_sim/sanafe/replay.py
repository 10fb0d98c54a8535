"""A run on placed cores, event by event, as network simulators want it: who fires in which chip step, and what each event makes a core do.

SANA-FE's accounting (Boyle et al., IEEE TCAD 44(8) 3165-3178, 2025), its *simple* time included, is restated here in NumPy from the
replay; `spikegate.hw_sim.sanafe.adapter` lets SANA-FE itself do the same and adds its *detailed* time of the network.
"""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import dataclass

import numpy as np

from spikegate.graph.ir import COUNTERS
from spikegate.hw_sim.chip.groups import Projection
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.noc import Mesh, route
from spikegate.hw_sim.chip.placement import Placement
from spikegate.hw_sim.chip.profile import Chip
from spikegate.hw_sim.chip.reach import channels_reached, positions_reached
from spikegate.hw_sim.chip.splitting import Cut
from spikegate.hw_sim.energy.cost_tables import ACTIVE, INACTIVE, CostTable

STATIC = ("conv", "dense", "mix", "direct")  # forms whose accumulates by event follow from the weights alone
Pair = tuple[float, float]


@dataclass(frozen=True)
class Costs:
    """(pJ, ns) of an accumulate, of a neuron visited, of what a firing neuron adds, of a packet sent and received, of a hop.

    `sync_ns` are (occupied tiles, ns of a step's end), valid from so many tiles on.
    """

    synapse: Pair
    visit: Pair
    fire: Pair
    packet_out: Pair
    packet_in: Pair
    hop_x: Pair
    hop_y: Pair
    sync_ns: tuple[Pair, ...]


@dataclass(frozen=True, eq=False)
class Edge:
    """Synapses from neurons of one core to another: `source` int64 [n] counts the sending core's neurons, `fan` float64 [n] accumulates.

    A neuron stands there once, or once for each of its synapses: a simulator makes one packet of them all, `simple` one of each entry.
    """

    sender: int
    receiver: int
    source: np.ndarray
    fan: np.ndarray


@dataclass(frozen=True, eq=False)
class Replay:
    """One sample on a chip.

    Attributes
    ----------
    neurons : int64 [cores]
    slots : int64 [cores] on the mesh
    fired : core -> bool [chip steps, neurons of the core]
    edges : at most one for each pair of cores
    """

    mesh: Mesh
    slots: np.ndarray
    neurons: np.ndarray
    fired: list[np.ndarray]
    edges: list[Edge]

    @property
    def steps(self) -> int:
        return len(self.fired[0])


@dataclass(frozen=True, eq=False)
class Played:
    """What a replay comes to; energies in J, times in s, `step_s` float64 [chip steps].

    `synapse`, `soma` and `network` are SANA-FE's components. `events` are accumulates.
    """

    synapse: float
    soma: float
    network: float
    events: float
    packets: int
    hops: int
    step_s: np.ndarray

    @property
    def total(self) -> float:
        return self.synapse + self.soma + self.network

    @property
    def time_s(self) -> float:
        return float(self.step_s.sum())


def costs_of(chip: Chip, table: CostTable, chips: int = 1) -> Costs:
    """Times of a chip profile with the prices of a table; 0 where one is not known."""
    idle, active = (table.pj(q) or 0.0 for q in (INACTIVE, ACTIVE))
    hops = [(table.placed[n].pj if n in table.placed else 0.0, chip.ns(n)) for n in ("hop_x", "hop_y")]
    return Costs(
        synapse=(table.pj("synop") or 0.0, chip.ns("synop") + chip.ns("memory_word")), visit=(idle, chip.ns("neuron_inactive")),
        fire=(active - idle, chip.ns("neuron_active") - chip.ns("neuron_inactive")),
        packet_out=(table.pj("message") or 0.0, chip.ns("spike_out")), packet_in=(0.0, 0.0), hop_x=hops[0], hop_y=hops[1],
        sync_ns=((1, chip.ns("barrier") + (chip.ns("chip_barrier") if chips > 1 else 0.0)),),
    )  # fmt: skip


def fan_out(p: Projection, positions: int, channels: int, target: Cut) -> tuple[np.ndarray, np.ndarray]:
    """(accumulates of one event on each core float64, whether it is sent there bool), both [positions * channels, cores of the target].

    Forms without weights of their own (attention, words of gates) have no accumulates here; see `replay_of`.
    """
    pb, cb = target.position_blocks, target.channel_blocks
    sent = positions_reached(p, positions, target)[:, None, :, None] & channels_reached(p, channels, target)[None, :, None, :]
    sent = np.broadcast_to(sent, (positions, channels, pb, cb)).reshape(positions * channels, target.cores)
    fan = np.zeros((positions, channels, pb, cb))
    starts = np.arange(0, target.group.channels, target.channels)
    if p.form == "conv":
        assert p.taps is not None
        out, per, kh, kw = p.taps.shape
        lanes = np.zeros((out, channels, kh, kw))
        for o in range(out):
            first = o // (out // p.groups) * per
            lanes[o, first : first + per] = p.taps[o]
        taps = np.add.reduceat(lanes, starts, axis=0)  # [blocks, channels, kh, kw]
        (h, w), (oh, ow) = p.grid, target.group.grid
        oy, ox = np.divmod(np.arange(oh * ow), ow)
        for dy in range(kh):
            for dx in range(kw):
                y, x = oy * p.stride[0] + dy - p.padding[0], ox * p.stride[1] + dx - p.padding[1]
                inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
                where = (y * w + x)[inside], target.block_of_position[inside]
                counted = np.zeros((positions, pb))
                np.add.at(counted, where, 1)
                fan += counted[:, None, :, None] * taps[:, :, dy, dx].T[None, :, None, :]
    elif p.form == "dense":
        assert p.taps is not None
        shaped = p.taps.T.reshape(positions * channels, target.group.positions, target.group.channels)
        by_channel = np.add.reduceat(shaped.astype(np.float64), starts, axis=2)
        flat = fan.reshape(positions * channels, pb, cb)  # a view
        for position, block in enumerate(target.block_of_position):
            flat[:, block] += by_channel[:, position]
    elif p.form == "mix":
        assert p.taps is not None
        head = np.arange(channels) * len(p.taps) // channels
        for position, block in enumerate(target.block_of_position):
            reached = p.taps[head, position].T  # [source positions, channels]
            fan[np.arange(positions)[:, None], np.arange(channels), block, target.block_of_channel] += reached
    elif p.form == "direct" and (positions, channels) == (target.group.positions, target.group.channels):
        fan[np.arange(positions)[:, None], np.arange(channels), target.block_of_position[:, None], target.block_of_channel] = 1
    return fan.reshape(positions * channels, target.cores), sent


def replay_of(mapping: Mapping, placement: Placement, spikes: Dict[str, np.ndarray], schedule: str) -> Replay:
    """Events of one sample in their chip steps.

    Parameters
    ----------
    mapping : of a workload of this one sample (its counts are what the fan-outs have to add up to)
    spikes : group -> [T, ...], values sent
    schedule : "pipelined" or "wait", as in `spikegate.hw_sim.chip.latency`

    An event's accumulates are those of its weights. What has none of its own (attention, gates, a graded value beyond 1, less work for
    halted tokens) is spread evenly over the events that reach the core, so that each core does as many accumulates as were counted.
    """
    work = mapping.work
    place, fired = _places(mapping), _fired(mapping, spikes, schedule)
    fans: dict[tuple[int, int], np.ndarray] = {}  # (sender, receiver) -> [its neurons, (accumulates, has no weights, is sent)]
    for a, b, k in mapping.edges:
        source, cut, p = work.groups[a], mapping.cuts[b], work.groups[b].projections[k]
        fan, sent = fan_out(p, source.positions, source.channels, cut)
        core, rank = place[a]
        for j in range(cut.cores):
            for c in np.unique(core[sent[:, j]]):
                rows = np.flatnonzero((core == c) & sent[:, j])
                held = fans.setdefault((int(c), int(mapping.first[b]) + j), np.zeros((int(mapping.neurons[c]), 3)))
                held[rank[rows], 0] += fan[rows, j]
                held[rank[rows], 1] += p.form not in STATIC
                held[rank[rows], 2] = 1
    events = np.zeros((mapping.cores, 2))
    for (c, to), held in fans.items():
        events[to] += fired[c].sum(0) @ held[:, :2]
    done = mapping.counts[..., [COUNTERS.index("synop"), COUNTERS.index("attention_ac")]].sum((0, 2))
    static, free = events.T
    spread = np.where(free > 0, np.maximum(0, done - static) / np.maximum(free, 1), 0)
    scale = np.where((static > 0) & ((free == 0) | (done < static)), done / np.where(static > 0, static, 1), 1)
    edges = []
    for (c, to), held in sorted(fans.items()):
        sends = np.flatnonzero(held[:, 2])
        edges.append(Edge(c, to, sends, held[sends, 0] * scale[to] + held[sends, 1] * spread[to]))
    return Replay(placement.mesh, placement.slots, mapping.neurons, fired, edges)


def _places(mapping: Mapping) -> list[tuple[np.ndarray, np.ndarray]]:
    """By group: core of each neuron of the map, and its number within the core, int64 [neurons] each."""
    out = []
    for i, cut in enumerate(mapping.cuts):
        core = (cut.block_of_position[:, None] * cut.channel_blocks + cut.block_of_channel).ravel() + mapping.first[i]
        order = np.argsort(core, kind="stable")
        rank = np.empty(len(core), np.int64)
        rank[order] = np.arange(len(core)) - np.searchsorted(core[order], core[order])
        out.append((core, rank))
    return out


def _fired(mapping: Mapping, spikes: Dict[str, np.ndarray], schedule: str) -> list[np.ndarray]:
    """By core: who fires in which chip step, bool [chip steps, neurons of the core]."""
    work = mapping.work
    apart, last = work.depth if schedule == "wait" else work.interval, int(work.exit_step[0])
    fired = [np.zeros(((last - 1) * apart + work.depth, int(n)), bool) for n in mapping.neurons]
    for group, (core, rank) in zip(work.groups, _places(mapping)):
        for t in range(last):
            sent = np.flatnonzero(np.asarray(spikes[group.name][t]).ravel()[: len(core)])
            for c in np.unique(core[sent]):
                fired[c][t * apart + group.level - 1, rank[sent[core[sent] == c]]] = True
    return fired


def simple(replay: Replay, costs: Costs) -> Played:
    """SANA-FE's energies and *simple* time: a step takes the slowest core's neurons or its messages, whichever is longer, and the end."""
    cores, steps = len(replay.neurons), replay.steps
    fires = np.array([f.sum(1) for f in replay.fired], float)  # [cores, steps]
    neuron_ns = replay.neurons[:, None] * costs.visit[1] + fires * costs.fire[1]
    message_ns, traffic, events = np.zeros((cores, steps)), np.zeros((cores, cores)), 0.0
    for e in replay.edges:
        active = replay.fired[e.sender][:, e.source]
        packets, accumulates = active.sum(1), active @ e.fan
        neuron_ns[e.sender] += packets * costs.packet_out[1]
        message_ns[e.receiver] += packets * costs.packet_in[1] + accumulates * costs.synapse[1]
        traffic[e.sender, e.receiver] += packets.sum()
        events += float(accumulates.sum())
    load = route(replay.mesh, replay.slots, traffic)
    tiles = len(np.unique(np.stack(replay.mesh.xy(replay.slots), 1), axis=0))
    sync = [ns for least, ns in costs.sync_ns if least <= tiles][-1]
    packets_pj = load.packets * (costs.packet_out[0] + costs.packet_in[0]) + load.hops_x * costs.hop_x[0] + load.hops_y * costs.hop_y[0]
    soma_pj = steps * float(replay.neurons.sum()) * costs.visit[0] + float(fires.sum()) * costs.fire[0]
    step_ns = np.maximum(neuron_ns.max(0), message_ns.max(0)) + sync
    return Played(events * costs.synapse[0] * 1e-12, soma_pj * 1e-12, packets_pj * 1e-12, events, int(load.packets), int(load.hops),
                  step_ns * 1e-9)
