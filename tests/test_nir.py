"""NIR: a net of ours comes back bit for bit; what NIR or the chip cannot say is refused by name."""

from __future__ import annotations

import dataclasses

import nir
import numpy as np
import pytest

from spikegate.engine.integer import run
from spikegate.errors import DeployError
from spikegate.formats.nir.exporter import to_nir, write_nir
from spikegate.formats.nir.importer import from_nir, read_nir
from spikegate.graph.ir import INPUT, Graph, Payload
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.current import Current
from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.ops.inject import Inject
from spikegate.ops.lif import Lif
from spikegate.ops.max_pool import MaxPool
from spikegate.ops.membrane import Membrane
from spikegate.ops.qk_channel_gate import QkChannelGate
from spikegate.ops.readout import Readout


def net(rng: np.random.Generator) -> Graph:
    """Every op that NIR can say: replay, encoder, convolutions with SEW sums, pool, membrane stream, slow currents, head."""

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-40, 50, shape) * 2).astype(np.int32)

    def bias(n: int) -> np.ndarray:
        return rng.integers(-30, 40, n).astype(np.int32)

    g = Graph(timesteps=3, input_shape=(24, 4), input_payload=Payload(-200, 199))
    g.add("replay", Inject((24, 4), -200, 199), x=INPUT)
    g.add("encode", Lif((24, 4), Cuba(4096, 2048, 90)), x="replay")
    g.add("a", Conv(weight(4, 2, 3, 3), bias(4), (6, 4), 1, 1, 2, Cuba(4096, 1100, 80)), x="encode")
    g.add("b", Conv(weight(4, 4, 3, 3), bias(4), (6, 4), 1, 1, 1, Cuba(4096, 0, 95)), x=["a", "encode"])
    g.add("pool", MaxPool((6, 4), 4, 2, 2, 0), x="b")
    g.add("slow", Conv(weight(5, 4, 1, 1), bias(5), (3, 2), neuron=Cuba(1024, 512, 120)), x="pool")
    g.add("left", Current(weight(5, 5, 1, 1), bias(5), (3, 2)), x="slow")
    g.add("right", Current(weight(5, 4, 1, 1), bias(5), (3, 2)), x="pool")
    g.add("stream", Membrane((6, 5), Cuba(4096, 2048, 70)), current=["left", "right"])
    g.add("readout", Readout(weight(3, 6, 5), bias(3), 3), x=["stream", "slow"])
    g.add("exit", ExitGate(3, 3, np.full(3, NEVER)), logits="readout")
    g.check()
    return g


def same(a: Graph, b: Graph) -> None:
    assert sorted(a.ops) == sorted(b.ops) and (a.timesteps, a.input_shape, a.input_payload) == (b.timesteps, b.input_shape, b.input_payload)
    assert {(e.source, e.target, e.slot, e.delay) for e in a.edges} == {(e.source, e.target, e.slot, e.delay) for e in b.edges}
    for name, op in a.ops.items():
        assert type(op) is type(b.ops[name])
        for f in dataclasses.fields(op):
            assert np.array_equal(getattr(op, f.name), getattr(b.ops[name], f.name)), (name, f.name)


def test_a_net_comes_back_bit_for_bit(rng, tmp_path):
    graph = net(rng)
    same(graph, from_nir(to_nir(graph)))
    write_nir(graph, tmp_path / "net.nir")
    back = read_nir(tmp_path / "net.nir")
    same(graph, back)
    x = rng.integers(-200, 200, (5, 24, 4)).astype(np.int32)
    assert np.array_equal(run(graph, x).logits, run(back, x).logits)


def test_the_file_says_what_the_chip_computes(rng):
    """NIR's own equations, in floats by forward Euler, give the same spikes where the leak needs no rounding."""
    w, b = rng.integers(-20, 25, (4, 3)) * 2, rng.integers(-5, 20, 4)
    g = Graph(timesteps=4, input_shape=(1, 3))
    g.add("layer", Conv(w[:, :, None, None].astype(np.int32), b.astype(np.int32), (1, 1), neuron=Cuba(4096, 2048, 50)), x=INPUT)
    found = to_nir(g)
    conv, lif = found.nodes["layer.synapses"], found.nodes["layer"]
    x = rng.integers(0, 2, (6, 4, 1, 3)).astype(np.int32)
    ours = run(g, x, spikes=True).spikes["layer"]
    v = np.zeros((6, 4))
    tau, r, theta = (float(np.unique(a)[0]) for a in (lif.tau, lif.r, lif.v_threshold))
    for t in range(4):
        v = v + (-v + r * (x[:, t, 0] @ conv.weight[:, :, 0, 0].T + conv.bias)) / tau
        z = v > theta
        assert np.array_equal(z, ours[:, t, 0].astype(bool))
        v = np.where(z, 0, v)


def test_ops_without_a_word_in_nir_are_named_all_at_once():
    g = Graph(timesteps=2, input_shape=(4, 3))
    g.add("gate", QkChannelGate(4, 3), q=INPUT, k=INPUT)
    g.add("second", QkChannelGate(4, 3), q="gate", k=INPUT)
    with pytest.raises(DeployError, match=r"gate \(qk_channel_gate\), second \(qk_channel_gate\)"):
        to_nir(g)


def chain(neuron, weight) -> object:
    return nir.NIRGraph.from_list(nir.Linear(weight), neuron)


@pytest.mark.parametrize(
    "change, what",
    [
        ({}, None), ({"tau": 2.1}, "no decay in 1/4096"), ({"r": 1.0}, "scales its input by 0.5"), ({"v_leak": 0.5}, "v_leak is not 0"),
        ({"v_threshold": 3.5}, "not whole"), ({"v_threshold": np.array([3.0, 4.0])}, "differs from neuron to neuron"),
    ],
)  # fmt: skip
def test_numbers_that_are_not_the_chips_are_refused(change, what):
    values = {"tau": 2.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 3.0} | change
    lif = nir.LIF(**{k: np.broadcast_to(v, 2).astype(float) for k, v in values.items()})
    graph = chain(lif, np.array([[2.0, 4.0, -6.0], [0.0, 2.0, 8.0]]))
    if what is None:
        found = from_nir(graph, 4)
        assert found.ops["lif"].neuron == Cuba(4096, 2048, 3) and found.ops["lif"].kind == "dense"
        return
    with pytest.raises(DeployError, match=what):
        from_nir(graph, 4)


def test_floats_unknown_nodes_and_missing_time_are_refused(tmp_path):
    lif = nir.LIF(*(np.full(2, v) for v in (2.0, 2.0, 0.0, 3.0)))
    with pytest.raises(DeployError, match="not even integers"):
        from_nir(chain(lif, np.full((2, 3), 0.3)), 4)
    with pytest.raises(DeployError, match="how many timesteps"):
        from_nir(chain(lif, np.full((2, 3), 2.0)))
    with pytest.raises(DeployError, match=r"threshold \(Threshold\)"):
        from_nir(nir.NIRGraph.from_list(nir.Linear(np.full((2, 3), 2.0)), nir.Threshold(np.ones(2))), 4)
    (tmp_path / "no.nir").write_bytes(b"nothing")
    with pytest.raises(DeployError, match="not a readable NIR file"):
        read_nir(tmp_path / "no.nir")
