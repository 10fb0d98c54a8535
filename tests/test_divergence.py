"""A single changed bit anywhere is found, and named at its first effect."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from spikegate.deploy.divergence import first_divergence, tally
from spikegate.engine import integer
from spikegate.graph.ir import COUNTERS, DeployError
from tests.graphs import chain_graph, halting_graph, halting_input

NAMES = ("int", "lava")


@pytest.fixture(scope="module")
def record():
    return integer.run(halting_graph(), halting_input(), spikes=True)


def test_equal_records_do_not_diverge(record):
    assert first_divergence(record, copy.deepcopy(record), NAMES) is None
    counted = tally(record, record)
    assert list(counted) == record.ops and all(c[2] == 0 for c in counted.values())
    assert counted["inject"][1] == np.count_nonzero(record.spikes["inject"])


def test_flipped_weight_is_named_where_it_first_acts(record):
    graph = halting_graph()
    changed = graph.ops["block1.fc1"].weight
    changed[5] = -changed[5]
    other = integer.run(graph, halting_input(), spikes=True)
    found = first_divergence(record, other, NAMES)
    assert (found.what, found.op, found.index[1]) == ("spike", "block1.fc1", 5)
    t, where = found.timestep - 1, (found.sample, found.timestep - 1, *found.index)
    before = {op: record.spikes[op][: found.sample] for op in record.ops}
    assert all(np.array_equal(before[op], other.spikes[op][: found.sample]) for op in record.ops)
    assert all(np.array_equal(record.spikes[op][found.sample, :t], other.spikes[op][found.sample, :t]) for op in record.ops)
    assert found.values == (record.spikes[found.op][where], other.spikes[found.op][where])
    assert f"op block1.fc1, timestep {t + 1}, position {found.index[0]}, channel 5, sample {found.sample}: int has" in str(found)
    assert tally(record, other)["block1.fc1"][2] > 0


def test_earliest_sample_and_timestep_win_over_graph_order(record):
    other = copy.deepcopy(record)
    other.spikes["block2.q"][2, 0, 3, 1] ^= 1
    other.spikes["inject"][2, 1, 0, 0] += 1
    other.spikes["inject"][4, 0, 0, 0] += 1
    found = first_divergence(record, other, NAMES)
    assert (found.op, found.sample, found.timestep, found.index) == ("block2.q", 2, 1, (3, 1))
    assert found.moved(256).sample == 258


@pytest.mark.parametrize("gate, op", [(0, "gate2"), (1, "gate1"), (2, "gate2")])  # entry 0: credit of the timestep before
def test_alive_bit(record, gate, op):
    other = copy.deepcopy(record)
    other.alive[1, 0, gate, 4] ^= True
    found = first_divergence(record, other, NAMES)
    assert (found.what, found.op, found.sample, found.timestep, found.index) == ("alive mask", op, 1, 1, (4,))
    assert "token 4" in str(found)


def test_count_logit_and_exit(record):
    other = copy.deepcopy(record)
    other.counts[3, 0, 4, COUNTERS.index("synop")] += 1
    found = first_divergence(record, other, NAMES)
    assert (found.what, found.op) == ("counter", record.ops[4]) and ", synop, sample 3" in str(found)
    other.meta["counts"] = False  # torch counts no events
    assert first_divergence(record, other, NAMES) is None
    other.logits[7, 2] -= 2
    found = first_divergence(record, other, NAMES)
    assert (found.what, found.sample, found.timestep, found.index) == ("logit", 7, record.exit_step[7], (2,))
    other.exit_step[0] -= 1
    assert first_divergence(record, other, NAMES).what == "exit"


def test_what_lies_after_the_exit_is_not_compared():
    record = integer.run(halting_graph(scores=300), halting_input(), spikes=True)
    other = copy.deepcopy(record)
    early = int(np.argmin(record.exit_step))
    assert record.exit_step[early] < record.counts.shape[1]
    other.spikes["inject"][early, -1] += 1
    assert first_divergence(record, other, NAMES) is None


def test_other_net_is_refused(record):
    with pytest.raises(DeployError, match="different nets"):
        first_divergence(record, integer.run(chain_graph(), np.zeros((2, 20, 2), np.int32)), NAMES)
