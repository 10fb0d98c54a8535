"""Placement: what is counted stays counted whatever the cores, shares are exact where the run is, and what does not fit says so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.engine.integer import run
from spikegate.engine.record_counts import narrow
from spikegate.graph.ir import COUNTERS, DeployError, Graph
from spikegate.hw_sim.chip.fit import utilisation, violations
from spikegate.hw_sim.chip.groups import Group, Projection, groups_of, weight_bits
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.latency import latency
from spikegate.hw_sim.chip.mapping import map_to
from spikegate.hw_sim.chip.noc import mesh_for, route
from spikegate.hw_sim.chip.placement import cost, place
from spikegate.hw_sim.chip.profile import Chip, load_chip
from spikegate.hw_sim.chip.reach import landing, packets
from spikegate.hw_sim.chip.splitting import Cut, split
from spikegate.hw_sim.chip.workload import Workload, unrun, workload_of
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.current import Current
from spikegate.ops.inject import Inject
from spikegate.ops.membrane import Membrane
from tests.graphs import chain_graph, halting_graph, halting_input

SYNOP, SPIKES, UPDATES = (COUNTERS.index(c) for c in ("synop", "spike_out", "neuron_update"))


def small(chip: Chip, neurons: int, **limits: int) -> Chip:
    """The chip with fewer neurons on a core, so that small nets need several."""
    new = dict(chip.limits)
    for name, value in {"neurons_per_core": neurons, "neurons_per_conv_core": neurons, **limits}.items():
        new[name] = new[name].model_copy(update={"value": value})
    return chip.model_copy(update={"limits": new})


def workload(graph: Graph, samples: int = 7) -> Workload:
    return workload_of(graph, run(graph, halting_input(samples)))


LOIHI2 = load_chip("loihi2")


@pytest.mark.parametrize("neurons", [8192, 30, 7])
@pytest.mark.parametrize("gated", [True, False])
def test_cores_ops_and_timesteps_add_up_to_the_record(neurons, gated):
    graph = halting_graph(gated=gated)
    record = run(graph, halting_input())
    work = workload_of(graph, record)
    mapping = map_to(work, small(LOIHI2, neurons))
    total = record.counts.sum((0, 1, 2)) / len(record.counts)
    assert mapping.cores > len(work.groups) or neurons == 8192
    assert np.allclose(mapping.counts.sum((0, 1)), total) and np.allclose(work.mean.sum((0, 1)), total)
    assert np.allclose(mapping.counts.sum((1, 2)), work.mean.sum((1, 2)))
    assert mapping.neurons.sum() == sum(g.neurons for g in work.groups)


def test_the_recorded_activity_is_what_the_spikes_say():
    graph = halting_graph()
    record = run(graph, halting_input(), spikes=True)
    for name in graph.ops:
        assert np.array_equal(record.activity[name], np.count_nonzero(record.spikes[name], axis=0)), name
    for name, values in record.values.items():
        assert np.array_equal(values, np.abs(record.spikes[name]).reshape(*values.shape, -1).sum(2)), name


def test_the_record_keeps_its_activity_in_the_file(tmp_path):
    record = run(halting_graph(), halting_input())
    record.save(tmp_path / "events.npz")
    again = type(record).load(tmp_path / "events.npz")
    assert again.activity.keys() == record.activity.keys() and again.values.keys() == record.values.keys()
    assert all(np.array_equal(again.activity[n], a) and again.activity[n].dtype == a.dtype for n, a in record.activity.items())
    for name in ("counts", "exit_step", "logits", "alive"):
        a, b = getattr(again, name), getattr(record, name)
        assert np.array_equal(a, b) and a.dtype == b.dtype, name
    assert {n: v.dtype for n, v in again.values.items()} == {n: v.dtype for n, v in record.values.items()}


@pytest.mark.parametrize("values", [[0, 255], [0, 256], [-1, 300], [-(1 << 40), 5], [0, (1 << 33)], []])
def test_events_are_written_in_the_smallest_type_that_holds_them(values):
    kept = narrow(np.array(values, np.int64))
    assert kept.tolist() == values and (not values or kept.dtype.itemsize < 8 or max(map(abs, values)) > 1 << 31)


def test_accumulates_that_land_on_cores_are_the_counted_ones():
    """Where nothing halts and payloads are binary, activity times synapses is the count itself: no scaling hides an error."""
    graph = chain_graph()
    rng = np.random.default_rng(5)
    record = run(graph, rng.integers(0, 2, (6, graph.timesteps, 20, 2)).astype(np.int32))
    work = workload_of(graph, record)
    for group in work.groups[1:]:
        i = work.index[group.name]
        for cut in (split(group, small(LOIHI2, n)) for n in (1000, 9, 4)):
            for t in range(graph.timesteps):
                p = group.projections[0]
                assert landing(p, work.activity[p.source][t], cut).sum() == pytest.approx(work.mean[t, i, SYNOP]), (group.name, t)


def brute(p: Projection, active: np.ndarray, source: Cut, target: Cut) -> tuple[np.ndarray, np.ndarray]:
    """Packets and accumulates by a loop over every synapse of a convolution."""
    h, w = p.grid
    oh, ow = target.group.grid
    out, per, kh, kw = p.taps.shape
    sent, landed = np.zeros((source.cores, target.cores)), np.zeros(target.cores)
    for position in range(h * w):
        for c in range(active.shape[1]):
            core = source.block_of_position[position] * source.channel_blocks + source.block_of_channel[c]
            reached = set()
            for oy in range(oh):
                for ox in range(ow):
                    dy = position // w - oy * p.stride[0] + p.padding[0]
                    dx = position % w - ox * p.stride[1] + p.padding[1]
                    if not (0 <= dy < kh and 0 <= dx < kw):
                        continue
                    for o in range(out):
                        if o // (out // p.groups) != c // per:
                            continue
                        to = target.block_of_position[oy * ow + ox] * target.channel_blocks + target.block_of_channel[o]
                        reached.add(to)
                        landed[to] += active[position, c] * p.taps[o, c % per, dy, dx]
            for to in reached:
                sent[core, to] += active[position, c]
    return sent, landed


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), grid=st.tuples(st.integers(1, 5), st.integers(1, 5)), stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]), kernel=st.integers(1, 3), cuts=st.tuples(*[st.integers(1, 3)] * 6),
)  # fmt: skip
def test_packets_and_accumulates_equal_a_loop_over_every_synapse(seed, grid, stride, groups, kernel, cuts):
    rng = np.random.default_rng(seed)
    pad = (kernel // 2, kernel // 2)
    out_grid = tuple((g + 2 * p - kernel) // s + 1 for g, p, s in zip(grid, pad, stride))
    taps = rng.random((4, 4 // groups, kernel, kernel)) < 0.7
    p = Projection("a", "conv", "b", taps, 8, grid, stride, pad, groups)
    a, b = Group("a", "lif", grid, 4, ()), Group("b", "conv", out_grid, 4, (p,))
    source, target = Cut(a, cuts[0], cuts[1], cuts[2], 0), Cut(b, cuts[3], cuts[4], cuts[5], 0)
    active = rng.integers(0, 3, (a.positions, 4)).astype(float)
    sent, landed = brute(p, active, source, target)
    assert np.allclose(landing(p, active, target), landed)
    assert np.array_equal(packets(p, active, source, target), sent)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), chips=st.integers(1, 5), cores=st.integers(1, 40))
def test_link_loads_are_those_of_routes_walked_tile_by_tile(seed, chips, cores):
    rng = np.random.default_rng(seed)
    mesh = mesh_for(LOIHI2, chips)
    slots = rng.choice(mesh.slots, cores, replace=False)
    traffic = rng.integers(0, 4, (cores, cores)).astype(float)
    load = route(mesh, slots, traffic)
    links, hops = np.zeros_like(load.links), 0.0
    x, y = mesh.xy(slots)
    for a, b in zip(*np.nonzero(traffic)):
        at = [x[a], y[a]]
        while at != [x[b], y[b]]:
            axis = 0 if at[0] != x[b] else 1
            step = 1 if (x[b], y[b])[axis] > at[axis] else -1
            links[(0 if step > 0 else 1) + 2 * axis, at[1], at[0]] += traffic[a, b]
            at[axis] += step
            hops += traffic[a, b]
    assert np.array_equal(load.links, links) and load.hops == hops == load.links.sum() == cost(mesh, slots, traffic)
    assert load.histogram.sum() == load.packets == traffic.sum() and load.within_tile == load.histogram[0]
    assert chips > 1 or load.between_chips == 0


def test_placement_changes_hops_only_and_the_optimised_one_has_no_more():
    work = workload(halting_graph())
    chip = small(LOIHI2, 9)
    mapping = map_to(work, chip)
    traffic = mapping.traffic.sum(0)
    greedy, better = place(mapping, "greedy"), place(mapping, "optimised")
    assert len(set(better.slots)) == mapping.cores and better.slots.max() < better.mesh.slots
    assert cost(better.mesh, better.slots, traffic) < 0.9 * cost(greedy.mesh, greedy.slots, traffic)
    a, b = (route(p.mesh, p.slots, traffic) for p in (greedy, better))
    assert a.packets == b.packets
    assert np.array_equal(better.slots, place(mapping, "optimised").slots)


def test_one_tile_has_no_hops():
    graph = chain_graph()
    work = workload_of(graph, run(graph, np.ones((2, graph.timesteps, 20, 2), np.int32)))
    mapping = map_to(work, LOIHI2)
    p = place(mapping)
    assert mapping.cores == 3 and route(p.mesh, p.slots, mapping.traffic.sum(0)).hops == 0


def test_tokens_that_halt_earlier_never_add_events_time_or_packets():
    previous = None
    for scores in (0, 120, 400):
        work = workload(halting_graph(scores=scores))
        mapping = map_to(work, LOIHI2)
        times = latency(mapping, place(mapping, "greedy"))
        now = (work.mean[..., UPDATES].sum(), float(times.sum_ns.mean()))
        assert previous is None or all(n <= p + 1e-6 for n, p in zip(now, previous)), scores
        previous = now


def test_currents_are_folded_into_the_neurons_that_read_them():
    rng = np.random.default_rng(2)
    g = Graph(timesteps=3, input_shape=(9, 4))
    g.add("inject", Inject((9, 4), 0, 1), x="input")
    conv = Conv(weight=rng.integers(-9, 9, (4, 4, 1, 1)) * 2, bias=np.zeros(4, int), grid=(3, 3), neuron=Cuba(4096, 2048, 20))
    g.add("a", conv, x="inject")
    g.add("c", Current(weight=conv.weight, bias=conv.bias, grid=(3, 3), copies=2), x="a")
    g.add("m", Membrane((9, 4), Cuba(4096, 2048, 10)), current="c")
    g.add("n", Membrane((9, 4), Cuba(4096, 2048, 15)), current="c")
    g.check()
    record = run(g, rng.integers(0, 2, (5, 9, 4)).astype(np.int32))
    work = workload_of(g, record)
    assert [x.name for x in work.groups] == ["inject", "a", "m", "n"]
    assert np.array_equal(work.count("synop").sum((0, 1)).sum(), record.total("synop").sum())
    assert work.mean[:, 2, SYNOP].sum() == work.mean[:, 3, SYNOP].sum() > 0
    assert {p.source for p in work.groups[2].projections} == {"a"}
    assert map_to(work, LOIHI2).traffic[:, 1, 2:].sum() == pytest.approx(2 * work.mean[:, 1, SPIKES].sum())


def test_shared_weights_are_stored_once_for_all_sources_of_a_residual():
    groups = {g.name: g for g in groups_of(halting_graph())}
    one, two = groups["block1.q"], groups["block2.q"]
    assert len([p for p in two.projections if not p.control]) > len([p for p in one.projections if not p.control])
    assert split(one, LOIHI2).words == split(two, LOIHI2).words == 8


def test_weight_bits_are_the_logs():
    assert [weight_bits(np.array([peak])) for peak in (8, -8, 10, -12, 254)] == [5, 5, 6, 6, 8]


def test_what_does_not_fit_is_named_with_what_to_do():
    mapping = map_to(unrun(halting_graph()), load_chip("loihi1"))
    found = {v.op: v for v in violations(mapping) if "no operation" in v.what}
    assert {"gate1", "block1.attention", "exit"} <= set(found) and all(v.hint for v in found.values())
    wide = Group("wide", "dense", (1, 1), 2, (Projection("x", "dense", "wide", np.ones((2, 40_000), bool), 8),))
    work = dataclasses.replace(unrun(halting_graph()), groups=[wide], activity={"wide": np.ones((1, 1, 2))})
    (broken,) = violations(map_to(work, LOIHI2))
    assert broken.op == "wide" and "80,000 synaptic words" in broken.what and "12,000" in broken.what
    assert not violations(map_to(unrun(halting_graph()), LOIHI2))


def test_several_chips_when_one_is_not_enough():
    work = workload(halting_graph())
    one, many = (on_chip(work, c, []) for c in (LOIHI2, small(LOIHI2, 2, cores_per_chip=16)))
    assert one.mapping.chips == 1 and many.mapping.chips == -(-many.mapping.cores // 16) > 5 and many.load.between_chips > 0
    assert all(r["neurons"]["used"] <= 2 for r in utilisation(many.mapping))


def test_a_net_with_serial_halting_cannot_be_pipelined_and_a_rectangle_can():
    serial = map_to(workload(halting_graph()), LOIHI2)
    assert not serial.work.pipeline_safe
    with pytest.raises(DeployError, match="cannot be pipelined"):
        latency(serial, place(serial, "greedy"), "pipelined")
    assert latency(serial, place(serial, "greedy")).schedule == "wait"
    for graph, apart in ((halting_graph(gated=False), 1), (halting_graph(order="rectangle"), 2)):  # gate 0 answers a chip step later
        mapping = map_to(workload(graph), LOIHI2)
        times = latency(mapping, place(mapping, "greedy"))
        assert times.schedule == "pipelined" and mapping.work.interval == apart
        assert np.array_equal(times.steps, (mapping.work.exit_step - 1) * apart + mapping.work.depth)
        assert (times.interval_ns <= times.sum_ns).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["limits"].pop("axons_in"), "limits.axons_in is missing"),
        (lambda c: c["timing"]["synop"].update(unit="us"), "timing.synop is in us; give it in ns"),
        (lambda c: c["limits"]["mesh_rows"].update(value=1), "do not fit"),
        (lambda c: c["limits"]["neurons_per_core"].update(value=None), "whole number"),
        (lambda c: c["limits"]["neurons_per_core"].pop("source"), "source"),
    ],
)
def test_a_wrong_chip_profile_is_refused_by_name(change, message, tmp_path):
    import yaml

    from spikegate.hw_sim.chip.profile import FOLDER

    content = yaml.safe_load((FOLDER / "loihi2.yml").read_text())
    change(content)
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(content))
    with pytest.raises(DeployError, match=message):
        load_chip(str(tmp_path / "mine.yml"))
    with pytest.raises(DeployError, match="known: loihi1, loihi2"):
        load_chip("loihi3")
