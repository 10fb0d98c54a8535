"""The integer reference: halting invariants, independence of the batch, and what the record says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, DeployError, Graph
from spikegate.ops.lif import Lif
from spikegate.ops.timestep_gate import TimestepGate
from tests.graphs import TIMESTEPS, halting_graph, halting_input

SYNOP = COUNTERS.index("synop")


@pytest.fixture(scope="module")
def gated():
    return integer.run(halting_graph(), halting_input(), spikes=True)


def same(a: Record, b: Record) -> None:
    assert np.array_equal(a.counts, b.counts) and np.array_equal(a.alive, b.alive)
    assert np.array_equal(a.logits, b.logits) and np.array_equal(a.exit_step, b.exit_step)
    for name in a.spikes:
        assert np.array_equal(a.spikes[name], b.spikes[name]), name


def test_the_example_really_halts_tokens_at_different_times(gated):
    lifetimes = gated.alive[:, :, 0].sum(1)
    assert len(np.unique(lifetimes)) > 2
    assert 0.2 < gated.mean_tokens < 0.9


def test_batch_size_order_and_repetition_change_nothing(gated):
    graph, x = halting_graph(), halting_input()
    for batch in (1, 3, 64):
        same(integer.run(graph, x, spikes=True, batch=batch), gated)
    order = np.random.default_rng(0).permutation(len(x))
    mixed = integer.run(graph, np.concatenate([x[order], x[order]]), spikes=True, batch=4)
    for half in (slice(0, len(x)), slice(len(x), None)):
        assert np.array_equal(mixed.counts[half], gated.counts[order])
        assert np.array_equal(mixed.logits[half], gated.logits[order])


def test_a_threshold_that_is_never_reached_equals_the_ungated_net():
    x = halting_input()
    never = integer.run(halting_graph(theta=1 << 20), x, spikes=True)
    ungated = integer.run(halting_graph(gated=False), x, spikes=True)
    removed = integer.run(halting_graph().without_halting(), x, spikes=True)
    assert never.mean_tokens == 1
    for other in (ungated, removed):
        assert np.array_equal(never.logits, other.logits)
        for i, name in enumerate(other.ops):
            assert np.array_equal(never.spikes[name], other.spikes[name]), name
            if other.kinds[i] != "exit_gate":  # the gated net's messages also go to its gates
                j = never.ops.index(name)
                assert np.array_equal(never.counts[..., j, :-1], other.counts[..., i, :-1]), name


def test_deleting_dead_tokens_equals_masking_them(gated):
    """What a dead token holds cannot matter: replace its input after its death, and nothing else changes."""
    graph, x = halting_graph(), halting_input()
    stage = integer.Stage(graph, list(graph.ops), len(x))
    injector = integer.Injector(graph, x, len(x))
    feedback = None
    for t in range(TIMESTEPS):
        if injector.finished:
            break
        chunk = injector.chunk(feedback)
        if t:
            dead = chunk.signals["delayed:gate2"] == 0
            for name in ("block1.q", "block1.k", "block1.v", "block1.proj", "block1.fc1", "block1.fc2"):
                stage.state[name]["v"][dead] = 12345
            stage.state["inject"]["held"][dead] = 99
        stage.step(chunk)
        for name in ("inject", "block1.q", "block2.fc2"):
            assert np.array_equal(chunk.signals[name], gated.spikes[name][chunk.sample, t])
        stay = injector.advance(integer.done_of(graph, chunk.signals, chunk.t))
        feedback = {s: chunk.signals[s][stay] for s in graph.delayed_sources()}
        stage._fit(injector.rows)


def test_halted_tokens_send_nothing_and_stay_dead(gated):
    for block in (1, 2):
        entering = gated.alive[:, :, block - 1]
        for part in ("q", "k", "v", "attention", "proj", "fc1", "fc2"):
            spikes = gated.spikes[f"block{block}.{part}"]
            assert not spikes[~entering].any(), part
            assert spikes[entering].any(), part
    flat = gated.alive.reshape(len(gated.alive), -1, gated.alive.shape[-1])
    again = np.diff(flat.astype(int), axis=1) > 0
    live_cells = np.repeat(np.arange(TIMESTEPS)[None] < gated.exit_step[:, None], gated.alive.shape[2], 1)
    assert not (again & live_cells[:, 1:, None]).any()


def test_an_exit_stops_the_work(gated):
    harsh = integer.run(halting_graph(scores=500), halting_input(), spikes=True)
    assert harsh.exit_step.min() < TIMESTEPS
    early = harsh.exit_step < TIMESTEPS
    after = np.arange(TIMESTEPS)[None] >= harsh.exit_step[:, None]
    assert not harsh.counts[after].any()
    assert harsh.chip_events[early].sum() < gated.chip_events[early].sum()


def test_last_alive_readout_keeps_adding_what_a_dead_token_had():
    """The logits equal head(x at the last alive step) summed over all T, whether or not the sample ended early."""
    for scores in (60, 500):
        graph, x = halting_graph(scores=scores), halting_input()
        r = integer.run(graph, x, spikes=True)
        weight, bias = graph.ops["readout"].weight.astype(np.int64), graph.ops["readout"].bias
        stream = sum(r.spikes[n] for n in ("inject", "block1.proj", "block1.fc2", "block2.proj", "block2.fc2"))
        for i in range(len(x)):
            held, z = np.zeros_like(stream[i, 0]), np.zeros(len(bias), np.int64)
            for t in range(TIMESTEPS):
                living = r.alive[i, t, 0] if t < r.exit_step[i] else np.zeros(len(held), bool)
                held = np.where(living[:, None], stream[i, t], held)
                z += np.einsum("kpc,pc->k", weight, held) + bias
            assert np.array_equal(z, r.logits[i])


def test_margin_exit_ends_when_the_leader_is_ahead():
    graph = halting_graph(gated=False)
    full = integer.run(graph, halting_input(), spikes=True)
    graph.ops["exit"] = dataclasses.replace(graph.ops["exit"], margin=np.array([40] * TIMESTEPS), policy="threshold_then_argmax")
    early = integer.run(graph, halting_input(), spikes=True)
    z = np.sort(full.spikes["readout"], axis=2)
    lead = z[..., -1] - z[..., -2] >= 40
    lead[:, -1] = True
    assert np.array_equal(early.exit_step, lead.argmax(1) + 1)
    assert early.exit_step.min() < TIMESTEPS
    assert early.counts.sum() < full.counts.sum()


def test_synop_count_equals_spikes_times_real_synapses(gated):
    graph = halting_graph()
    for name in ("block1.q", "block2.fc1"):
        op = graph.ops[name]
        stream = ["inject"] if name.startswith("block1") else ["inject", "block1.proj", "block1.fc2", "block2.proj"]
        x = sum(gated.spikes[n] for n in stream).astype(np.int64) * gated.alive[:, :, int(name[5]) - 1, :, None]
        expected = np.einsum("ntpc,c->nt", x, np.count_nonzero(op.weight[:, :, 0, 0], axis=0))
        assert np.array_equal(gated.counts[:, :, gated.ops.index(name), SYNOP], expected)


@pytest.mark.parametrize(
    "bad, word", [(np.zeros((2, 4, 8), np.int32), "shape"), (np.zeros((2, 9, 8)), "float"), (np.full((2, 9, 8), 9), "span")]
)
def test_inputs_that_do_not_fit_are_refused(bad, word):
    with pytest.raises(DeployError, match=word):
        integer.run(halting_graph(), bad)


@pytest.mark.parametrize("name, more", [("readout", {}), ("exit", {"margin": np.zeros(9, int)})])
def test_an_op_made_for_other_timesteps_is_refused_by_name(name, more):
    """An exit gate that ends later than the net would otherwise have the record written beyond its end."""
    graph = halting_graph()
    graph.ops[name] = dataclasses.replace(graph.ops[name], timesteps=9, **more)
    with pytest.raises(DeployError, match=f"{name}: is made for 9 timesteps, the net runs 4"):
        graph.check()


def test_a_mask_of_other_timesteps_is_refused_by_name():
    graph = Graph(timesteps=4, input_shape=(4, 2))
    graph.add("mask", TimestepGate(np.array([1, 0])))
    graph.add("lif", Lif((4, 2)), x="input", open="mask")
    with pytest.raises(DeployError, match="mask: is made for 2 timesteps"):
        graph.check()


def test_a_readout_that_holds_dead_tokens_needs_an_exit_that_sees_them():
    graph = halting_graph()
    graph.edges = [e for e in graph.edges if (e.target, e.slot) != ("exit", "alive")]
    with pytest.raises(DeployError, match="readout: takes the credit of 'gate2', but no exit gate does"):
        graph.check()


def test_credits_are_recorded_without_a_readout(gated):
    graph = halting_graph()
    for name in ("readout", "exit"):
        del graph.ops[name]
    graph.edges = [e for e in graph.edges if e.target in graph.ops]
    graph.check()
    found = integer.run(graph, halting_input())
    first = gated.exit_step.min()
    assert np.array_equal(found.alive[:, :first], gated.alive[:, :first])


def test_record_survives_a_file(gated, tmp_path):
    gated.labels = np.arange(len(gated.logits)) % 3
    gated.save(tmp_path / "events.npz")
    again = Record.load(tmp_path / "events.npz")
    again.spikes = gated.spikes
    same(again, gated)
    assert again.accuracy == gated.accuracy and again.gates == gated.gates
    (tmp_path / "events.npz").write_bytes(b"not a zip")
    with pytest.raises(DeployError, match=r"events\.npz"):
        Record.load(tmp_path / "events.npz")
