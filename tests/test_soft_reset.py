"""Soft reset and multi-level spikes through files, audit, masks and exports; the equations themselves are in test_neuron.py."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.formats.netx.stock import write_stock_layer
from spikegate.formats.nir.exporter import to_nir
from spikegate.graph.ir import DeployError, Graph
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.dense import Dense
from spikegate.ops.sdsa import Sdsa
from tests.witness import files, simulator

RESETS = {"soft": ("subtract", 0, 1), "step": ("subtract", 33, 1), "levels": ("subtract", 0, 4)}


def chain(reset: tuple[str, int, int], timesteps: int = 6) -> Graph:
    """A convolution and a dense layer of such neurons."""
    rng = np.random.default_rng(2)
    g = Graph(timesteps=timesteps, input_shape=(12, 3))
    w = rng.integers(-20, 30, (5, 3, 3, 3)) * 2
    g.add("a", Conv(w, rng.integers(-9, 9, 5), (3, 4), padding=1, neuron=Cuba(4096, 2048, 30, *reset)), x="input")
    g.add("b", Dense(rng.integers(-20, 30, (4, 60)) * 2, rng.integers(-9, 9, 4), Cuba(1024, 300, 60, *reset)), x="a")
    g.check()
    return g


def spikes(n: int = 5) -> np.ndarray:
    return (np.random.default_rng(3).random((n, 6, 12, 3)) < 0.5).astype(np.int32)


@pytest.mark.parametrize("reset", RESETS.values(), ids=RESETS)
def test_a_file_keeps_the_reset_and_stock_netx_refuses_it(reset, tmp_path):
    g, x = chain(reset), spikes()
    write_graph(g, tmp_path / "model.net")
    again = read_graph(tmp_path / "model.net")
    assert [op.neuron for op in again.ops.values()] == [op.neuron for op in g.ops.values()]
    with h5py.File(tmp_path / "model.net") as f:
        assert list(f["layer"]) == ["0"] and bytes(f["layer/0/type"][0]) == b"concat"  # the guard
    record, samples = integer.run(again, x, spikes=True), simulator.run(files.read(tmp_path / "model.net"), x)
    for i, sample in enumerate(samples):
        assert np.array_equal(record.counts[i], np.array(sample.counts))
        assert np.array_equal(record.logits[i], sample.logits)
    high = max(int(record.spikes["a"].max()), int(record.spikes["b"].max()))
    assert high == 1 if reset[2] == 1 else 1 < high <= reset[2]


def test_one_layer_alone_is_not_written_as_stock(tmp_path):
    g = chain(RESETS["soft"])
    with h5py.File(tmp_path / "x.net", "w") as f, pytest.raises(DeployError, match="soft reset"):
        write_stock_layer(f.create_group("layer"), g.ops["b"], (12, 5))


def test_nir_has_no_word_for_it():
    with pytest.raises(DeployError, match=r"a \(soft reset\), b \(soft reset\)"):
        to_nir(chain(RESETS["soft"]))


def test_what_a_value_costs():
    """An event of value n is one message and n accumulates at each synapse: the counts of n unit events that come together."""
    g, x = chain(RESETS["levels"]), spikes()
    record = integer.run(g, x, spikes=True)
    sent, b = record.spikes["a"], g.ops["b"]
    fan = np.count_nonzero(b.weight, axis=0)
    found = {c: record.counts[:, :, :, k] for k, c in enumerate(simulator.COUNTERS)}
    assert np.array_equal(found["spike_out"][..., 0], np.count_nonzero(sent, axis=(2, 3)))
    assert np.array_equal(found["message"][..., 0], np.count_nonzero(sent, axis=(2, 3)))
    assert np.array_equal(found["synop"][..., 1], sent.reshape(*sent.shape[:2], -1) @ fan)


def test_nothing_is_lost_by_several_levels():
    """Integrate and fire without leak: over time as many spikes as with one level, as long as one level can send them all."""
    w = np.array([[20], [14], [-6]])
    x = np.concatenate([np.random.default_rng(1).integers(0, 2, (3, 20, 1)), np.zeros((3, 60, 1), int)], 1).astype(np.int32)
    counts = []
    for levels in (1, 5):
        g = Graph(timesteps=80, input_shape=(1,))
        g.add("a", Dense(w, np.zeros(3, int), Cuba(4096, 0, 9, "subtract", 0, levels)), x="input")
        counts.append(integer.run(g, x, spikes=True).spikes["a"].sum(1))
    assert np.array_equal(*counts) and counts[0].any()


@pytest.mark.parametrize(
    "change, what",
    [({"reset": "half"}, "'half' is unknown"), ({"v_step": 3}, "reset to 0"), ({"levels": 2}, "reset to 0"),
     ({"reset": "subtract", "levels": 0}, "levels 0"), ({"reset": "subtract", "levels": 200}, "levels 200"),
     ({"reset": "subtract", "v_step": -1}, "v_step -1")],
)  # fmt: skip
def test_rules_of_the_reset(change, what):
    g = chain(("zero", 0, 1))
    g.ops["a"] = dataclasses.replace(g.ops["a"], neuron=dataclasses.replace(g.ops["a"].neuron, **change))
    with pytest.raises(DeployError, match=what):
        g.check()


def test_an_and_takes_no_values():
    g = Graph(timesteps=2, input_shape=(4, 3))
    for k in "qkv":
        g.add(k, Conv(np.full((3, 3, 1, 1), 2), np.zeros(3, int), (2, 2), neuron=Cuba(4096, 2048, 1, "subtract", 0, 3)), x="input")
    g.add("gate", Sdsa(4, 3), q="q", k="k", v="v")
    with pytest.raises(DeployError, match="binary"):
        g.check()
