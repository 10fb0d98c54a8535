"""Where halting saves: parts and timesteps add up to the records' own events, and hold what their names say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.hw_sim.energy.where import PARTS, parts_of, where
from spikegate.hw_sim.tables.where_table import part_rows, step_rows
from tests.run_folder import adaptive_graph, record_of, without_halting

SYNOP = COUNTERS.index("synop")
EVENTS = [COUNTERS.index(c) for c in ("synop", "attention_ac", "gate_update")]


@pytest.fixture(scope="module")
def runs():
    graph = adaptive_graph()
    on, off = record_of(graph), record_of(without_halting(graph), "off")
    return on, off, {n: [e.source for e in graph.edges if e.target == n] for n in graph.ops}


def test_events_add_up_to_the_records(runs):
    on, off, sources = runs
    found = where(on, off, {"inject"}, sources)
    assert (int(found.on.sum()), int(found.off.sum())) == (int(on.chip_events.sum()), int(off.chip_events.sum()))
    assert found.saved.sum() == off.chip_events.sum() - on.chip_events.sum()
    assert int(found.cells_on.sum()) == int(on.processed.sum()) and int(found.cells_off.sum()) == on.processed.size
    assert found.tokens_saved == pytest.approx(1 - on.mean_tokens)
    assert 0 < found.tokens_saved < 1 and found.events_saved == 1 - int(on.chip_events.sum()) / int(off.chip_events.sum())


def test_what_lies_behind_the_exit_is_told_apart(runs):
    on, off, sources = runs
    found = where(on, off, {"inject"}, sources)
    late = sum(int(off.counts[n, e:][..., EVENTS].sum()) for n, e in enumerate(on.exit_step))
    assert found.saved[:, 2].sum() == late > 0
    assert found.saved[:, 0].sum() == off.counts[:, 0][..., EVENTS].sum() - on.counts[:, 0][..., EVENTS].sum()


def test_every_op_has_its_part(runs):
    on, off, sources = runs
    part = dict(zip(on.ops, parts_of(on, {"inject"}, sources)))
    for name, kind in zip(on.ops, on.kinds):
        if kind in ("token_gate", "exit_gate"):
            assert part[name] == "gates"
        if name.endswith((".q", ".k", ".v", ".attention", ".proj")):
            assert part[name] == "attention"
        if name.endswith((".fc1", ".fc2")):
            assert part[name] == "mlp"
    assert part["inject"] == "embedding" and "gates" in part.values() and "attention" in part.values() and "mlp" in part.values()
    found = where(on, off, {"inject"}, sources)
    mlp = [i for i, n in enumerate(on.ops) if part[n] == "mlp"]
    assert found.on[:, list(PARTS).index("mlp")].sum() == on.counts[:, :, mlp, SYNOP].sum()


def test_the_same_run_twice_saves_nothing(runs):
    _, off, sources = runs
    found = where(off, off, {"inject"}, sources)
    assert not found.saved.any() and found.tokens_saved == found.events_saved == 0
    assert [row[-1] for row in part_rows(found)] == [""] * len(part_rows(found))
    assert all(row[3] == "" for row in step_rows(found))


def test_records_of_other_images_are_refused(runs):
    on, off, sources = runs
    fewer = dataclasses.replace(off, counts=off.counts[:-1])
    with pytest.raises(DeployError, match="not of one net"):
        where(on, fewer, {"inject"}, sources)


def test_rows_of_the_tables(runs):
    on, off, sources = runs
    found = where(on, off, {"inject"}, sources)
    rows = step_rows(found)
    assert [r[0] for r in rows] == [*(str(t + 1) for t in range(on.counts.shape[1])), "all"]
    assert part_rows(found)[-1][-1] == "100 %"
    assert np.isclose(float(rows[-1][-1]), found.events_saved / found.tokens_saved, rtol=1e-2)
