"""Delay lines of chip time: in the delays of axons where these reach, in relay neurons on cores of their own where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.command.runs import ZOO
from spikegate.engine.chip_time.schedule import schedule
from spikegate.engine.integer import run
from spikegate.formats.netx.graph_file import read_graph
from spikegate.hw_sim.chip.delays import delay_lines, stages_for
from spikegate.hw_sim.chip.hardware import on_chip, to_json
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.workload import unrun, workload_of
from spikegate.hw_sim.energy.cost_tables import load_tables, names
from spikegate.hw_sim.tables.chip_tables import delay_text
from tests.graphs import chain_graph, halting_graph, halting_input

LOIHI2 = load_chip("loihi2")
ZOO_NETS = sorted(p.name for p in ZOO.iterdir() if (p / "model.net").is_file())
SHAPES = ({"gated": False}, {"order": "rectangle"}, {}, {"spiking": True}, {"delta": 2},
          {"order": "rectangle", "delta": 1, "spiking": True})


@pytest.mark.parametrize("kind", [*SHAPES, *ZOO_NETS], ids=str)
def test_delay_lines_are_counted_as_the_schedule_has_them(kind):
    graph = halting_graph(**kind) if isinstance(kind, dict) else read_graph(ZOO / kind / "model.net")
    work = unrun(graph)
    for wanted in ("wait", "pipelined") if work.pipeline_safe else ("wait",):
        found = {d.source: {"steps": d.steps, "cells": d.cells, "bits": d.bits} for d in delay_lines(work, wanted)}
        made = schedule(graph, wanted)
        assert found == made.delays(), wanted
        assert made.depth == work.depth and (wanted == "wait" or made.interval == work.interval)
        figures = to_json(on_chip(work, LOIHI2, [], schedule=wanted, method="greedy"))["delay_lines"]
        facts = made.facts()
        assert (figures["values"], figures["bits"], figures["steps"]) == tuple(facts[f"delay_{k}"] for k in ("cells", "bits", "steps"))


def without_axon_delays(steps: int):
    limits = {n: e for n, e in LOIHI2.limits.items() if n != "axon_delay"}
    return LOIHI2.model_copy(update={"limits": limits | {"axon_delay": LOIHI2.limits["axon_delay"].model_copy(update={"value": steps})}})


def test_axons_delay_what_they_can_for_nothing():
    tables = load_tables(names())
    net = halting_graph()
    work = workload_of(net, run(net, halting_input(7)))
    hw = on_chip(work, LOIHI2, tables)
    found = to_json(hw)["delay_lines"]
    assert found["steps"] and not found["relay_neurons"] and hw.mapping.work is work
    assert {d["place"] for d in found["sources"].values()} <= {"axon delays", "host"}
    assert "in axon delays" in delay_text(hw)[0] and not any("delay lines" in e.left_out for e in hw.energies)
    chain = chain_graph()
    plain = on_chip(workload_of(chain, run(chain, np.ones((2, 6, 20, 2), np.int32))), LOIHI2, tables, schedule="pipelined")
    assert not delay_text(plain)


@pytest.mark.parametrize(("steps", "axon", "stages"), [(0, 0, 0), (3, 0, 3), (3, 1, 1), (4, 1, 2), (62, 62, 0), (63, 62, 1), (125, 62, 1),
                                                       (126, 62, 2)])
def test_relay_neurons_wait_a_step_and_as_long_as_their_axons(steps, axon, stages):
    assert stages_for(steps, axon) == stages
    assert steps <= stages * (axon + 1) + axon and (not stages or steps > (stages - 1) * (axon + 1) + axon)


@pytest.mark.parametrize("axon", [0, 1, 3])
@pytest.mark.parametrize("order", ["serial", "rectangle"])
def test_relay_neurons_are_placed_and_priced_where_axons_do_not_reach(axon, order):
    table = load_tables(["loihi1-davies"])
    net = halting_graph(order=order)
    work = workload_of(net, run(net, halting_input(7)))
    plain, chip = on_chip(work, LOIHI2, table), without_axon_delays(axon)
    hw = on_chip(work, chip, table)
    lines = {d.source: stages_for(d.steps, axon) for d in delay_lines(work, hw.schedule) if d.source != "input"}
    relays = [g for g in hw.mapping.work.groups if g.kind == "delay"]
    size = {g.name: g.positions * g.channels for g in work.groups}
    assert len(relays) == sum(lines.values()) > 0
    assert sum(g.neurons for g in relays) == sum(n * size[s] for s, n in lines.items()) == to_json(hw)["delay_lines"]["relay_neurons"]
    assert hw.mapping.cores > plain.mapping.cores and hw.schedule == plain.schedule
    assert hw.mapping.work.interval == work.interval and hw.mapping.work.depth == work.depth
    spikes = {g.name: float(work.count("spike_out")[:, :, i].sum()) / work.samples for i, g in enumerate(work.groups)}
    through = sum(n * spikes[s] for s, n in lines.items())
    a, b = (x.energies[0].components for x in (plain, hw))
    assert b["synapses"].value - a["synapses"].value == pytest.approx(23.6 * through)
    assert b["idle visits"].value > a["idle visits"].value and b["packets"].value > a["packets"].value
    assert "placed and priced" in delay_text(hw)[0]
    assert not [v for v in hw.violations if ".late" in v.op]
