"""The networks that lava-dl's wheel ships for its tests, against their ground truth, at every layer that it has one for."""

from __future__ import annotations

import dataclasses
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from convert import engine
from convert.netx import read_graph
from convert.netx_pipeline import Pipeline
from convert.neuron import Strict


def find() -> Path | None:
    """Folder of the shipped networks: the wheel installs lava-dl's own tests beside it."""
    try:
        installed = distribution("lava-dl")
    except PackageNotFoundError:
        return None
    here = Path(str(installed.locate_file("tests/lava/lib/dl/netx")))
    return here if (here / "tiny.net").is_file() else None


HERE = find()
pytestmark = pytest.mark.skipif(HERE is None, reason="lava-dl 0.6.0's wheel files tests/lava/lib/dl/netx are not installed beside it")


def truth(name: str) -> np.ndarray:
    return np.load(HERE / "gts" / name)


def positions(x: np.ndarray) -> np.ndarray:
    """Stock's [width, height, channels, ...] as [positions, channels, ...]."""
    return x.transpose(1, 0, 2, *range(3, x.ndim)).reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def after_transform(graph):
    """The ground truth's inputs come after the input block's affine transform."""
    name = next(iter(graph.ops))
    graph.ops[name] = dataclasses.replace(graph.ops[name], weight=64, bias=0)
    return graph


def test_tiny_at_every_layer():
    graph = after_transform(read_graph(HERE / "tiny.net"))
    graph.timesteps = 15
    image = positions(truth("tinynet/input_bias.npy")).astype(np.int32)
    spikes = engine.run(graph, np.repeat(image[None, None], 15, 1), spikes=True).spikes
    for name, file in zip(graph.ops, ("input", "layer1", "output")):
        want = truth(f"tinynet/{file}.npy")[0].transpose(3, 2, 1, 0)  # [T, W, H, C]; one empty step in front
        want = want.transpose(0, 2, 1, 3).reshape(len(want), -1, want.shape[-1])[1:]
        assert want.any() and np.array_equal(spikes[name][0], want), name


def test_ntidigits_with_its_delays_and_its_average():
    graph = read_graph(HERE / "gts/ntidigits/ntidigits.net")
    graph.timesteps = 1200
    x = truth("ntidigits/input.npy").T[None, :1200, :, None].astype(np.int32)
    spikes = engine.run(graph, x, spikes=["layer4", "layer5"]).spikes
    want = truth("ntidigits/output.npy").T[4:1200]  # three layers and one empty step late
    assert want.sum() > 5000 and np.array_equal(spikes["layer4"][0, :1196], want)
    assert np.array_equal(spikes["layer5"][0], spikes["layer4"][0].reshape(1200, 11, 22).sum(2))


def test_pilotnet_sdnn_with_its_start_up_transient():
    net = Pipeline(HERE / "gts/pilotnet_sdnn/network.net")
    x = positions(truth("pilotnet_sdnn/input.npy"))[..., 0]
    got = [int(net.step(x)[-1][0]) for _ in range(9)]
    assert got == truth("pilotnet_sdnn/output.npy")[0].astype(int).tolist()


@pytest.mark.parametrize("bits", [0, 16])
def test_pilotnet_sdnn_square_sums_of_every_layer(bits):
    """As in stock, the skipped input layer says that its events are graded, whatever bits are given."""
    net = Pipeline(HERE / "gts/pilotnet_sdnn/square_network.net", skip_layers=1, input_message_bits=bits)
    x = positions(truth("pilotnet_sdnn/act0.npy")[:33, :33]).astype(np.int32)
    for step in range(20):
        net.step(x[..., step])
        for k, layer in enumerate(net.layers):
            want = positions(truth(f"pilotnet_sdnn/sigma{k + 1}_square.npy"))[..., step]
            assert np.array_equal(layer.state["sigma"][0], want), (k, step)


def test_pilotnet_lif_spikes_and_states_of_every_layer():
    """The first sample; the files go on with a reset of the hardware that stock NetX's CPU models do not have."""
    net = Pipeline(HERE / "gts/pilotnet_lif/network.net", reset_interval=16)
    image = positions(truth("pilotnet_lif/image.npy")).astype(np.int64)
    net.layers[0].bias = image
    files = ["conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2"]
    data = {f: [truth(f"pilotnet_lif/{f}{part}.npy") for part in ("", "-u")] for f in files}
    entering = positions(truth("pilotnet_lif/input-s.npy"))
    seen = 0
    for step in range(16):
        outs = net.step(np.zeros_like(image))
        assert np.array_equal(outs[0], entering[..., step])
        for k, f in enumerate(files, 1):
            spikes, u = ((positions(d) if d.ndim == 4 else d)[..., step] for d in data[f])
            assert np.array_equal(outs[k], spikes), (f, step)
            assert np.array_equal(net.layers[k].state["u"][0], u), (f, step)
            seen += int(spikes.sum())
    assert seen > 100_000


def test_mnist_and_its_last_layer_without_neurons(monkeypatch):
    """It sends the weighted sums themselves, as SLAYER's Affine does; stock NetX puts an integrator there that never fires."""
    monkeypatch.setattr(Strict, "raises", False)
    graph = read_graph(HERE / "mnist.net")
    assert [op.kind for op in graph.ops.values()].count("dense") == 1, "what could overflow in a long sample wraps as in Lava instead"
    graph.timesteps = 12
    x = np.random.default_rng(0).integers(0, 65, (2, 1, 784)).repeat(12, 1).astype(np.int32)
    spikes = engine.run(graph, x, spikes=True).spikes
    weight = graph.ops["layer3"].weight.astype(np.int64)
    assert spikes["layer2"].any() and np.array_equal(spikes["layer3"], spikes["layer2"].astype(np.int64) @ weight.T)
