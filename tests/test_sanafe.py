"""SANA-FE as a judge of the ledger: random nets on random cores, every synapse by itself, same energies, packets, hops, times."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from spikegate.command import cli
from spikegate.deploy import run as deploy
from spikegate.engine import integer
from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, INPUT, DeployError, Graph
from spikegate.hw_sim import place as command
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.mapping import Mapping, map_to
from spikegate.hw_sim.chip.noc import mesh_for, route
from spikegate.hw_sim.chip.placed_energy import price_placed
from spikegate.hw_sim.chip.placement import Placement, place
from spikegate.hw_sim.chip.profile import Chip, load_chip
from spikegate.hw_sim.chip.workload import workload_of
from spikegate.hw_sim.energy.cost_tables import load_table
from spikegate.hw_sim.sanafe import adapter
from spikegate.hw_sim.sanafe.queueing import queued
from spikegate.hw_sim.sanafe.replay import Costs, Edge, Played, Replay, costs_of, replay_of, simple
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.dense import Dense
from tests.graphs import halting_graph, halting_input

LOIHI2, DAVIES = load_chip("loihi2"), load_table("loihi1-davies")
SYNOP = COUNTERS.index("synop")


def chip_of(neurons: int, per_tile: int) -> Chip:
    """Loihi 2 with few neurons on a core and few cores in a tile."""
    limits = dict(LOIHI2.limits)
    values = {"neurons_per_core": neurons, "neurons_per_conv_core": neurons, "cores_per_tile": per_tile, "cores_per_chip": 32 * per_tile}
    for name, value in values.items():
        limits[name] = limits[name].model_copy(update={"value": value})
    return LOIHI2.model_copy(update={"limits": limits})


def random_graph(rng: np.random.Generator) -> Graph:
    """Convolutions (kernel, stride, groups at random), a residual, a dense layer; some weights are zero."""
    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-30, 40, shape) * 2 * (rng.random(shape) < 0.7)

    def conv(outer: int, inner: int, grid: tuple[int, int], kernel: int, stride: int = 1, groups: int = 1) -> Conv:
        return Conv(weight=weight(outer, inner // groups, kernel, kernel), bias=rng.integers(-9, 30, outer), grid=grid, padding=kernel // 2,
                    stride=stride, groups=groups, neuron=Cuba(4096, 2048, int(rng.integers(20, 90))))

    height, width, channels, timesteps = (int(rng.integers(a, b)) for a, b in ((3, 6), (3, 6), (2, 4), (2, 5)))
    g = Graph(timesteps=timesteps, input_shape=(height * width, channels), meta={"input_grid": [height, width]})
    stride = int(rng.integers(1, 3))
    grid = tuple((v + 2 - 3) // stride + 1 for v in (height, width))
    g.add("a", conv(4, channels, (height, width), 3, stride), x=INPUT)
    g.add("b", conv(4, 4, grid, int(rng.choice([1, 3])), groups=int(rng.choice([1, 2]))), x="a")
    g.add("c", conv(6, 4, grid, 1), x=["a", "b"])
    outer = int(rng.integers(3, 9))
    g.add("d", Dense(weight=weight(outer, grid[0] * grid[1] * 6), bias=np.zeros(outer, int), neuron=Cuba(4096, 400, 60)), x="c")
    g.check()
    return g


def every_synapse(graph: Graph, mapping: Mapping, replay: Replay) -> Replay:
    """The replay with one synapse for each weight, found by a loop over the weights; a zero brings a packet and no accumulate."""
    at = {}  # (group, neuron) -> (core, number in the core), numbered as the cuts say
    for i, cut in enumerate(mapping.cuts):
        seen: dict[int, int] = {}
        for n in range(cut.group.positions * cut.group.channels):
            position, channel = divmod(n, cut.group.channels)
            core = int(mapping.first[i] + cut.block_of_position[position] * cut.channel_blocks + cut.block_of_channel[channel])
            at[cut.group.name, n] = core, seen.get(core, 0)
            seen[core] = seen.get(core, 0) + 1
    found: dict[tuple[int, int], list[tuple[int, bool]]] = {}

    def synapse(source: str, n: int, target: str, m: int, weight: int) -> None:
        core, number = at[source, n]
        found.setdefault((core, at[target, m][0]), []).append((number, weight != 0))

    for e in graph.edges:
        if e.source == INPUT:
            continue
        op = graph.ops[e.target]
        if isinstance(op, Dense):
            for (m, n), w in np.ndenumerate(op.weight.reshape(len(op.weight), -1)):
                synapse(e.source, n, e.target, m, w)
            continue
        assert isinstance(op, Conv)
        out, per = op.weight.shape[:2]
        (h, w), (oh, ow) = op.grid, op.out_grid
        inner = per * op.groups
        for (o, i, dy, dx), value in np.ndenumerate(op.weight):
            for oy in range(oh):
                for ox in range(ow):
                    y, x = oy * op.stride + dy - op.padding, ox * op.stride + dx - op.padding
                    if 0 <= y < h and 0 <= x < w:
                        channel = o // (out // op.groups) * per + i
                        synapse(e.source, (y * w + x) * inner + channel, e.target, (oy * ow + ox) * out + o, value)
    edges = [Edge(c, to, np.array([n for n, _ in held]), np.array([float(counts) for _, counts in held]))
             for (c, to), held in sorted(found.items())]
    return dataclasses.replace(replay, edges=edges)


def equal(a: Played, b: Played) -> None:
    assert (a.packets, a.hops) == (b.packets, b.hops)
    for name in ("synapse", "soma", "network", "total", "events"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9, abs=0), name


def one_sample(graph: Graph, x: np.ndarray, chip: Chip) -> tuple[Record, Mapping]:
    record = integer.run(graph, x, spikes=True)
    return record, map_to(workload_of(graph, record), chip)


@pytest.mark.parametrize("seed", range(10))
def test_the_ledger_is_sanafe_with_every_synapse_by_itself(seed):
    pytest.importorskip("sanafe", reason="sanafe is not installed (extra sanafe)")
    rng = np.random.default_rng(seed)
    neurons, per_tile, schedule = int(rng.integers(6, 40)), int(rng.integers(1, 5)), ("wait", "pipelined")[seed % 2]
    graph = random_graph(rng)
    x = rng.integers(0, 2, (1, graph.timesteps, *graph.input_shape)).astype(np.int32)
    record, mapping = one_sample(graph, x, chip_of(neurons, per_tile))
    mesh = place(mapping, "greedy").mesh
    placement = Placement(mesh, rng.permutation(mesh.slots)[: mapping.cores])
    replay = replay_of(mapping, placement, {n: v[0] for n, v in record.spikes.items()}, schedule)
    full = every_synapse(graph, mapping, replay)
    work, traffic = mapping.work, mapping.traffic.sum(0)
    for costs in (adapter.loihi_costs(), costs_of(mapping.chip, DAVIES)):
        ours, theirs = simple(replay, costs), adapter.play(full, costs, "simple")
        equal(ours, theirs)
        assert np.allclose(ours.step_s, theirs.step_s, rtol=1e-9, atol=0)
        equal(ours, adapter.play(replay, costs, "simple"))  # one synapse for all of a neuron's on a core, as large nets need it
        small, large = (adapter.play(r, costs, "detailed") for r in (replay, full))
        equal(small, large)
        assert small.time_s == pytest.approx(large.time_s, rel=0.01)  # packets of the same moment: SANA-FE may take either first
        assert small.time_s >= ours.time_s
        waits = queued(replay, costs)
        equal(waits, small)
        assert np.array_equal(queued(full, costs).step_s, waits.step_s)  # ours does not depend on it
        assert waits.time_s == pytest.approx(small.time_s, rel=0.01) and waits.time_s == pytest.approx(large.time_s, rel=0.01)
    chip_side = [i for i, g in enumerate(work.groups) if INPUT not in {p.source for p in g.projections}]  # without the host's events
    load = route(mesh, placement.slots, traffic)
    assert theirs.events == work.mean[:, chip_side, SYNOP].sum()
    assert (theirs.packets, theirs.hops) == (load.packets, load.hops) == (traffic.sum(), load.links.sum())


def test_placed_energies_are_sanafes_where_every_neuron_is_visited():
    pytest.importorskip("sanafe", reason="sanafe is not installed (extra sanafe)")
    rng = np.random.default_rng(3)
    graph = random_graph(rng)
    x = rng.integers(0, 2, (1, graph.timesteps, *graph.input_shape)).astype(np.int32)
    record, mapping = one_sample(graph, x, chip_of(12, 2))
    hw = on_chip(mapping.work, mapping.chip, [], schedule="wait", mapping=mapping)
    e = price_placed(mapping, hw.placement, DAVIES, hw.times)
    replay = replay_of(mapping, hw.placement, {n: v[0] for n, v in record.spikes.items()}, "wait")
    theirs = adapter.play(every_synapse(graph, mapping, replay), costs_of(mapping.chip, DAVIES), "simple")
    parts = {n: b.value * 1e-12 for n, b in e.components.items()}
    host = mapping.work.mean[:, 0, SYNOP].sum() * 23.6e-12  # the first layer's accumulates come from the host
    assert parts["synapses"] - host == pytest.approx(theirs.synapse, rel=1e-9)
    assert parts["neurons"] + parts["idle visits"] == pytest.approx(theirs.soma, rel=1e-9)
    assert parts["packets"] + parts["hops"] == pytest.approx(theirs.network, rel=1e-9)


@pytest.mark.parametrize("order", ["serial", "rectangle"])
def test_attention_and_gates_do_the_counted_work_on_every_core(order):
    pytest.importorskip("sanafe", reason="sanafe is not installed (extra sanafe)")
    graph = halting_graph(order=order)
    record, mapping = one_sample(graph, halting_input(1), chip_of(9, 4))
    placement = place(mapping, "greedy")
    schedule = "wait" if order == "serial" else "pipelined"
    replay = replay_of(mapping, placement, {n: v[0] for n, v in record.spikes.items()}, schedule)
    counted = mapping.counts[..., [SYNOP, COUNTERS.index("attention_ac")]].sum((0, 2))
    for core in range(mapping.cores):
        done = sum(float((replay.fired[e.sender][:, e.source] @ e.fan).sum()) for e in replay.edges if e.receiver == core)
        heard = any(replay.fired[e.sender][:, e.source].any() for e in replay.edges if e.receiver == core)
        assert not heard or done == pytest.approx(counted[core]), core
    costs = adapter.loihi_costs()
    ours, theirs = simple(replay, costs), adapter.play(replay, costs, "simple")
    equal(ours, theirs)
    assert np.allclose(ours.step_s, theirs.step_s, rtol=1e-9, atol=0)
    assert len(ours.step_s) == int(on_chip(mapping.work, mapping.chip, [], schedule=schedule, mapping=mapping).times.steps[0])


def test_place_replays_a_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sanafe", reason="sanafe is not installed (extra sanafe)")
    monkeypatch.chdir(tmp_path)

    def call(main, *args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["x", *args])
        cli.run(main)
        return capsys.readouterr().out

    call(deploy.main, "zoo:spikformer-digits", "--target", "int", "--data", "test:4", "--json")
    figures = json.loads(call(command.main, "zoo:spikformer-digits", "--noc", "sanafe", "--json"))
    found = figures["network_detail"]
    assert found == json.loads(Path("runs/zoo-spikformer-digits/report/hardware.json").read_text())["network_detail"]
    assert found["simulator"] == "SANA-FE 2.2.9" and found["left_out"] and len(found["step_detailed_s"]) == found["chip_steps"]
    assert 0 < found["time_simple_s"] <= found["time_detailed_s"] and 0 < found["packets"] < 2 * figures["network_on_chip"]["packets"]
    text = call(command.main, "zoo:spikformer-digits", "--noc", "sanafe-loihi")
    assert "SANA-FE 2.2.9, its own Loihi figures" in text and "packets that wait for each other" in text


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sanafe", None)
    with pytest.raises(DeployError, match="sanafe") as e:
        adapter.package()
    assert "spikegate[sanafe]" in e.value.hint


def test_shapes_of_a_paper_have_no_events_to_replay(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["place.py", "--paper", "spikformer-1-64", "--noc", "sanafe"])
    with pytest.raises(SystemExit) as e:
        cli.run(command.main)
    assert e.value.code == 1 and "no events to replay" in capsys.readouterr().err


def two_senders(fan: float, buffer: int) -> tuple[Replay, Played]:
    """Cores 0 and 1 send 3 packets each to core 2, on one tile: nothing else happens."""
    fired = [np.ones((1, 3), bool), np.ones((1, 3), bool), np.zeros((1, 1), bool)]
    edges = [Edge(c, 2, np.arange(3), np.full(3, fan)) for c in (0, 1)]
    replay = Replay(mesh_for(LOIHI2, 1), np.arange(3), np.array([3, 3, 1]), fired, edges)
    costs = Costs(synapse=(1, 10), visit=(1, 1), fire=(1, 0), packet_out=(1, 1), packet_in=(1, 0), hop_x=(1, 1), hop_y=(1, 1),
                  sync_ns=((1, 100),))
    return replay, queued(replay, costs, buffer)


def test_a_core_receives_one_packet_after_the_other():
    """Packets leave at 2, 4, 6 ns from each sender; the receiver takes 10 ns for each: 2 + 6 x 10, and the end."""
    assert two_senders(1.0, 16)[1].time_s == pytest.approx((2 + 60 + 100) * 1e-9)
    assert two_senders(0.0, 16)[1].time_s == pytest.approx((6 + 100) * 1e-9)  # nothing to do: the senders' own time
    slow = two_senders(1.0, 0)[1].time_s
    assert slow >= two_senders(1.0, 16)[1].time_s  # without buffers the senders wait as well
