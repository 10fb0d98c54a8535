"""Delay lines of chip time: counted where a net is placed, named as left out of every total."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.command.runs import ZOO
from spikegate.engine.chip_time.schedule import schedule
from spikegate.engine.integer import run
from spikegate.formats.netx.graph_file import read_graph
from spikegate.hw_sim.chip.delays import delay_lines
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
def test_delay_lines_are_counted_as_the_schedule_has_them_and_named_as_left_out(kind):
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


def test_no_energy_is_printed_without_naming_the_delay_lines():
    tables = load_tables(names())
    net = halting_graph()
    hw = on_chip(workload_of(net, run(net, halting_input(7))), LOIHI2, tables)
    assert all("delay lines" in e.to_json()["left_out"] for e in hw.energies) and "neither placed nor priced" in delay_text(hw)[0]
    chain = chain_graph()
    plain = on_chip(workload_of(chain, run(chain, np.ones((2, 6, 20, 2), np.int32))), LOIHI2, tables, schedule="pipelined")
    assert not delay_text(plain) and not any("delay lines" in e.left_out for e in plain.energies)
