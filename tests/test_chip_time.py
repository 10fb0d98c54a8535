"""Chip time against algorithmic timing: every op, timestep and neuron of every system equal, phases and delays minimal and checked."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.command.runs import ZOO, find_export
from spikegate.data.shipped import open_images
from spikegate.engine import integer
from spikegate.engine.chip_time import chip_run
from spikegate.engine.chip_time.chip_run import ChipStage, Entrance
from spikegate.engine.chip_time.schedule import SCHEDULES, Decision, Line, decisions, phases, pipeline_safe, schedule
from spikegate.engine.record import Record
from spikegate.formats.host import Host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import INPUT, DeployError, Graph, Payload
from spikegate.hw_sim.chip.latency import latency
from spikegate.hw_sim.chip.mapping import map_to
from spikegate.hw_sim.chip.placement import place
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.workload import workload_of
from spikegate.neurons.cuba import Cuba, Strict
from spikegate.ops.dense import Dense
from spikegate.ops.exit_gate import ExitGate
from tests.graphs import TIMESTEPS, chain_graph, halting_graph, halting_input
from tests.slayer_chains import FAMILIES, Chain
from tests.test_halting import KINDS
from tests.test_hierarchy import HIERARCHICAL, VARIANTS
from tests.test_layers import NETS, lively

IMAGES = 16
SYSTEMS = [*NETS, *(pytest.param(n, {"depth": 1, **c}, id=f"{n}-{v}") for n in HIERARCHICAL for v, c in VARIANTS.items())]


def assert_equal(a: Record, b: Record) -> None:
    """All that a record says, `meta` aside."""
    assert a.ops == b.ops and a.spikes.keys() == b.spikes.keys() and a.activity.keys() == b.activity.keys()
    for kind in ("spikes", "activity", "values"):
        for name, value in getattr(b, kind).items():
            assert np.array_equal(getattr(a, kind)[name], value), (kind, name)
    for field in ("counts", "alive", "logits", "exit_step"):
        assert np.array_equal(getattr(a, field), getattr(b, field)), field


# Systems -----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name, change", SYSTEMS)
def test_every_system_equals_algorithmic_timing_in_both_schedules(name, change):
    """And what hw_sim says of chip steps, without running anything, is what the run needed; so is what it refuses to pipeline."""
    net, _ = lively(name, **change)
    net.set_phase("deployed")
    graph = net.graph()
    x = torch.randint(0, 17, (IMAGES, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        embedded = net.stem(x).int().numpy()
    reference = integer.run(graph, embedded, spikes=True)
    mapping = map_to(workload_of(graph, reference), load_chip("loihi2"))
    assert pipeline_safe(graph) == mapping.work.pipeline_safe
    for wanted in SCHEDULES if pipeline_safe(graph) else ("wait",):
        made = schedule(graph, wanted)
        record = chip_run.run(made, embedded, spikes=True, batch=5)
        assert_equal(record, reference)
        estimate = latency(mapping, place(mapping, "greedy"), wanted)
        assert made.depth == mapping.work.depth and made.interval == (mapping.work.interval if wanted == "pipelined" else made.depth)
        assert record.meta["chip_steps"] == estimate.steps.tolist() == made.chip_steps(record.exit_step).tolist()
        assert np.array_equal(made.period(record.exit_step), mapping.work.periods if wanted == "pipelined" else estimate.steps)


@pytest.mark.parametrize("name", sorted(p.name for p in ZOO.iterdir() if p.name.endswith("-digits")))
def test_trained_nets_on_real_images(name):
    export = find_export(Path(f"zoo:{name}"))
    graph, images = read_graph(export / "model.net"), open_images(export, read_manifest(export), f"test:{IMAGES}").x
    embedded = Host(export / "embedding.onnx").encode(images)
    reference = integer.run(graph, embedded, spikes=True)
    for wanted in SCHEDULES if pipeline_safe(graph) else ("wait",):
        assert_equal(chip_run.run(schedule(graph, wanted), embedded, spikes=True, batch=6), reference)


@cache
def algorithmic(**kind) -> Record:
    return integer.run(halting_graph(**kind), halting_input(), spikes=True)


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("wanted", SCHEDULES)
@pytest.mark.parametrize("kind", [*KINDS, *({"order": o, "leaving": True, "scores": 400, "gated": True} for o in ("serial", "rectangle"))])
def test_halting_and_merging_in_every_order_whatever_the_batch(kind, wanted, batch):
    graph = halting_graph(**kind)
    if wanted == "pipelined" and kind["order"] == "serial" and kind["gated"]:
        with pytest.raises(DeployError, match="slack"):
            schedule(graph, wanted)
        return
    record = chip_run.run(schedule(graph, wanted), halting_input(), spikes=True, batch=batch)
    assert_equal(record, algorithmic(**kind))


def test_host_sends_step_by_step():
    """A chain of stock layers: layer k follows k chip steps behind the first, as in lava-dl's pipeline."""
    graph = chain_graph()
    x = np.random.default_rng(5).integers(0, 2, (7, graph.timesteps, 20, 2)).astype(np.int32)
    made = schedule(graph, "pipelined")
    assert [u.phase for u in made.units.values()] == [1, 2, 3] and made.interval == 1 and not made.delays()
    record = chip_run.run(made, x, spikes=True, batch=1)
    assert_equal(record, integer.run(graph, x, spikes=True))
    assert record.meta["total_chip_steps"] == 7 * graph.timesteps + 2, "samples follow one another without a gap"


@pytest.mark.parametrize("seed, family", enumerate(FAMILIES))
def test_chains_of_any_slayer_neuron(seed, family, tmp_path, monkeypatch):
    monkeypatch.setattr(Strict, "raises", False)
    chain = Chain(seed, family)
    chain.export(tmp_path / "chain.net")
    sigma_delta = family == "sigma_delta"
    graph = read_graph(tmp_path / "chain.net", payload=Payload(-(1 << 20), 1 << 20) if sigma_delta else Payload(0, 1))
    graph.timesteps = chain.timesteps
    x = chain.input * (4096 if sigma_delta else 1)
    made = schedule(graph, "pipelined")
    assert made.interval == 1 and made.depth == len(graph.ops)
    assert_equal(chip_run.run(made, x, spikes=True, batch=1), integer.run(graph, x, spikes=True))


# Ends --------------------------------------------------------------------------------------------------------------


def long_graph(timesteps: int = 14) -> Graph:
    """The rectangle net with more timesteps than it is deep in starts of timesteps: tokens are all dead long before the last."""
    graph = halting_graph(order="rectangle", scores=200)
    graph.ops["gate0"] = dataclasses.replace(graph.ops["gate0"], table=graph.ops["gate0"].table + 150)  # no token lives for ever
    graph.timesteps = timesteps
    for name in ("readout", "exit"):
        more = {"margin": np.full(timesteps, graph.ops[name].margin[0])} if name == "exit" else {}
        graph.ops[name] = dataclasses.replace(graph.ops[name], timesteps=timesteps, **more)
    graph.check()
    return graph


@pytest.mark.parametrize("wanted", SCHEDULES)
def test_what_is_under_way_when_a_sample_ends_stays_out_of_the_record(wanted):
    graph, x = long_graph(), halting_input(9)
    reference = integer.run(graph, x, spikes=True)
    assert reference.exit_step.max() < graph.timesteps
    made = schedule(graph, wanted)
    record = chip_run.run(made, x, spikes=True, batch=1)
    assert_equal(record, reference)
    begun = made.period(record.exit_step)
    assert record.meta["total_chip_steps"] >= begun[:-1].sum() + made.chip_steps(record.exit_step)[-1]
    assert record.meta["void_timesteps"] == (begun // made.interval - record.exit_step).sum()
    assert (record.meta["void_timesteps"] > 0) == (wanted == "pipelined")


def test_an_exit_by_margin_ends_samples_in_time_when_timesteps_wait():
    graph, x = halting_graph(), halting_input()
    graph.ops["exit"] = ExitGate(3, TIMESTEPS, np.array([400, 300, 200, 100]), "threshold_then_argmax")
    reference = integer.run(graph, x, spikes=True)
    assert len(set(reference.exit_step)) > 1
    made = schedule(graph, "wait")
    record = chip_run.run(made, x, spikes=True, batch=1)
    assert_equal(record, reference)
    assert record.meta["void_events"] == 0 and record.meta["total_chip_steps"] == made.depth * reference.exit_step.sum()


# Refusals ----------------------------------------------------------------------------------------------------------


def test_serial_halting_is_not_pipelined_and_the_refusal_names_gate_reader_and_slack():
    graph = halting_graph()
    with pytest.raises(DeployError) as caught:
        schedule(graph, "pipelined")
    assert decisions(graph, phases(graph))[0] == Decision("gate2", "inject", -12)
    for said in ("gate2 decides in chip step 13", "inject applies in chip step 1", "slack -12", "every 13 chip steps", "--schedule wait"):
        assert said in str(caught.value)


def test_an_exit_by_margin_is_not_pipelined():
    graph = halting_graph(order="rectangle")
    assert pipeline_safe(graph)
    exit_gate = graph.ops["exit"]
    graph.ops["exit"] = dataclasses.replace(exit_gate, margin=np.array([*exit_gate.margin[:-1], 5]), policy="threshold_then_argmax")
    assert pipeline_safe(graph), "a margin at the last timestep saves nothing and delays nothing"
    graph.ops["exit"] = dataclasses.replace(exit_gate, margin=np.full(TIMESTEPS, 5), policy="threshold_then_argmax")
    with pytest.raises(DeployError, match=r"exit decides in chip step 15 .* input sends the next: slack -14") as caught:
        schedule(graph, "pipelined")
    assert "without exits" in caught.value.hint
    assert not workload_of(graph, integer.run(graph, halting_input(3))).pipeline_safe


def test_unknown_schedule():
    with pytest.raises(DeployError, match="pipelined, wait"):
        schedule(halting_graph(), "eager")


# Delays ------------------------------------------------------------------------------------------------------------


@st.composite
def nets(draw) -> tuple[Graph, int]:
    """Dense layers with skips of any length and, sometimes, feedback; how many samples."""
    number, width = draw(st.integers(1, 7)), 4
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    graph = Graph(timesteps=draw(st.integers(1, 5)), input_shape=(width,))
    for k in range(number):
        before = [INPUT, *graph.ops]
        sources = draw(st.lists(st.sampled_from(before), min_size=1, max_size=3, unique=True))
        graph.add(f"op{k}", Dense(rng.integers(-20, 50, (width, width)) * 2, rng.integers(-9, 9, width), Cuba(4096, 2048, 60)), x=sources)
    names = list(graph.ops)
    for _ in range(draw(st.integers(0, 2))):
        source, target = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        if all(e.delay or e.source != source for e in graph.edges if e.target == target):
            graph.edges.append(type(graph.edges[0])(source, target, "x", 1))
    return graph, draw(st.integers(1, 5))


@settings(max_examples=60, deadline=None)
@given(nets(), st.sampled_from(SCHEDULES), st.integers(1, 3))
def test_delays_make_all_paths_equally_long_and_are_no_longer_than_that(drawn, wanted, batch):
    """Property, on nets with any skips and feedback: every path to an op takes as many chip steps, and the results are the same."""
    graph, samples = drawn
    if wanted == "pipelined" and not pipeline_safe(graph):
        wanted = "wait"
    made = schedule(graph, wanted)
    for unit in made.units.values():
        for line in unit.lines:
            there = 1 if line.source == INPUT else made.units[line.source].phase + 1
            assert line.steps >= 0 and there + line.steps == unit.phase + line.back * made.interval
        forward = [line for line in unit.lines if not line.back]
        assert not forward or min(line.steps for line in forward) == 0
    assert made.interval == made.depth or wanted == "pipelined"
    x = np.random.default_rng(samples).integers(0, 2, (samples, graph.timesteps, 4)).astype(np.int32)
    record = chip_run.run(made, x, spikes=True, batch=batch)
    assert_equal(record, integer.run(graph, x, spikes=True))
    assert record.meta["chip_steps"] == made.chip_steps(record.exit_step).tolist()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_delay_that_is_off_by_one_is_noticed(change):
    """Every line of two nets, one after the other, in both schedules: nothing is wrong by a chip step without an error."""
    for kind, wanted in (({"order": "rectangle"}, "pipelined"), ({}, "wait")):
        made = schedule(halting_graph(**kind), wanted)
        lines = [(u, k) for u in made.units.values() for k, line in enumerate(u.lines) if line.steps + change >= 0]
        assert len(lines) > 5
        for unit, k in lines:
            wrong = list(unit.lines)
            wrong[k] = Line(wrong[k].source, wrong[k].steps + change, wrong[k].back)
            units = {**made.units, unit.name: dataclasses.replace(unit, lines=tuple(wrong))}
            with pytest.raises(DeployError, match=f"{unit.name}: what {wrong[k].source} brings in chip step .* another timestep"):
                chip_run.run(dataclasses.replace(made, units=units), halting_input(3))


def test_cost_of_delay_lines():
    """Block 2's sums read the embedding, 9 x 8 values of 2 bits, 11 chip steps after it was there."""
    made = schedule(halting_graph(gated=False), "pipelined")
    held = made.delays()["inject"]
    longest = max(line.steps for u in made.units.values() for line in u.lines if line.source == "inject")
    assert held == {"steps": longest, "cells": longest * 72, "bits": longest * 72 * 2} and longest == made.units["readout"].phase - 2
    alone = schedule(halting_graph(gated=False), "wait").delays()["inject"]
    assert alone == {"steps": longest, "cells": 72, "bits": 144}, "one timestep is under way: one value each"
    assert made.facts()["delay_cells"] == sum(d["cells"] for d in made.delays().values())


def test_a_stage_of_some_units_needs_the_others_outputs_one_chip_step_later():
    """Two halves of a net that exchange their outputs step by step are the whole net."""
    graph, x = halting_graph(order="rectangle"), halting_input(5)
    made = schedule(graph, "pipelined")
    names = list(made.units)
    halves = [ChipStage(made, part, 5) for part in (names[::2], names[1::2])]
    entrance, whole = Entrance(made, x, 5), {}
    while not entrance.drained:
        strobe = entrance.strobe()
        sent = [dict(half.outs) for half in halves]
        for half, arrived in zip(halves, sent[::-1]):
            for report in half.step(strobe, arrived):
                whole.setdefault(report.unit, []).append(report.chunk.signals[report.unit])
    reference = integer.run(graph, x, spikes=True)
    for name, values in whole.items():
        assert np.array_equal(np.stack(values, 1), reference.spikes[name]), name
