"""NIR: a net of ours comes back bit for bit; what NIR or the chip cannot say is refused by name."""

from __future__ import annotations

import dataclasses
import json

import nir
import numpy as np
import pytest

from spikegate.engine.integer import run
from spikegate.errors import DeployError
from spikegate.formats.nir.exporter import to_nir, write_nir
from spikegate.formats.nir.importer import from_nir, import_graph, import_nir, read_nir
from spikegate.graph.ir import INPUT, Graph, Payload
from spikegate.neurons.cuba import LIMIT, Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.current import Current
from spikegate.ops.dense import Dense
from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.ops.inject import Inject
from spikegate.ops.lif import Lif
from spikegate.ops.max_pool import MaxPool
from spikegate.ops.membrane import Membrane
from spikegate.ops.qk_channel_gate import QkChannelGate
from spikegate.ops.readout import Readout
from tests.nir_checking import EXACT, compared
from tests.nir_equations import interpret, scores


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
    "change",
    [{}, {"r": 1.0}, {"v_leak": 0.5}, {"v_threshold": 3.5}, {"v_threshold": np.array([3.0, 4.0])}, {"tau": np.array([2.0, 4.0])}],
    ids=str,
)
def test_numbers_that_are_the_chips_at_some_power_of_two_are_taken(change, rng):
    values = {"tau": 2.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 3.0} | change
    lif = nir.LIF(**{k: np.broadcast_to(v, 2).astype(float) for k, v in values.items()})
    graph = chain(lif, np.array([[2.0, 4.0, -6.0], [0.0, 2.0, 8.0]]))
    x = rng.integers(0, 2, (8, 4, 3)).astype(np.int32)
    assert compared(graph, x, 4) == EXACT
    found = from_nir(graph, 4)
    if not change:
        assert found.ops["lif"].neuron == Cuba(4096, 2048, 3) and found.ops["lif"].kind == "dense"
    assert np.array_equal(run(found, x).logits, scores(graph, interpret(graph, x)[0]))


@pytest.mark.parametrize(
    "change, what",
    [
        ({"tau": 2.1}, "no decay in 1/4096"), ({"r": 0.3}, "not even integers"), ({"v_leak": 0.3}, "not whole"),
        ({"v_threshold": 3.3}, "threshold 3.3 is not whole"), ({"v_threshold": -1.0}, "fires without input"),
        ({"v_reset": 0.5}, "starts at its reset voltage"), ({"tau": 0.5}, "shorter than a timestep"), ({"tau": np.nan}, "not finite"),
    ],
)  # fmt: skip
def test_other_numbers_are_refused_by_name(change, what):
    values = {"tau": 2.0, "r": 2.0, "v_leak": 0.0, "v_threshold": 3.0, "v_reset": 0.0} | change
    lif = nir.LIF(**{k: np.broadcast_to(v, 2).astype(float) for k, v in values.items()})
    with pytest.raises(DeployError, match=f"lif: .*{what}"):
        from_nir(chain(lif, np.array([[2.0, 4.0, -6.0], [0.0, 2.0, 8.0]])), 4)


def test_floats_unknown_nodes_and_missing_time_are_refused(tmp_path):
    lif = nir.LIF(*(np.full(2, v) for v in (2.0, 2.0, 0.0, 3.0)))
    with pytest.raises(DeployError, match="not even integers"):
        from_nir(chain(lif, np.full((2, 3), 0.3)), 4)
    with pytest.raises(DeployError, match="how many timesteps"):
        from_nir(chain(lif, np.full((2, 3), 2.0)))
    for steps in (-1, 0, 2.5, True, "4"):
        with pytest.raises(DeployError, match="whole number from 1 to 4096"):
            from_nir(chain(lif, np.full((2, 3), 2.0)), steps)
    for dt in (0.0, -1e-3, float("nan"), "fast"):
        with pytest.raises(DeployError, match="timestep in seconds"):
            from_nir(chain(lif, np.full((2, 3), 2.0)), 4, dt)
    with pytest.raises(DeployError, match=r"odd \(Odd\)"):
        nodes = {"in": nir.Input(np.array([3])), "odd": Odd(np.ones(3)), "out": nir.Output(np.array([3]))}
        from_nir(nir.NIRGraph(nodes, [("in", "odd"), ("odd", "out")], type_check=False), 4)
    (tmp_path / "no.nir").write_bytes(b"nothing")
    with pytest.raises(DeployError, match="not a readable NIR file"):
        read_nir(tmp_path / "no.nir")


class Odd(nir.Scale):
    """A node type that NIR does not have."""


def test_a_bias_of_neurons_with_a_slow_current_is_exported_as_what_it_is(rng):
    """On chip it goes to the voltage, past the current; NIR says that with v_leak."""
    g = Graph(timesteps=12, input_shape=(4, 2))
    bias = np.array([20, -7, 33], np.int32)
    g.add("slow", Conv((rng.integers(-9, 20, (3, 2, 1, 1)) * 2).astype(np.int32), bias, (2, 2), neuron=Cuba(1024, 512, 60)), x=INPUT)
    g.add("last", Dense((rng.integers(-9, 20, (5, 12)) * 2).astype(np.int32), np.arange(5, dtype=np.int32), Cuba(2048, 2048, 40)), x="slow")
    g.check()
    same(g, from_nir(to_nir(g)))
    x = rng.integers(0, 2, (6, 12, 4, 2)).astype(np.int32)
    record, sent = run(g, x, spikes=True), interpret(to_nir(g), x.swapaxes(2, 3).reshape(6, 12, 2, 2, 2))[1]
    theirs = sent["slow"].reshape(6, 12, 3, 4).swapaxes(2, 3)
    assert (theirs == record.spikes["slow"]).mean() > 0.97  # the chip rounds its leaks, NIR does not
    assert theirs.mean() > 0.1


def test_quantising_reports_what_it_changed_and_how_many_spikes_agree(rng, tmp_path):
    n, dt = 24, 1e-3
    neurons = nir.LIF(np.full(n, 20 * dt), np.full(n, 20.0), np.zeros(n), np.ones(n))
    last = nir.LI(np.full(5, 10 * dt), np.full(5, 1.0), np.zeros(5))
    layers = [nir.Affine(rng.normal(0.05, 0.3, (n, 12)), rng.normal(0, 0.01, n)), neurons, nir.Linear(rng.normal(0, 1, (5, n))), last]
    nir.write(tmp_path / "float.nir", nir.NIRGraph.from_list(*layers))
    with pytest.raises(DeployError, match="shorter than a timestep of 1 s"):
        import_nir(tmp_path / "float.nir", timesteps=40)
    x = (rng.random((9, 40, 12)) < 0.3).astype(np.int32)
    graph, report = import_nir(tmp_path / "float.nir", timesteps=40, dt=dt, calibrate=x)
    first, answer = report.layers
    assert (first.name, first.fidelity, answer.name) == ("lif", "approximate", "li") and not report.exact
    assert any("8 bits" in note for note in first.notes) and any("decay" in note for note in first.notes)
    found = nir.read(tmp_path / "float.nir")
    spikes = interpret(found, x, dt)[1]["lif"]
    assert abs(first.float_rate - spikes.mean()) < 1e-12 and 0.01 < first.float_rate
    record = run(graph, x, spikes=True)
    assert abs(first.agreement - (record.spikes["lif"].reshape(spikes.shape) == spikes).mean()) < 1e-12
    assert first.agreement > 0.97 and report.same_answers > 0.8 and report.samples == 9
    theirs = scores(found, interpret(found, x, dt)[0]) * report.scores_per_unit
    assert np.corrcoef(theirs.ravel(), record.logits.ravel())[0, 1] > 0.99
    assert json.loads(json.dumps(report.as_json()))["layers"][0]["agreement"] == first.agreement
    assert "float rate" in [str(c.header) for c in report.table().columns]
    with pytest.raises(DeployError, match=r"give \[samples, 40, 12\]"):
        import_nir(tmp_path / "float.nir", timesteps=40, dt=dt, calibrate=x[:, :3])


def test_samples_decide_where_only_the_worst_case_keeps_a_scale_low(rng):
    """Neurons without leak over many timesteps: the sum of all weights times T overflows, what the samples do does not."""
    n, steps = 40, 400
    neurons = nir.IF(np.ones(n), np.ones(n))
    g = nir.NIRGraph.from_list(nir.Linear(rng.normal(0.004, 0.1, (n, 300))), neurons)
    x = (rng.random((4, steps, 300)) < 0.02).astype(np.int32)
    graph, report = import_graph(g, timesteps=steps, calibrate=x)
    (row,) = report.layers
    assert any("registers hold what the samples reach" in note for note in row.notes) and graph.ops["if"].kind == "block_dense"
    bound = np.abs(graph.ops["if"].weight).sum(1).max()
    assert bound * steps * 64 > LIMIT  # what the other ops refuse
    record = run(graph, x, spikes=True)  # raises where a register overflows
    spikes = interpret(g, x)[1]["if"]
    assert abs((record.spikes["if"] == spikes).mean() - row.agreement) < 1e-12
    assert row.agreement == row.alone > 0.99 and 0.01 < row.float_rate
