"""Time, energy and the hardware commands: hand-computed figures, refusals, and PilotNet's public measurement."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from spikegate.command import cli
from spikegate.engine.integer import run
from spikegate.formats.netx.graph_file import write_graph
from spikegate.graph.ir import COUNTERS, DeployError, Graph
from spikegate.hw_sim import place
from spikegate.hw_sim.chip import pilotnet
from spikegate.hw_sim.chip.groups import Group, Projection
from spikegate.hw_sim.chip.hardware import on_chip, to_json
from spikegate.hw_sim.chip.papers import at_rate, shapes
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.workload import Workload, workload_of
from spikegate.hw_sim.energy.band import Band
from spikegate.hw_sim.energy.cost_tables import CostTable, load_table, load_tables, names
from spikegate.hw_sim.energy.ledger import NetInfo
from spikegate.hw_sim.energy.pricing import price
from spikegate.hw_sim.measurements.pilotnet import cores_by_layer
from spikegate.hw_sim.on_cores import coarser, truncated
from tests.graphs import halting_graph, halting_input
from tests.run_folder import adaptive_graph, record_of, write_export

LOIHI2 = load_chip("loihi2")


def pair(first: tuple[int, int], second: tuple[int, int], exits: int = 2) -> Workload:
    """Two dense layers of 4 and 3 neurons, a sample of two timesteps; (accumulates, spikes) of each layer, the same in both timesteps."""
    taps = np.ones((4, 4), bool), np.ones((3, 4), bool)
    groups = [
        Group("a", "dense", (1, 1), 4, (Projection("input", "dense", "a", taps[0], 8),), level=1),
        Group("b", "dense", (1, 1), 3, (Projection("a", "dense", "b", taps[1], 8),), level=2),
    ]
    counts = np.zeros((1, 2, 2, len(COUNTERS)), np.int64)
    for i, (synops, spikes) in enumerate((first, second)):
        counts[0, :exits, i, COUNTERS.index("synop")] = synops
        counts[0, :exits, i, COUNTERS.index("spike_out")] = spikes
        counts[0, :exits, i, COUNTERS.index("neuron_update")] = groups[i].neurons
    spread = {g.name: np.repeat(counts[0, :, i, COUNTERS.index("spike_out")][:, None, None] / g.neurons, g.neurons, 2)
              for i, g in enumerate(groups)}
    return Workload(groups, counts, spread, {}, np.array([exits]))


def test_step_times_equal_a_hand_computation():
    synop, idle, fire, spike, barrier = (LOIHI2.ns(n) for n in ("synop", "neuron_inactive", "neuron_active", "spike_out", "barrier"))
    a = 1000 * synop + 4 * idle + 2 * (fire - idle) + 2 * spike
    b = 50 * synop + 3 * idle + (fire - idle) + spike
    hw = on_chip(pair((1000, 2), (50, 1)), LOIHI2, [], schedule="wait", method="greedy")
    assert hw.times is not None and hw.times.steps.tolist() == [4]
    assert hw.times.step_ns == pytest.approx([a + barrier, b + barrier] * 2)
    assert hw.times.sum_ns == pytest.approx([2 * (a + b) + 4 * barrier])
    assert hw.times.bound_by[0] == "synop" and hw.times.bottleneck == "synop" and hw.times.bound_ns[0] < hw.times.sum_ns[0]
    piped = on_chip(pair((1000, 2), (50, 1)), LOIHI2, [], schedule="pipelined", method="greedy").times
    assert piped is not None and piped.steps.tolist() == [3]
    assert piped.step_ns == pytest.approx([a + barrier, a + barrier, b + barrier])
    assert piped.interval_ns == pytest.approx([2 * (a + barrier)])


def test_the_bound_names_the_largest_term():
    for work, term in ((pair((0, 0), (0, 0)), "barrier"), (pair((1000, 0), (0, 0)), "synop")):
        times = on_chip(work, LOIHI2, [], schedule="wait", method="greedy").times
        assert times is not None and times.bound_by[0] == term
    slow = LOIHI2.timing | {"neuron_inactive": LOIHI2.timing["neuron_inactive"].model_copy(update={"value": 500.0})}
    times = on_chip(pair((1000, 0), (0, 0)), LOIHI2.model_copy(update={"timing": slow}), [], method="greedy").times
    assert times is not None and times.bound_by[0] == "neuron"


def test_an_earlier_exit_takes_less_time_and_energy():
    tables = [load_table("loihi2-pilotnet")]
    late, early = (on_chip(pair((1000, 2), (50, 1), exits=n), LOIHI2, tables, schedule="wait") for n in (2, 1))
    assert late.times is not None and early.times is not None
    assert early.times.sum_ns[0] == pytest.approx(late.times.sum_ns[0] / 2)
    assert early.energies[0].dynamic.value == pytest.approx(late.energies[0].dynamic.value / 2)


def test_the_link_bound_grows_with_the_packets():
    slow = LOIHI2.timing | {"link_packet": LOIHI2.timing["link_packet"].model_copy(update={"value": 1e6})}
    limits = dict(LOIHI2.limits)
    for name in ("cores_per_tile", "cores_per_chip"):
        limits[name] = limits[name].model_copy(update={"value": 1 if name == "cores_per_tile" else 32})
    chip = LOIHI2.model_copy(update={"timing": slow, "limits": limits})
    times = on_chip(pair((10, 3), (10, 0)), chip, [], schedule="pipelined", method="greedy").times
    assert times is not None and times.bottleneck == "link" and times.bound_ns[0] >= 3e6


def test_placed_energies_equal_a_hand_computation():
    e = on_chip(pair((1000, 2), (50, 1)), LOIHI2, [load_table("loihi1-davies")], schedule="wait").energies[0]
    parts = {n: b.value for n, b in e.components.items()}
    assert parts["synapses"] == pytest.approx(2 * 1050 * 23.6)
    assert parts["neurons"] == pytest.approx(2 * (3 * 81 + 4 * 52))
    assert parts["idle visits"] == pytest.approx(2 * 7 * 52)  # two levels take turns
    assert parts["packets"] == pytest.approx(2 * 2 * 1.7) and parts["hops"] == 0  # two cores of one tile; b has no reader
    assert e.dynamic.value == pytest.approx(sum(parts.values())) and e.static is None and e.total is None
    assert e.to_json()["total_refused"] == "no static power for this chip in this table"


def test_static_energy_is_power_times_time_times_chips_with_its_band():
    hw = on_chip(pair((1000, 2), (50, 1)), LOIHI2, [load_table("loihi2-pilotnet")])
    e = hw.energies[0]
    assert hw.times is not None and e.static is not None and e.total is not None
    seconds = hw.times.interval_ns[0] * 1e-9
    assert e.static.value == pytest.approx(0.232 * seconds * 1e12) and e.static.high == pytest.approx(0.28 * seconds * 1e12)
    assert e.dynamic.ordered.low < e.dynamic.value < e.dynamic.ordered.high
    assert e.total.value == pytest.approx(e.dynamic.value + e.static.value)
    assert "estimate" in e.label and "estimate" in hw.title


def test_events_without_a_price_refuse_the_total():
    content = load_table("loihi2-pilotnet").model_dump(by_alias=True)
    content["prices"].pop("message")
    e = on_chip(pair((1000, 2), (50, 1)), LOIHI2, [CostTable.model_validate(content)]).energies[0]
    assert e.unpriced == {"message": 4.0} and e.total is None and e.to_json()["total_refused"] == "no price for message"
    counted = on_chip(pair((1000, 2), (50, 1)), LOIHI2, [load_table("synops")]).energies[0]
    assert counted.total is None and counted.to_json()["dynamic_pj"] is None


def test_the_ledger_agrees_with_the_unplaced_energy():
    """What needs no placement is priced as before: only messages become packets, and hops and memory join."""
    graph = adaptive_graph()
    record = record_of(graph)
    work = workload_of(graph, record)
    for table in load_tables(names()):
        before = price(record, NetInfo(host_macs=7), table)
        after = on_chip(work, LOIHI2, [table], host_macs=7).energies[0]
        messages = COUNTERS.index("message")
        assert after.ops_pj.sum() == pytest.approx(before.chip_pj - before.energy_pj[..., messages].sum())
        assert (after.host_pj or 0.0) == before.host_pj


@pytest.mark.parametrize("order", ["serial", "rectangle"])
def test_idle_neurons_that_a_chip_still_visits_are_in_the_total(order):
    """Halted tokens' in any case; where a timestep waits for the one before, also those of all other levels."""
    table, graph = load_table("loihi1-davies"), halting_graph(order=order)
    gated = workload_of(graph, run(graph, halting_input()))
    hw = on_chip(gated, LOIHI2, [table])
    e = hw.energies[0]
    assert hw.times is not None
    assert hw.times.schedule == ("wait" if order == "serial" else "pipelined")
    turns = gated.depth if order == "serial" else 2
    spare = turns * gated.visits.sum() - gated.count("neuron_update").sum()
    assert spare > 0 and e.idle_visits.value == pytest.approx(52 * spare / gated.samples)
    assert e.dynamic.value == pytest.approx(e.dynamic_if_skipped.value + e.idle_visits.value)
    assert e.to_json()["dynamic_if_skipped_pj"]["value"] == pytest.approx(e.dynamic_if_skipped.value)


def test_bands_of_prices_that_one_measurement_set_go_against_each_other():
    """Synapses low with neurons high, and the other way round: the whole is surer than its parts."""
    table = load_table("loihi2-pilotnet")
    e = on_chip(pair((1000, 2), (50, 1)), LOIHI2, [table]).energies[0]
    synops, updates = 2 * 1050, 2 * 7
    rest = sum(e.components[n].value for n in ("packets", "hops"))
    visits = e.idle_visits.value / 66.5
    ends = sorted((synops * s + (updates + visits) * n + rest) for s, n in ((24.2, 81), (26.2, 52)))
    assert (e.dynamic.ordered.low, e.dynamic.ordered.high) == pytest.approx(ends)
    assert Band(1.0, 2.0, 0.5).excludes_zero and not Band(1.0, -1.0, 2.0).excludes_zero
    content = table.model_dump(by_alias=True) | {"against": ["spike_in"]}
    with pytest.raises(ValueError, match="against names spike_in"):
        CostTable.model_validate(content)


def test_memory_accesses_cost_more_in_larger_memories():
    table = load_table("lemaire")
    small, large = (on_chip(at_rate(shapes(f"spikformer-1-{w}"), 0.1, 1), LOIHI2, [table], method="greedy") for w in (64, 128))
    per_synop = [h.energies[0].components["memory"].value / h.mapping.work.mean[..., COUNTERS.index("synop")].sum() for h in (small, large)]
    assert 30 < per_synop[0] < per_synop[1] < 300  # one read of a weight, two of a membrane, 10 to 100 pJ each


def test_stopping_the_log_earlier_never_adds_anything():
    work = workload_of(halting_graph(), run(halting_graph(), halting_input()))
    sums = [on_chip(truncated(work, t), LOIHI2, [load_table("loihi2-pilotnet")], method="greedy") for t in (1, 2, 4)]
    energies = [h.energies[0].dynamic.value for h in sums]
    times = [float(h.times.sum_ns.mean()) for h in sums if h.times is not None]
    assert energies == sorted(energies) and times == sorted(times) and energies[0] < energies[-1]
    assert np.array_equal(truncated(work, 4).counts, work.counts)


def test_coarser_weights_take_fewer_words():
    work = at_rate(shapes("spikformer-1-384"), 0.1, 1)
    words = [int(on_chip(coarser(work, b), LOIHI2, [], method="greedy").mapping.words.sum()) for b in (8, 4, 2)]
    assert words[0] > words[1] > words[2]


def test_spikformer_of_the_paper_at_one_rate():
    """Sizes as in its paper's tables (1.45 M neurons a step, 0.53 mJ by the papers' convention at rate 0.15) but for border taps."""
    work = at_rate(shapes("spikformer-4-384"), 0.15, 4)
    assert sum(g.neurons for g in work.groups) == 1_449_994
    synops = work.mean[..., COUNTERS.index("synop")].sum()
    assert 0.93 * 5.6e8 < synops < 5.6e8
    hw = on_chip(work, LOIHI2, [load_table("paper45"), load_table("loihi1-davies")], method="greedy")
    paper, davies = (e.dynamic.value * 1e-9 for e in hw.energies)
    assert 0.45 < paper < 0.53 and 12.5 < davies < 14 and hw.mapping.chips == 4 and hw.fits


@pytest.mark.skipif(pilotnet.find() is None, reason="lava-dl's test files are not installed")
def test_pilotnet_takes_the_cores_of_the_compile_log():
    assert all(ours == log for ours, log in cores_by_layer().values())


def export(tmp_path, graph: Graph, *, events: bool):
    write_export(tmp_path / "runs" / "mine", graph, halting=True)
    write_graph(graph, tmp_path / "runs" / "mine" / "export" / "model.net")
    if events:
        record_of(graph).save(tmp_path / "runs" / "mine" / "deploy" / "events.npz")


def command(tmp_path, monkeypatch, capsys, *args: str) -> tuple[int, str, str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["place.py", *args])
    code = 0
    try:
        cli.run(place.main)
    except SystemExit as e:
        code = int(e.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_place_writes_every_figure(tmp_path, monkeypatch, capsys):
    export(tmp_path, adaptive_graph(), events=True)
    code, out, _ = command(tmp_path, monkeypatch, capsys, "runs/mine", "--json", "--sweep", "timesteps")
    figures = json.loads(out)
    assert code == 0 and figures == json.loads((tmp_path / "runs/mine/report/hardware.json").read_text())
    assert figures["fits"] and figures["cores"] == len(figures["cores_detail"]) and figures["time"]["schedule"] == "wait"
    assert sum(c["syn_ops"] for c in figures["cores_detail"]) == pytest.approx(figures["ledger"]["total"]["effective_acs"])
    assert sum(r["synop"] for r in figures["ledger"]["ops"].values()) == pytest.approx(figures["ledger"]["total"]["synop"])
    assert figures["names"]["loihi_profiler"]["packet"] == "axon_out" and len(figures["sweep"]["rows"]) == 4
    assert set(figures["energy"]) == set(names()) and figures["energy"]["loihi2-pilotnet"]["label"].endswith("(estimate)")


def test_place_prints_cores_without_events_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
    export(tmp_path, adaptive_graph(), events=False)
    code, out, _ = command(tmp_path, monkeypatch, capsys, "runs/mine", "--chip", "loihi1")
    assert code == 0 and "Loihi 1 estimate: does not fit" in out and "no operation like token_gate" in out
    assert "No events recorded: cores only" in out and "time per inference" not in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--chip", "loihi9"], "no such chip profile"),
        (["--schedule", "pipelined"], "cannot be pipelined"),
        (["--paper", "resnet"], "no shapes of 'resnet'"),
        (["--paper", "spikformer-4-384", "--rate", "2"], "give a rate above 0"),
        (["--costs", "nothing"], "no such cost table"),
    ],
)
def test_place_refuses_in_one_paragraph(args, message, tmp_path, monkeypatch, capsys):
    export(tmp_path, adaptive_graph(), events=True)
    code, out, err = command(tmp_path, monkeypatch, capsys, *(["runs/mine"] if "--paper" not in args else []), *args)
    assert code == 1 and out == "" and message in err and "hint:" in err and "Traceback" not in err


def test_loihi_2_is_never_named_without_estimate(tmp_path, monkeypatch, capsys):
    export(tmp_path, adaptive_graph(), events=True)
    _, out, _ = command(tmp_path, monkeypatch, capsys, "runs/mine")
    assert "Loihi 2" in out and all("estimate" in line for line in out.splitlines() if "Loihi 2" in line)


def test_a_record_of_another_net_is_refused():
    graph = halting_graph()
    record = run(graph, halting_input())
    with pytest.raises(DeployError, match="not recorded with this net"):
        workload_of(halting_graph(gated=False), record)


def test_without_recorded_activity_counts_stay_and_the_report_says_so():
    graph = halting_graph()
    record = run(graph, halting_input())
    bare = workload_of(graph, dataclasses.replace(record, activity={}, values={}))
    known = workload_of(graph, record)
    assert np.array_equal(bare.counts, known.counts)
    assert to_json(on_chip(bare, LOIHI2, []))["activity"].startswith("spread evenly")
    assert all(np.allclose(bare.activity[n].sum((1, 2)), a.sum((1, 2))) for n, a in known.activity.items())
