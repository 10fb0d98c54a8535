"""The saving split adds up exactly, and each row holds what its name says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.hw_sim.energy.cost_tables import IDLE, QUANTITIES, load_table
from spikegate.hw_sim.energy.ledger import Ledger, NetInfo, book, quantities
from spikegate.hw_sim.energy.pricing import price_ledger
from spikegate.hw_sim.energy.saving import split
from tests.run_folder import adaptive_graph, record_of, static_graph, without_halting

SYNOP = QUANTITIES.index("synop")


def info_of(graph, *embedding: str) -> NetInfo:
    sources = {n: [e.source for e in graph.edges if e.target == n] for n in graph.ops}
    neurons = {n: op.size.neurons for n, op in graph.ops.items()}
    return NetInfo(embedding_ops=frozenset(embedding), sources=sources, neurons=neurons)


@pytest.fixture(scope="module")
def runs():
    """Ledgers of adaptive, halting off and static net, and the records of the first two."""
    graph, static = adaptive_graph(), static_graph()
    on, off = record_of(graph), record_of(without_halting(graph), "off")
    info, info_static = info_of(graph, "inject"), info_of(static, "inject", "sps.conv")
    ledgers = book(on, info), book(off, info), book(record_of(static), info_static)
    assert 1 < on.mean_timesteps < 4 and on.mean_tokens < 0.9  # both kinds of halting happen
    return *ledgers, on, off


def test_rows_add_up_exactly(runs):
    on, off, static, record, _ = runs
    for given in ((off, static), (None, static), (off, None)):
        saving = split(on, *given, record.exit_step)
        assert saving is not None
        total = sum(saving.rows.values())
        assert total.dtype == np.int64 and np.array_equal(total, saving.before - saving.after)
    assert split(on, None, None, record.exit_step) is None


def test_rows_of_energy_add_up_to_the_difference_of_the_totals(runs):
    on, off, static, record, _ = runs
    saving = split(on, off, static, record.exit_step)
    for name in ("paper45", "loihi1-davies"):
        table = load_table(name)
        before, after = saving.ends_pj(table)
        assert (before, after) == pytest.approx((price_ledger(static, table).chip_pj, price_ledger(on, table).chip_pj))
        assert sum(saving.rows_pj(table).values()) == pytest.approx(before - after)


def test_visits_to_idle_neurons_are_in_the_saving_and_beside_it_are_not(runs):
    on, off, static, record, _ = runs
    table = load_table("loihi1-davies")
    for saving in (split(on, off, static, record.exit_step), split(on, None, static, record.exit_step)):
        graph, idle = adaptive_graph(), 0
        for i, op in enumerate(graph.ops.values()):  # by hand: every neuron in every timestep that runs, less the updates
            idle += (record.exit_step * op.size.neurons).sum() - record.counts[:, :, i, COUNTERS.index("neuron_update")].sum()
        assert idle > 0 and saving.after[QUANTITIES.index(IDLE)] == idle
        (before, after), skipped = saving.ends_pj(table), saving.ends_pj(table, visited=False)
        assert after == pytest.approx(skipped[1] + 52 * idle / saving.samples)
        assert saving.saved(table).value == pytest.approx(before - after)
        assert saving.saved(table, visited=False).value == pytest.approx(skipped[0] - skipped[1])
        assert saving.rows_pj(table)["idle_visits"] == pytest.approx(before - after - skipped[0] + skipped[1])
        assert not any(row[QUANTITIES.index(IDLE)] for name, row in saving.rows.items() if name != "idle_visits")
    unknown = split(book(record, NetInfo()), off, static, record.exit_step)  # nobody said how many neurons there are
    assert not unknown.visits and "idle_visits" not in unknown.rows and unknown.saved(table) == unknown.saved(table, visited=False)


def test_embedding_once_is_credited_to_nets_that_embed_once_alone(runs):
    on, off, static, record, _ = runs
    assert "embedding_once" in split(on, off, static, record.exit_step).rows
    later = static.groups.copy()
    later[:, :, 0] //= 2  # this one embeds in every timestep, too, and fires less
    also = dataclasses.replace(off, groups=later + 0)
    rows = split(also, also, static, np.full(len(record.exit_step), 4)).rows
    assert "embedding_once" not in rows and rows["embedding_difference"][SYNOP] > 0
    rows = split(dataclasses.replace(on, groups=later), None, static, record.exit_step).rows
    assert "embedding_once" not in rows and "embedding_difference" in rows


def test_both_nets_are_priced_alike_at_each_end_of_a_bands_prices():
    """Ends of a difference are differences of ends: what the two nets share cancels out, whatever it costs."""
    table = load_table("loihi2-pilotnet")
    groups = np.zeros((1, 1, 3, len(QUANTITIES)), np.int64)
    other = groups.copy()
    groups[0, 0, 1, SYNOP], other[0, 0, 1, SYNOP] = 1000, 990
    groups[0, 0, 1, QUANTITIES.index("neuron_update_inactive")] = other[0, 0, 1, QUANTITIES.index("neuron_update_inactive")] = 500
    static, on = (Ledger([], [], np.zeros(0), np.zeros(0), g, 0) for g in (groups, other))
    saved = split(on, None, static, np.array([1])).saved(table)
    assert (saved.value, saved.low, saved.high) == pytest.approx((252, 242, 262)) and saved.excludes_zero
    other[0, 0, 1, QUANTITIES.index("neuron_update_inactive")] += 4  # 10 synapses against 4 updates: the sign depends on the prices
    doubtful = split(Ledger([], [], np.zeros(0), np.zeros(0), other, 0), None, static, np.array([1])).saved(table)
    assert (doubtful.low, doubtful.high) == pytest.approx((242 - 4 * 81, 262 - 4 * 52)) and not doubtful.excludes_zero


def test_random_ledgers_add_up_too(rng):
    for _ in range(20):
        groups = rng.integers(0, 10**9, (3, 5, 3, 3, len(QUANTITIES)))
        on, off, static = (Ledger([], [], np.zeros(0), np.zeros(0), g, 0) for g in groups)
        saving = split(on, off, static, rng.integers(1, 4, 5))
        events = [q != IDLE for q in QUANTITIES]  # whose visits were not known
        assert np.array_equal(sum(saving.rows.values())[events], (static.total - on.total)[events])


def test_token_and_timestep_halting_are_told_apart_by_the_exit(runs):
    on, off, static, record, record_off = runs
    tokens = timesteps = 0
    for record_, sign in ((record_off, 1), (record, -1)):
        q = quantities(record_.counts)[..., SYNOP]
        gate = np.array([k in ("token_gate", "exit_gate") for k in record_.kinds])
        for n, exit_step in enumerate(record.exit_step):
            tokens += sign * q[n, :exit_step, ~gate].sum()
            timesteps += sign * q[n, exit_step:, ~gate].sum()
    saving = split(on, off, static, record.exit_step)
    assert saving.rows["token_halting"][SYNOP] == tokens > 0
    assert saving.rows["timestep_halting"][SYNOP] == timesteps > 0


def test_embedding_and_backbone_rows(runs):
    on, off, static, record, _ = runs
    saving = split(on, off, static, record.exit_step)
    ops = dict(zip(static.ops, static.work.sum(0)))
    embedding = ops["inject"] + ops["sps.conv"] - off.work[:, off.ops.index("inject")].sum(0)
    embedding, other = (np.where(np.array(QUANTITIES) == IDLE, 0, x) for x in (embedding, static.total - off.total))
    assert np.array_equal(saving.rows["embedding_once"], embedding) and embedding[SYNOP] > 0
    body = other - embedding - static.gates.sum((0, 1)) + off.gates.sum((0, 1))
    assert np.array_equal(saving.rows["backbone_difference"], body)


def test_gates_cost_and_halting_that_never_happens_saves_nothing(runs):
    on, off, static, record, _ = runs
    saving = split(on, off, static, record.exit_step)
    assert saving.rows["gates"][QUANTITIES.index("gate_update")] < 0
    idle = split(off, off, None, np.full(len(record.exit_step), 4))
    assert not any(row.any() for row in idle.rows.values())


def test_records_of_other_samples_or_timesteps_are_refused(runs):
    on, off, static, record, _ = runs
    with pytest.raises(DeployError, match="11 and 10 samples"):
        split(on, dataclasses.replace(off, groups=off.groups[:10]), static, record.exit_step)
    with pytest.raises(DeployError, match="3 without"):
        split(on, dataclasses.replace(off, groups=off.groups[:, :3]), static, record.exit_step)
