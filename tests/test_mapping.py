"""Which op goes into which process, and what the messages between them hold."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.deploy.network import staging
from spikegate.deploy.network.mapping import INJECTOR, order, partition, plan
from spikegate.deploy.network.messages import FIRST, Layout, join
from spikegate.deploy.network.network import Network
from spikegate.engine import integer
from spikegate.engine.integer import Chunk
from spikegate.graph.ir import DeployError, Graph, Payload
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from tests.graphs import chain_graph, halting_graph, halting_input


def test_partition():
    graph = halting_graph()
    assert partition(graph, "op") == {n: [n] for n in graph.ops}
    blocks = partition(graph, "block")
    assert list(blocks) == ["embedding+block1", "gate1", "block2", "gate2", "readout", "exit"]
    assert blocks["readout"] == ["readout"] and blocks["exit"] == ["exit"] and len(blocks["block2"]) == 7
    assert partition(graph, "chip") == {"chip": list(graph.ops)}
    assert partition(chain_graph(), "chip") == {"chip": ["conv1", "conv2", "dense"]}


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
def test_a_chip_is_cut_into_processes_of_equal_work(most):
    graph = even_chain(12)
    parts = partition(graph, "chip", most)
    assert [n for names in parts.values() for n in names] == list(graph.ops)
    assert [len(names) for names in parts.values()] == [12 // min(most, staging.MOST)] * min(most, staging.MOST)
    assert list(parts) == (["chip"] if most == 1 else [f"chip{k}" for k in range(1, len(parts) + 1)])


def test_a_cut_that_does_not_pay_is_not_made():
    graph = even_chain(2)
    graph.ops["conv1"] = Conv(weight(2, 2, 1, 1), np.zeros(2), (30, 30), neuron=Cuba(4096, 2048, 50))
    graph.ops["conv2"] = Conv(weight(2, 2, 1, 1), np.zeros(2), (30, 30), neuron=Cuba(4096, 2048, 50))
    assert list(partition(graph, "chip", 2)) == ["chip"]  # what would cross the cut is more work than either layer
    assert staging.stages(chain_graph(), 1) == [["conv1", "conv2", "dense"]]


@pytest.mark.lava
@pytest.mark.timeout(240)
@pytest.mark.parametrize("gated", [True, False])
def test_any_number_of_processes_gives_the_same(gated):
    graph = halting_graph() if gated else even_chain(5)
    x = halting_input() if gated else np.random.default_rng(3).integers(0, 2, (7, 4, 16, 8))
    reference = integer.run(graph, x, batch=2)
    for most in (1, 2, 4):
        with Network(graph, "chip", 2, stages=most) as network:
            for _ in range(2):
                record = network.run(x)
                assert all(np.array_equal(getattr(record, f), getattr(reference, f)) for f in ("counts", "logits", "exit_step", "alive"))


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-20, 20, shape) * 2


def even_chain(layers: int) -> Graph:
    """Equal layers one after the other, nothing halts."""
    g = Graph(timesteps=4, input_shape=(16, 8), input_payload=Payload(0, 1))
    for k in range(1, layers + 1):
        conv = Conv(weight(8, 8, 3, 3), np.full(8, 9), (4, 4), padding=1, neuron=Cuba(4096, 2048, 50))
        g.add(f"conv{k}", conv, x="input" if k == 1 else f"conv{k - 1}")
    return g


def test_every_process_hears_only_what_comes_before_it():
    graph = halting_graph()
    for mapping in ("op", "block", "chip"):
        plans = plan(graph, mapping, 4)
        names = list(plans)
        assert names[0] == INJECTOR and plans[INJECTOR].senders == [names[-1]] and plans[names[-1]].exits
        for k, name in enumerate(names[1:], 1):
            assert set(plans[name].senders) <= set(names[:k]), name
    plans = plan(graph, "block", 4)
    assert plans["block2"].senders == ["embedding+block1", "gate1"]
    assert [(p.layout.names, p.receivers) for p in plans["gate1"].ports] == [(["gate1"], ["block2", "gate2"])]
    assert plans[INJECTOR].ports[plans[INJECTOR].port_to("gate1")].layout.names == ["delayed:gate2"]  # not the input


def test_blocks_share_no_more_processes_than_asked_for():
    graph = halting_graph()
    plain = {n: names for n, names in partition(graph, "block").items() if len(names) > 1}
    assert list(plain) == ["embedding+block1", "block2"]
    more = partition(graph, "block", 4)  # gates part the blocks into three runs already; one run is of two blocks
    assert list(more) == ["embedding", "block1", "gate1", "block2", "gate2", "readout", "exit"]
    assert list(partition(graph, "block", 99)) == list(more)
    assert list(partition(halting_graph(gated=False), "block")) == ["embedding..readout", "exit"]
    assert len(partition(halting_graph(gated=False), "block", 2)) == 3


@pytest.mark.lava
@pytest.mark.timeout(120)
def test_a_block_around_a_gate_goes_on_in_a_second_process():
    graph = halting_graph()
    graph.ops = {("block1.late" if n == "block2.q" else n): op for n, op in graph.ops.items()}  # block1 then needs gate1
    graph.edges = [type(e)(*("block1.late" if v == "block2.q" else v for v in (e.source, e.target)), e.slot, e.delay) for e in graph.edges]
    blocks = partition(graph, "block")
    assert list(blocks)[:2] == ["embedding+block1", "gate1"] and blocks["block1.2+block2"][0] == "block1.late"
    assert "block1.late" in partition(graph, "op")
    with Network(graph, "block", 3) as network:
        record = network.run(halting_input(), spikes=True)
    reference = integer.run(graph, halting_input(), spikes=True)
    assert all(np.array_equal(record.spikes[n], reference.spikes[n]) for n in graph.ops)


def test_a_ring_of_processes_is_named():
    graph = halting_graph()
    ring = {"front": [n for n in graph.ops if n != "gate1"], "gate1": ["gate1"]}
    with pytest.raises(DeployError, match=r"front, gate1 wait for each other"):
        order(graph, ring)


def test_unknown_mapping():
    with pytest.raises(DeployError, match="core"):
        partition(halting_graph(), "core")


def chunk(**signals) -> Chunk:
    return Chunk(np.array([0, 2]), np.array([7, 3]), np.array([1, 4]), signals)


def test_message_round_trip():
    layout = Layout("here", 3, {"x": ((2, 2), Payload(0, 255)), "z": ((5,), Payload(-9, 1 << 20))})
    x = np.random.default_rng(0).integers(0, 256, (2, 2, 2)).astype(np.int32)
    z = np.random.default_rng(1).integers(-9, 1 << 20, (2, 5)).astype(np.int32)
    message = layout.pack(FIRST, chunk(x=x, z=z, other=z))
    assert message.dtype == np.uint8 and layout.head == 4 * (7 + 2 * 3) and layout.nbytes == layout.head + 3 * (4 + 20)
    assert message.nbytes == layout.head + 2 * (4 + 20)  # the empty slot takes no room
    flags, back = layout.unpack(message)
    assert flags == FIRST and back.signals.keys() == {"x", "z"}
    for got, want in ((back.rows, [0, 2]), (back.sample, [7, 3]), (back.t, [1, 4]), (back.signals["x"], x), (back.signals["z"], z)):
        assert np.array_equal(got, want)
    assert len(layout.unpack(layout.empty())[1].rows) == 0


def test_what_does_not_fire_takes_no_room():
    layout = Layout("here", 3, {"open": ((3, 7), Payload(0, 1)), "score": ((4,), Payload(0, 9))})
    spikes, scores = np.zeros((2, 3, 7), np.int32), np.zeros((2, 4), np.int32)
    assert layout.pack(0, chunk(open=spikes, score=scores)).nbytes == layout.head  # nothing but the header
    spikes[1, 2, 3] = spikes[1, 0, 0] = 1
    scores[0, 2] = 5
    message = layout.pack(0, chunk(open=spikes, score=scores))
    assert message.nbytes == layout.head + 3 + 4  # 21 spikes as bits, 4 bytes
    _, back = layout.unpack(message)
    assert np.array_equal(back.signals["open"], spikes) and np.array_equal(back.signals["score"], scores)
    (table,) = layout.described(message)
    assert table.tolist() == [[7, 1, 1, 4], [3, 4, 2, 3]] and layout.described(layout.empty()) == []


@pytest.mark.parametrize("span", [1, 3])
@pytest.mark.parametrize("payload", [Payload(0, 1), Payload(0, 200), Payload(-5, 300), Payload(-(1 << 20), 1 << 20)])
def test_every_kind_of_value_arrives(payload, span):
    rng = np.random.default_rng(span)
    layout = Layout("here", 4, {n: ((5, k), payload) for n, k in (("a", 1), ("b", 3), ("c", 8))}, span)
    slots = np.array([0, 1, 3])
    sample, t = np.repeat(slots + 9, span), np.tile(np.arange(1, span + 1), 3)
    signals = {n: rng.integers(payload.low, payload.high + 1, (3 * span, 5, k)).astype(np.int32) for n, k in (("a", 1), ("b", 3), ("c", 8))}
    signals["b"][1] = 0
    _, back = layout.unpack(layout.pack(0, Chunk(slots, sample, t, dict(signals), span)))
    assert np.array_equal(back.rows, slots) and back.span == span and np.array_equal(back.sample, sample) and np.array_equal(back.t, t)
    assert all(np.array_equal(back.signals[n], signals[n]) for n in signals)


def test_messages_of_different_timesteps_are_refused():
    layouts = [Layout("left", 3, {"x": ((1,), Payload(0, 1))}), Layout("right", 3, {"y": ((1,), Payload(0, 1))})]
    one = np.ones((2, 1), np.int32)
    now, later = chunk(x=one, y=one), chunk(x=one, y=one)
    later.t = later.t + 1
    assert set(join("me", layouts, [layouts[0].pack(0, now), layouts[1].pack(0, now)])[1].signals) == {"x", "y"}
    with pytest.raises(DeployError, match="process me: its messages from left and right belong to different timesteps"):
        join("me", layouts, [layouts[0].pack(0, now), layouts[1].pack(0, later)])


def test_value_beyond_its_payload_is_refused():
    layout = Layout("here", 3, {"x": ((1,), Payload(0, 7))})
    with pytest.raises(DeployError, match=r"x: sends values in \[-1, 256\]"):
        layout.pack(0, chunk(x=np.array([[-1], [256]])))
