"""Token halting in both orders and token merging: against nets without the tokens, on Lava."""

from __future__ import annotations

import dataclasses
import itertools

import h5py
import numpy as np
import pytest

from spikegate.convert.checks.audit import audit
from spikegate.deploy.network.mapping import partition
from spikegate.deploy.network.network import Network
from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph import credit
from spikegate.graph.ir import COUNTERS, INPUT, DeployError, Graph, Payload
from spikegate.ops.base.pairs import neighbours
from spikegate.ops.base.patches import patch_side, patches
from spikegate.ops.relay import Relay
from spikegate.ops.token_merge import ABSORBED
from tests.graphs import CHANNELS, TIMESTEPS, TOKENS, halting_graph, halting_input

KINDS = [
    pytest.param(
        dict(order=order, delta=delta, spiking=spiking, gated=gated, scores=250 if spiking else 120),
        id=f"{order if gated else 'ungated'}-{'spiking' if spiking else 'inject'}-delta{delta}",
    )
    for order, delta, spiking, gated in itertools.product(("serial", "rectangle"), (None, 2), (False, True), (True, False))
    if gated or (delta is not None and order == "serial")
]
WITH_MERGE = [k for k in KINDS if k.values[0]["delta"] is not None]
# Mapping op takes many processes: there the nets that merge stand for the others, which have the same gates.
IN_LAVA = [
    pytest.param(k.values[0], mapping, id=f"{k.id}-{mapping}")
    for k in KINDS if k.values[0]["order"] == "rectangle" or not k.values[0]["gated"]
    for mapping in ("op", "block", "chip") if mapping != "op" or k.values[0]["delta"] is not None
]
# Without merging, tokens may leave the embedding, too.
LEAVING = [
    pytest.param(dict(order=order, leaving=True, scores=250), mapping, id=f"{order}-leaving-{mapping}")
    for order, mapping in (("serial", "op"), ("serial", "block"), ("rectangle", "block"), ("rectangle", "chip"))
]
GATED = [k for k in KINDS if k.values[0]["gated"]]
X = halting_input()
KEPT, TAKEN = neighbours((3, 3))


def blocks(graph: Graph, number: int | str = "") -> list[str]:
    return [n for n in graph.ops if n.startswith(f"block{number}")]


def embedding(graph: Graph, record: integer.Record) -> np.ndarray:
    """What reaches the tokens before anything halts or merges, int [N, T, tokens, channels]."""
    raw = [n for n in ("sps.encode", "sps.rpe") if n in graph.ops]
    return sum(record.spikes[n] for n in raw) if raw else np.repeat(X[:, None], TIMESTEPS, 1)


def by_hand(graph: Graph, keep: np.ndarray) -> Graph:
    """The net without merging, on the tokens `keep` only; the stream before block 1 comes in from outside, step by step."""
    plain = graph.without(["token_merge", "token_move"])
    carrier = "sps.relay" if "sps.relay" in plain.ops else "inject"
    n, high = len(keep), plain.ops[carrier].high
    ops, edges = {"inject": Relay((n, CHANNELS), high)}, []
    for name, op in plain.ops.items():
        if name in ops or name.startswith("sps."):
            continue
        change = {"grid": (1, n)} if op.kind == "conv" else {"weight": op.weight[:, keep]} if op.kind == "readout" else {"tokens": n}
        ops[name] = op if op.kind == "exit_gate" else dataclasses.replace(op, **change)
    for e in plain.edges:
        if e.target == carrier and e.slot == "x":
            continue
        source, target = ("inject" if end == carrier else end for end in (e.source, e.target))
        if source in ops and target in ops:
            edges.append(dataclasses.replace(e, source=source, target=target))
    made = Graph(ops, edges, TIMESTEPS, (n, CHANNELS), Payload(0, high))
    made.edges.append(dataclasses.replace(edges[0], source=INPUT, target="inject", slot="x", delay=0))
    made.check()
    return made


@pytest.mark.parametrize("kind", WITH_MERGE)
def test_a_merged_net_equals_one_whose_tokens_were_merged_by_hand(kind):
    """Delete the absorbed tokens, add their events to their neighbours: every spike, credit and logit of the rest is the same."""
    graph = halting_graph(**kind)
    record = integer.run(graph, X, spikes=True)
    raw = embedding(graph, record)
    merge = next(n for n, op in graph.ops.items() if op.kind == "token_merge")
    seen = 0
    for i in range(len(X)):
        absorbed = record.spikes[merge][i, 0] == ABSORBED
        seen += absorbed.sum()
        stream = raw[i].copy()
        for a, b in zip(KEPT, TAKEN):
            stream[:, a] += stream[:, b] * absorbed[b]
        keep = np.flatnonzero(~absorbed)
        hand = integer.run(by_hand(graph, keep), stream[None][:, :, keep], spikes=True)
        assert np.array_equal(hand.logits[0], record.logits[i]) and hand.exit_step[0] == record.exit_step[i]
        for name in [*blocks(graph), *(n for n in credit.gates(graph) if n != merge)]:
            assert np.array_equal(hand.spikes[name][0], record.spikes[name][i][:, keep]), name
            assert not record.spikes[name][i][:, absorbed].any(), name
    assert 5 < seen < len(X) * 3


@pytest.mark.parametrize("kind", WITH_MERGE)
def test_a_merged_pair_counts_as_one_token(kind):
    graph = halting_graph(**kind, theta=1 << 20)
    record = integer.run(graph, X, spikes=True)
    merge = next(n for n, op in graph.ops.items() if op.kind == "token_merge")
    absorbed = (record.spikes[merge][:, 0] == ABSORBED).mean()
    assert 0 < absorbed and record.mean_tokens == pytest.approx(1 - absorbed)
    off = integer.run(graph.without(["token_merge", "token_move"]), X)
    assert off.mean_tokens == 1 and record.chip_events.sum() != off.chip_events.sum()


# Whole nets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_work_is_accumulate_only_and_really_adaptive(kind):
    graph = halting_graph(**kind)
    rows = audit(graph, X)
    assert all(r.macs == 0 and r.exact for r in rows)
    record = integer.run(graph, X)
    assert 0.1 < record.mean_tokens < 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_what_never_halts_nor_merges_equals_the_plain_net(kind):
    """Scores that are never reached and a delta that never merges; and the same with halting removed from the graph."""
    graph = halting_graph(**{**kind, "delta": None if kind["delta"] is None else -1}, theta=1 << 20)
    plain = halting_graph(gated=False, spiking=kind["spiking"])
    removed = graph.without_halting()
    assert list(removed.ops) == list(plain.ops) and {op.halting for op in removed.ops.values()} == {False}
    assert {(e.source, e.target, e.slot) for e in removed.edges} == {(e.source, e.target, e.slot) for e in plain.edges}
    a, b = (integer.run(g, X, spikes=True) for g in (graph, plain))
    assert a.mean_tokens == 1 and np.array_equal(a.logits, b.logits)
    for name in b.ops:
        assert np.array_equal(a.spikes[name], b.spikes[name]), name
    for name in blocks(plain):
        counts = [r.counts[:, :, r.ops.index(name)] for r in (a, b)]
        for c, counter in enumerate(COUNTERS):
            same = np.array_equal(counts[0][..., c], counts[1][..., c])
            # spikes of two sources arrive as one graded event of the relay; more messages go out, to the gates
            assert same or counter == "message" or (counter == "spike_in" and kind["spiking"]), (name, counter)


@pytest.mark.parametrize("kind", GATED)
def test_halting_can_be_removed_and_merging_kept(kind):
    graph = halting_graph(**kind).without(["token_gate", "rectangle_gate"])
    graph.check()
    only = halting_graph(**{**kind, "gated": False})
    a, b = (integer.run(g, X, spikes=True) for g in (graph, only))
    assert np.array_equal(a.logits, b.logits) and all(np.array_equal(a.spikes[n], b.spikes[n]) for n in blocks(only))


@pytest.mark.parametrize("kind", KINDS)
def test_dead_tokens_are_as_good_as_deleted(kind):
    """What a token that no longer counts holds cannot matter: spoil its membranes and its held values, nothing else changes."""
    graph = halting_graph(**kind)
    clean = integer.run(graph, X, spikes=True)
    entries = credit.entering(graph)
    entries = entries * (2 // len(entries))  # with merging alone both blocks use the same credit
    stage, injector = integer.Stage(graph, list(graph.ops), len(X)), integer.Injector(graph, X, len(X))
    feedback, spoilt = None, 0
    while not injector.finished:
        chunk = injector.chunk(feedback)
        again = chunk.t > 1
        for block, entry in enumerate(entries, 1):
            dead = ~clean.alive[chunk.sample, np.maximum(chunk.t - 2, 0), entry] & again[:, None]
            for name in blocks(graph, block):
                stage.state[name]["v"][dead] = 12345
            spoilt += dead.sum()
        if "inject" in graph.ops:
            stage.state["inject"]["held"][dead_before(clean, graph, chunk)] = 1
        stage.step(chunk)
        for name in graph.ops:
            assert np.array_equal(chunk.signals[name], clean.spikes[name][chunk.sample, chunk.t - 1]), name
        stay = injector.advance(integer.done_of(graph, chunk.signals, chunk.t))
        feedback = {s: chunk.signals[s][stay] for s in graph.delayed_sources()}
        stage._fit(injector.rows)
    assert spoilt > 10


def dead_before(record: integer.Record, graph: Graph, chunk: integer.Chunk) -> np.ndarray:
    """Tokens whose embedding is silent in this timestep and was not to be held anew, bool [A, tokens]."""
    entry = 1 if any(op.kind == "token_merge" for op in graph.ops.values()) else 0
    return ~record.alive[chunk.sample, chunk.t - 1, entry] & (chunk.t > 1)[:, None]


@pytest.mark.parametrize("kind", KINDS)
def test_dead_is_for_the_rest_of_the_sample_and_silent(kind):
    graph = halting_graph(**kind)
    record = integer.run(graph, X, spikes=True)
    entries = credit.entering(graph)
    for block, entry in zip((1, 2), entries * (2 // len(entries))):
        alive = record.alive[:, :, entry]
        assert (np.diff(alive.astype(int), axis=1) <= 0).all()
        for name in blocks(graph, block):
            assert record.spikes[name][alive].any() and not record.spikes[name][~alive].any()
    carrier = "sps.relay" if kind["spiking"] else "inject"
    silent = ~record.alive[:, :, 0 if kind["delta"] is None else 1]
    assert silent.any() and not record.spikes[carrier][silent].any()
    if kind["spiking"]:
        assert record.spikes["sps.rpe"][silent].any(), "the embedding goes on for dead tokens; only then the relay matters"


def test_the_patches_of_a_map():
    for height, width in itertools.product(range(1, 9), range(1, 9)):
        for tokens in range(1, 70):
            sides = [f for f in range(1, 9) if -(-height // f) * -(-width // f) == tokens]
            assert patch_side((height, width), tokens) == min(sides, default=None)
            found = patches((height, width), tokens)
            assert (found is None) == (not sides) and (found is None or sorted({*found.tolist()}) == list(range(tokens)))
    assert patch_side((1 << 31, 1 << 31), 7) is None, "a damaged file is refused at once"


@pytest.mark.parametrize("order", ["serial", "rectangle"])
def test_an_embedding_that_tokens_leave_falls_silent_with_them(order):
    """Its neurons do nothing for dead tokens; without scores it is the plain net."""
    graph = halting_graph(order=order, leaving=True, scores={"serial": 250, "rectangle": 700}[order])
    assert all(r.macs == 0 and r.exact for r in audit(graph, X))
    record = integer.run(graph, X, spikes=True)
    dead = ~record.alive[:, :, 0]
    assert 0.1 < dead[:, 1:].mean() < 0.9
    for name in ("sps.encode", "sps.rpe"):
        assert not record.spikes[name][dead].any() and record.spikes[name][~dead].any()
        ran = np.arange(TIMESTEPS) < record.exit_step[:, None]
        updates = record.counts[:, :, record.ops.index(name), COUNTERS.index("neuron_update")]
        assert np.array_equal(updates, (~dead).sum(2) * CHANNELS * ran)
    never = integer.run(halting_graph(order=order, leaving=True, theta=1 << 20), X, spikes=True)
    plain = integer.run(halting_graph(order=order, leaving=True, theta=1 << 20).without_halting(), X, spikes=True)
    assert all(np.array_equal(plain.spikes[n], never.spikes[n]) for n in plain.ops) and np.array_equal(plain.logits, never.logits)


@pytest.mark.parametrize("kind", GATED)
def test_logits_hold_what_a_token_had_when_it_died(kind):
    """Serial: its stream at the last gate. Rectangle: at gate 0, its embedding alone. An absorbed token holds nothing."""
    graph = halting_graph(**kind)
    record = integer.run(graph, X, spikes=True)
    head = graph.ops["readout"]
    stream = sum(record.spikes[e.source] for e in graph.sources("readout")["x"])
    before = record.alive[:, :, 0 if kind["delta"] is None else 1]
    for i in range(len(X)):
        held, z = np.zeros((TOKENS, CHANNELS), np.int64), np.zeros(len(head.bias), np.int64)
        for t in range(TIMESTEPS):
            if t < record.exit_step[i]:
                held = np.where(before[i, t][:, None], stream[i, t], held)
            z += np.einsum("kpc,pc->k", head.weight.astype(np.int64), held) + head.bias
        assert np.array_equal(z, record.logits[i])


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_keeps_the_net(kind, tmp_path):
    graph = halting_graph(**kind)
    write_graph(graph, tmp_path / "model.net")
    a, b = (integer.run(g, X) for g in (graph, read_graph(tmp_path / "model.net")))
    assert np.array_equal(a.counts, b.counts) and a.mean_tokens == b.mean_tokens and a.gates == b.gates
    a.save(tmp_path / "events.npz")
    assert integer.Record.load(tmp_path / "events.npz").mean_tokens == a.mean_tokens


def test_a_file_from_before_a_field_existed_means_its_default(tmp_path):
    write_graph(halting_graph(), path := tmp_path / "model.net")

    def gate(f):
        return next(g for g in f["graph/ops"].values() if g.attrs["kind"] == "token_gate")

    with h5py.File(path, "r+") as f:
        del gate(f).attrs["width"]
    assert read_graph(path).ops["gate1"].width == 1
    with h5py.File(path, "r+") as f:
        del gate(f).attrs["theta"]
    with pytest.raises(DeployError, match="field 'theta' is missing"):
        read_graph(path)


@pytest.mark.lava
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind, mapping", IN_LAVA + LEAVING)
def test_lava_equals_the_reference(kind, mapping):
    graph = halting_graph(**kind)
    assert sum(map(len, partition(graph, mapping).values())) == len(graph.ops)
    reference = integer.run(graph, X, spikes=True)
    with Network(graph, mapping, 4) as network:
        record = network.run(X, spikes=True)
    for name in graph.ops:
        assert np.array_equal(record.spikes[name], reference.spikes[name]), name
    for field in ("alive", "counts", "logits", "exit_step"):
        assert np.array_equal(getattr(record, field), getattr(reference, field)), field
    assert record.mean_tokens == reference.mean_tokens
