"""Counts: attention against loops, nested masks, placement, and the ledger's file against the record."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.command import cli
from spikegate.engine.integer import run
from spikegate.graph.ir import COUNTERS, Op, load_ops
from spikegate.hw_sim import place as command
from spikegate.hw_sim.chip import ledger_file
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.mapping import map_to
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.workload import workload_of
from spikegate.hw_sim.energy.cost_tables import load_tables, names
from spikegate.ops.multiscale_gate import MultiscaleGate
from spikegate.ops.qk_channel_gate import QkChannelGate
from spikegate.ops.qk_token_gate import QkTokenGate
from spikegate.ops.sdsa import Sdsa
from spikegate.ops.spiking_attention import SpikingAttention
from tests.graphs import halting_graph, halting_input
from tests.run_folder import adaptive_graph
from tests.test_hardware import export
from tests.test_place import small

LOIHI2 = load_chip("loihi2")
TOKENS, CHANNELS, HEADS = 3, 4, 2
WIDTH = CHANNELS // HEADS


def looped(op: Op, bits: dict[str, np.ndarray]) -> int:
    """``attention_ac`` of one sample by loops over tokens and channels, as docs/semantics.md words it."""
    found, tokens, channels = 0, range(TOKENS), range(CHANNELS)
    if op.kind == "spiking_attention":
        for h in range(HEADS):
            own = range(h * WIDTH, (h + 1) * WIDTH)
            q, k, v = ({(i, c) for i in tokens for c in own if bits[s][i, c]} for s in "qkv")
            if op.order == "kv":
                pairs = [(c, e) for j in tokens for c in own for e in own if (j, c) in k and (j, e) in v]
                found += len(pairs) + sum((c, e) in pairs for i, c in q for e in own)
            else:
                pairs = [(i, j) for i in tokens for j in tokens for c in own if (i, c) in q and (j, c) in k]
                found += len(pairs) + sum((i, j) in pairs for j, e in v for i in tokens)
        return found
    queries = [s for s in ("q", "p") if s in bits]
    for j in tokens:
        for c in channels:
            head = range(c // WIDTH * WIDTH, (c // WIDTH + 1) * WIDTH)
            if op.kind == "sdsa":
                found += int(bits["k"][j, c] and bits["v"][j, c])
                found += int(bits["q"][j, c] and any(bits["k"][i, c] and bits["v"][i, c] for i in tokens))
                continue
            column = [bits["q"][i, c] for i in tokens] if op.kind == "qk_channel_gate" else [bits[s][j, e] for s in queries for e in head]
            found += sum(int(bits[s][j, c]) for s in queries)
            found += int(bits["k"][j, c] and sum(column) >= getattr(op, "threshold", 1))
    return found


ATTENTIONS = [
    SpikingAttention(TOKENS, CHANNELS, HEADS, order="kv"), SpikingAttention(TOKENS, CHANNELS, HEADS, order="qk"),
    QkTokenGate(TOKENS, CHANNELS, HEADS), QkChannelGate(TOKENS, CHANNELS), MultiscaleGate(TOKENS, CHANNELS, HEADS, 1),
    MultiscaleGate(TOKENS, CHANNELS, HEADS, 2), Sdsa(TOKENS, CHANNELS),
]  # fmt: skip


@pytest.mark.parametrize("op", ATTENTIONS, ids=lambda op: f"{op.kind}-{getattr(op, 'order', getattr(op, 'threshold', ''))}")
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), rate=st.floats(0.05, 0.95))
def test_attention_counts_equal_loops_over_every_pair(op, seed, rate):
    rng = np.random.default_rng(seed)
    inputs = {s: (rng.random((2, TOKENS, CHANNELS)) < rate).astype(np.int32) for s in op.slots if not s.endswith("?")}
    t = np.ones(2, np.int64)
    expected = [looped(op, {s: x[n] for s, x in inputs.items()}) for n in range(2)]
    out = op.step(op.state(2), inputs, t)
    assert op.events(inputs, out, t)["attention_ac"].tolist() == expected
    assert op.advance(op.state(2), inputs, t)[1]["attention_ac"].tolist() == expected


def masked() -> list:
    """Ops gated by a credit, with the slots whose rows are the credit's tokens."""
    found = []
    for kind, cls in load_ops().items():
        for i, (op, steps) in enumerate(cls.examples(np.random.default_rng(5))):
            first = steps[0]
            if "alive" not in first or op.halting:
                continue
            tokens = first["alive"].shape[1]
            arrays = {s: x if isinstance(x, tuple) else (x,) for s, x in first.items()}
            slots = [s for s, xs in arrays.items() if s not in ("alive", "open") and all(x.ndim == 3 and x.shape[1] == tokens for x in xs)]
            if slots and len(op.out_shape) == 2 and op.out_shape[0] == tokens:
                found.append(pytest.param(op, first, slots, id=f"{kind}-{i}"))
    return found


@pytest.mark.parametrize("op, first, slots", masked())
@pytest.mark.parametrize("seed", range(5))
def test_a_token_that_dies_never_adds_work(op, first, slots, seed):
    """The same events with more and more tokens silenced: no count of work grows (a spike that no longer inhibits is no such count)."""
    rng = np.random.default_rng(seed)
    tokens, t = first["alive"].shape[1], np.ones(len(first["alive"]), np.int64)
    order, before = rng.permutation(tokens), None
    for dead in range(tokens + 1):
        credit = np.ones_like(first["alive"])
        credit[:, order[:dead]] = 0
        living = (credit > 0)[..., None]
        inputs = dict(first, alive=credit)
        for s in slots:
            inputs[s] = tuple(x * living for x in first[s]) if isinstance(first[s], tuple) else first[s] * living
        _, events = op.advance(op.state(len(t)), inputs, t)
        now = {c: np.asarray(events[c]) for c in ("spike_in", "synop", "attention_ac", "neuron_update") if c in events}
        assert before is None or all((now[c] <= before[c]).all() for c in now), dead
        before = now
    assert all((v == 0).all() for v in before.values())


def test_placement_changes_hops_and_nothing_else():
    work = workload_of(halting_graph(), run(halting_graph(), halting_input(7)))
    chip, tables = small(LOIHI2, 9), load_tables(names())
    greedy, better = (on_chip(work, chip, tables, method=m) for m in ("greedy", "optimised"))
    assert greedy.load.hops > better.load.hops > 0
    assert np.array_equal(greedy.mapping.counts, better.mapping.counts) and np.array_equal(greedy.mapping.traffic, better.mapping.traffic)
    for a, b in zip(greedy.energies, better.energies):
        assert {n: v for n, v in a.components.items() if n != "hops"} == {n: v for n, v in b.components.items() if n != "hops"}
        assert a.static == b.static and np.array_equal(a.ops_pj, b.ops_pj)
    assert np.array_equal(greedy.times.sum_ns, better.times.sum_ns)


@pytest.mark.parametrize("neurons", [8192, 9])
def test_the_ledgers_file_adds_up_over_ops_samples_and_cores(neurons):
    graph = adaptive_graph()
    record = run(graph, halting_input())
    work = workload_of(graph, record)
    ledger = ledger_file.to_json(map_to(work, small(LOIHI2, neurons)))
    n = len(record.counts)
    for k, counter in enumerate(COUNTERS):
        by_op = np.sum([row[counter] for row in ledger["ops"].values()], axis=0)
        assert np.allclose(by_op, record.counts[..., k].sum((0, 2)) / n), counter
        assert np.array_equal(ledger["samples"][counter], record.counts[..., k].sum(2)), counter
    acs = record.counts[..., [COUNTERS.index("synop"), COUNTERS.index("attention_ac")]].sum((0, 2, 3)) / n
    for rows in (ledger["ops"].values(), ledger["cores"]):
        assert np.allclose(np.sum([r["effective_acs"] for r in rows], axis=0), acs)
    sent, got = (np.sum([c[key] for c in ledger["cores"]], axis=0) for key in ("packets_out", "packets_in"))
    assert np.allclose(sent, got, rtol=1e-4) and np.allclose(sent, np.sum([r["packet"] for r in ledger["ops"].values()], axis=0), rtol=1e-4)
    assert ledger["samples"]["exit_step"] == record.exit_step.tolist() and min(record.exit_step) < max(record.exit_step)
    for name, values in record.values.items():
        assert np.allclose(ledger["ops"][name]["graded_sum"], values.sum(0) / n)
    samples = {k: np.array(v) for k, v in ledger["samples"].items()}
    assert (samples["visits_alive"] <= samples["visits_all_mapped"]).all()
    assert (samples["visits_alive"] < samples["visits_all_mapped"]).any() and samples["gate_update"].any() and samples["graded_sum"].any()
    assert set(ledger["names"]) <= set(ledger["meaning"]) and set(samples) - {"exit_step"} <= set(ledger["meaning"])


def test_place_writes_the_ledger_beside_its_figures(tmp_path, monkeypatch, capsys):
    export(tmp_path, adaptive_graph(), events=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["place.py", "runs/mine"])
    cli.run(command.main)
    assert "ledger.json" in capsys.readouterr().out
    ledger, figures = (json.loads((tmp_path / "runs/mine/report" / n).read_text()) for n in ("ledger.json", "hardware.json"))
    assert ledger["names"]["synop"] == {"neurobench": "SynapticOperations", "loihi_profiler": "syn_ops"}
    assert len(ledger["cores"]) == figures["cores"] and set(ledger["ops"]) == set(figures["ledger"]["ops"])
