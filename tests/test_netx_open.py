"""What a script reads and changes inside the drop-in's layers: the same numbers as in stock NetX, at the same steps."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from spikegate.formats.netx.layers import Parameters, SynapseView, build, described
from spikegate.formats.netx.open_state import OpenState
from spikegate.formats.netx.pipeline import Pipeline, shifted
from spikegate.graph.ir import DeployError
from spikegate.neurons.cuba import Strict
from tests.slayer_chains import Chain

SEED = 0


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(Strict, "raises", False)
    chain = Chain(SEED, "cuba", stock=True, want="conv")
    assert all(y.any() for y in chain.outputs)
    chain.export(tmp_path / "any.net")
    return tmp_path / "any.net", chain


def whole_script(network, file, frames, steps: int) -> list[np.ndarray]:
    """A script that reads u and v, sets v and a bias, and reads again; what it saw."""
    from spikegate.deploy.lava.lava_import import lava_modules

    lava = lava_modules()
    with contextlib.redirect_stdout(io.StringIO()):
        net = network(net_config=str(file))
    source = lava.source.RingBuffer(data=frames)
    source.s_out.connect(net.inp)
    sink = lava.sink.RingBuffer(shape=net.out.shape, buffer=2 * steps)
    net.out.connect(sink.a_in)
    config = lava.Loihi2SimCfg(select_tag="fixed_pt")
    net.layers[-1].neuron.bias_mant.init = net.layers[-1].neuron.bias_mant.init + 7
    seen = []
    try:
        net.run(condition=lava.RunSteps(steps), run_cfg=config)
        neuron = net.layers[0].neuron
        seen += [layer.neuron.u.get() for layer in net.layers] + [layer.neuron.v.get() for layer in net.layers]
        neuron.v.set(np.full(neuron.v.shape, 40))
        neuron.bias_mant.set(np.full(neuron.bias_mant.shape, 11))  # stock hangs on get and set of vth, a NumPy scalar there
        net.run(condition=lava.RunSteps(steps), run_cfg=config)
        seen += [neuron.u.get(), neuron.v.get(), sink.data.get()]
    finally:
        net.stop()
    return seen


@pytest.mark.lava
@pytest.mark.timeout(240)
def test_a_script_that_reads_and_sets_vars_sees_what_it_sees_in_stock(path):
    from spikegate.deploy.lava.lava_import import lava_modules
    from spikegate.deploy.netx_network import Network

    file, chain = path
    frames = chain.x[0].numpy().transpose(2, 1, 0, 3).astype(np.int32)
    stock = whole_script(lava_modules(netx=True).netx.Network, file, frames, 6)
    mine = whole_script(Network, file, frames, 6)
    assert all(np.array_equal(a, b) for a, b in zip(stock, mine)) and all(a.any() for a in stock[:2])


def test_state_is_one_array_with_the_layers_own(path):
    layer = build(str(path[0]), None, 0, 0, None, None, 0, 6).layers[0]
    opened = OpenState(layer)
    start = opened.initial()
    assert {"u", "v", "vth", "du", "dv", "bias_mant"} == set(start)
    seen = opened.bound("v", start["v"] + 3)
    assert (layer.state["v"] == 3).all()
    seen[...] = 5
    assert (layer.state["v"] == 5).all() and seen.shape == start["v"].shape


@pytest.mark.parametrize("name, field, less", [("vth", "vth", 0), ("du", "i_decay", 1), ("dv", "v_decay", 0)])
def test_parameters_act_from_the_next_step_on(path, name, field, less):
    layer = build(str(path[0]), None, 0, 0, None, None, 0, 6).layers[0]
    before = getattr(layer.neuron, field)
    OpenState(layer).take(name, np.array([before - less - 5]))
    assert getattr(layer.neuron, field) == before - 5


def test_an_exponent_shifts_the_sums_and_rounds_down():
    sums = np.array([-3, 5])
    assert shifted(sums, 0) is sums and shifted(sums, 2).tolist() == [-12, 20] and shifted(sums, -1).tolist() == [-2, 2]


def test_synapses_answer_as_stocks_and_refuse_what_would_not_act(path):
    class Sparse:
        pass

    view = described(Pipeline(path[0]), Sparse)[-1]
    assert isinstance(view.synapse, Sparse) and type(view.synapse) is SynapseView
    assert view.synapse.weights.init.shape == view.synapse.shape
    view.synapse.proc_params._parameters["weight_exp"] += 3
    assert view.synapse.exponent == 3
    with pytest.raises(DeployError, match="does not act"):
        Parameters()["num_weight_bits"] = 4


def test_what_is_not_there_is_named(path):
    layer = described(Pipeline(path[0]))[0]
    for part, name in ((layer.synapse, "a_out"), (layer.neuron, "bias_exp"), (layer, "neuron_params")):
        with pytest.raises(AttributeError, match=f"no '{name}': the drop-in runs all layers in one process"):
            getattr(part, name)
