"""The drop-in for `netx.hdf5.Network` as a user of stock's sees it: every constructor argument, every noun, refusals without noise."""

from __future__ import annotations

import contextlib
import inspect
import io
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikegate.formats.netx.pipeline import Pipeline
from spikegate.graph.ir import DeployError
from tests.slayer_chains import Chain
from tests.test_netx_wheel import HERE, truth

pytestmark = [pytest.mark.lava, pytest.mark.timeout(240)]
shipped = pytest.mark.skipif(HERE is None, reason="lava-dl 0.6.0's wheel files tests/lava/lib/dl/netx are not installed beside it")
FILES = ["tiny.net", "gts/pilotnet_sdnn/network.net", "gts/pilotnet_sdnn/square_network.net", "gts/pilotnet_lif/network.net", "mnist.net"]
ARGUMENTS = [
    {}, {"num_layers": 3}, {"num_layers": 99}, {"skip_layers": 1}, {"skip_layers": 2, "num_layers": 4}, {"input_message_bits": None},
    {"skip_layers": 1, "input_message_bits": 16}, {"skip_layers": 1, "input_shape": (40, 30, 3)}, {"reset_interval": 9, "reset_offset": 2},
    {"spike_exp": 4}, {"sparse_fc_layer": True},
]  # fmt: skip
NOUNS = (
    "filename", "num_layers", "skip_layers", "input_message_bits", "input_shape", "reset_interval", "reset_offset", "spike_exp",
    "sparse_fc_layer", "net_str",
)  # fmt: skip


def classes():
    from spikegate.deploy.lava.lava_import import lava_modules
    from spikegate.deploy.netx_network import Network

    return lava_modules(netx=True).netx.Network, Network


def facts(net) -> dict:
    """What a script can ask of a network before it runs."""
    layers = [(la.shape, la.out.shape, la.input_message_bits, la.output_message_bits) for la in net.layers]
    return {
        **{noun: getattr(net, noun) for noun in NOUNS}, "str": str(net), "len": len(net), "inp": net.inp.shape, "out": net.out.shape,
        "in": net.in_layer is net.layers[0], "last": net.out_layer is net.layers[-1], "bits": net.output_message_bits, "layers": layers,
        "config": (net.net_config["layer"][0]["type"], len(net.net_config["layer"])), "named": all(la.name for la in net.layers),
    }  # fmt: skip


def test_the_constructor_is_stocks():
    stock, ours = (inspect.signature(c.__init__).parameters for c in classes())
    assert [(p.name, p.default) for p in stock.values()] == [(p.name, p.default) for p in ours.values()]


@shipped
@pytest.mark.filterwarnings("ignore:Reset is not supported")
@pytest.mark.parametrize("file", FILES)
def test_every_argument_leaves_the_same_nouns_as_stock(file):
    stock, ours = classes()
    for arguments in ARGUMENTS:
        if file == "mnist.net":  # stock gives its last layer, which has no neurons, an integrator; ours sends the sums
            arguments = arguments | {"num_layers": min(arguments.get("num_layers", 3), 3)}
            if arguments.get("skip_layers") == 2:
                continue  # stock leaves the shape of the skipped input layer, which nothing reads
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = facts(stock(str(HERE / file), **arguments))
        assert facts(ours(str(HERE / file), **arguments)) == theirs, arguments


def run(net, steps: int, sources: dict | None = None) -> list[np.ndarray]:
    """Outputs of all layers [*shape, steps] of a drop-in network in Lava; `sources` maps ports to frames."""
    from spikegate.deploy.lava.lava_import import lava_modules

    lava = lava_modules()
    for port, frames in (sources or {}).items():
        lava.source.RingBuffer(data=frames).s_out.connect(port)
    sinks = [lava.sink.RingBuffer(shape=layer.out.shape, buffer=steps) for layer in net.layers]
    for sink, layer in zip(sinks, net.layers):
        layer.out.connect(sink.a_in)
    try:
        net.run(condition=lava.RunSteps(steps), run_cfg=lava.Loihi2SimCfg(select_tag="fixed_pt"))
        return [sink.data.get() for sink in sinks]
    finally:
        net.stop()


@shipped
def test_lava_dls_own_tests_pass_with_the_import_changed():
    """Its tests of the tiny net, of pilotnet_sdnn and of ntidigits, at every layer, here with the `average` that stock refuses."""
    ours = classes()[1]
    net = ours(str(HERE / "tiny.net"), reset_interval=17)  # in place of stock's test's processes that reset neuron.u and neuron.v
    assert net.in_layer.transform == {"weight": 36, "bias": 34}
    net.in_layer.neuron.bias_mant.init = truth("tinynet/input_bias.npy")
    found = run(net, 20, {net.inp: np.zeros((*net.inp.shape, 1), np.int32)})
    for k, file in enumerate(("input", "layer1", "output")):
        want = truth(f"tinynet/{file}.npy")[0].transpose(2, 1, 0, 3)[..., 1:]
        assert np.array_equal(found[k][..., k : k + 15], want), file

    net = ours(str(HERE / "gts/pilotnet_sdnn/network.net"))
    found = run(net, 9, {net.in_layer.neuron.a_in: truth("pilotnet_sdnn/input.npy")})
    assert np.array_equal(found[-1], truth("pilotnet_sdnn/output.npy"))
    net, steps = ours(str(HERE / "gts/ntidigits/ntidigits.net")), 300
    found = run(net, steps, {net.inp: truth("ntidigits/input.npy")[:, :steps]})
    want = truth("ntidigits/output.npy")[:, 1:steps]  # the file begins with an empty step; stock's test looks at its last step alone
    assert want.sum() > 5000 and np.array_equal(found[-2][:, :-1], want)
    assert np.array_equal(found[-1][:, 1:], found[-2].reshape(11, 22, steps).sum(1)[:, :-1])


def test_skip_layers_may_be_none_and_a_chain_may_start_at_a_dense_layer(tmp_path):
    chain = next(c for c in (Chain(s, "cuba", stock=True) for s in range(99)) if len(c.shape) == 1 and len(c.flat) == 2)
    chain.export(tmp_path / "chain.net")
    assert len(Pipeline(tmp_path / "chain.net", skip_layers=None).layers) == 2
    second = Pipeline(tmp_path / "chain.net", skip_layers=2)
    assert second.graph.input_shape == (chain.blocks[0].neuron.shape[0],) and len(second.layers) == 1


def test_a_refused_file_is_an_error_without_noise(tmp_path):
    (tmp_path / "text.net").write_text("hello")
    with h5py.File(tmp_path / "odd.net", "w") as f:
        f.create_dataset("layer/0/type", (1,), "S10", [b"residual"])
        f.create_group("layer/1")
    said = {"absent.net": "no such file", "text.net": "not a readable NetX", "odd.net": "layer/1: is missing, or has no type"}
    for name, words in said.items():
        with pytest.raises(DeployError, match=words):
            Pipeline(tmp_path / name)
    script = "from spikegate.deploy.netx_network import Network\ntry:\n    Network('absent.net')\nexcept Exception as e:\n    print(e)"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "no such file" in done.stdout and "Traceback" not in done.stderr
