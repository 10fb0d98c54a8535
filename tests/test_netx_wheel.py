"""The networks that lava-dl's wheel ships for its tests, against their ground truth, at every layer that it has one for."""

from __future__ import annotations

import dataclasses
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph
from spikegate.formats.netx.pipeline import Pipeline
from spikegate.neurons.cuba import Strict


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
    spikes = integer.run(graph, np.repeat(image[None, None], 15, 1), spikes=True).spikes
    for name, file in zip(graph.ops, ("input", "layer1", "output")):
        want = truth(f"tinynet/{file}.npy")[0].transpose(3, 2, 1, 0)  # [T, W, H, C]; one empty step in front
        want = want.transpose(0, 2, 1, 3).reshape(len(want), -1, want.shape[-1])[1:]
        assert want.any() and np.array_equal(spikes[name][0], want), name


def test_ntidigits_with_its_delays_and_its_average():
    graph = read_graph(HERE / "gts/ntidigits/ntidigits.net")
    graph.timesteps = 1200
    x = truth("ntidigits/input.npy").T[None, :1200, :, None].astype(np.int32)
    spikes = integer.run(graph, x, spikes=["layer4", "layer5"]).spikes
    want = truth("ntidigits/output.npy").T[4:1200]  # three layers and one empty step late
    assert want.sum() > 5000 and np.array_equal(spikes["layer4"][0, :1196], want)
    assert np.array_equal(spikes["layer5"][0], spikes["layer4"][0].reshape(1200, 11, 22).sum(2))


def test_pilotnet_sdnn_with_its_start_up_transient():
    net = Pipeline(HERE / "gts/pilotnet_sdnn/network.net")
    x = positions(truth("pilotnet_sdnn/input.npy"))[..., 0]
    got = [int(net.step(x)[-1][0]) for _ in range(9)]
    assert got == truth("pilotnet_sdnn/output.npy")[0].astype(int).tolist()


def test_pilotnet_sdnn_sums_of_its_first_layers():
    net = Pipeline(HERE / "gts/pilotnet_sdnn/network.net", num_layers=3, skip_layers=1)
    x = positions(truth("pilotnet_sdnn/act0.npy")).astype(np.int32)
    for step in range(20):
        net.step(x[..., step])
        for k in (0, 1):
            want = positions(truth(f"pilotnet_sdnn/sigma{k + 1}.npy"))[..., step]
            assert np.array_equal(net.layers[k].state["sigma"][0], want), (k, step)


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
    """The first sample; the files go on with a reset of the hardware that stock NetX's CPU models do not have.

    Where a neuron has just fired, the files hold 128 for its voltage, the chip's mark of a refractory timestep; models on CPU hold 0.
    fc-3's files are left out: they contradict those of fc-2 (its spikes times fc-3's weights give another current).
    """
    net = Pipeline(HERE / "gts/pilotnet_lif/network.net", reset_interval=16)
    image = positions(truth("pilotnet_lif/image.npy")).astype(np.int64)
    net.layers[0].bias = image
    files = ["conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2"]
    data = {f: [truth(f"pilotnet_lif/{f}{part}.npy") for part in ("", "-u", "-v")] for f in files}
    entering = positions(truth("pilotnet_lif/input-s.npy"))
    seen = 0
    for step in range(16):
        outs = net.step(np.zeros_like(image))
        assert np.array_equal(outs[0], entering[..., step])
        for k, f in enumerate(files, 1):
            spikes, u, v = ((positions(d) if d.ndim == 4 else d)[..., step] for d in data[f])
            assert np.array_equal(outs[k], spikes), (f, step)
            assert np.array_equal(net.layers[k].state["u"][0], u), (f, step)
            assert np.array_equal(np.where(spikes, 128, net.layers[k].state["v"][0]), v), (f, step)
            seen += int(spikes.sum())
    assert seen > 100_000


def test_mnist_and_its_last_layer_without_neurons(monkeypatch):
    """It sends the weighted sums themselves, as SLAYER's Affine does; stock NetX puts an integrator there that never fires."""
    monkeypatch.setattr(Strict, "raises", False)
    graph = read_graph(HERE / "mnist.net")
    assert [op.kind for op in graph.ops.values()].count("dense") == 1, "what could overflow in a long sample wraps as in Lava instead"
    graph.timesteps = 12
    x = np.random.default_rng(0).integers(0, 65, (2, 1, 784)).repeat(12, 1).astype(np.int32)
    spikes = integer.run(graph, x, spikes=True).spikes
    weight = graph.ops["layer3"].weight.astype(np.int64)
    assert spikes["layer2"].any() and np.array_equal(spikes["layer3"], spikes["layer2"].astype(np.int64) @ weight.T)


def chain(path: Path, entering: tuple[int, ...], kind: str, neuron: dict, **fields) -> Pipeline:
    """A file with one layer, as SLAYER writes it, in stock's timing."""
    with h5py.File(path, "w") as f:
        f.create_dataset("layer/0/type", (1,), "S10", [b"input"])
        f["layer/0/shape"] = np.array(entering)
        f.create_dataset("layer/1/type", (1,), "S10", [kind.encode()])
        for key, value in {**fields, **{f"neuron/{k}": v for k, v in neuron.items()}}.items():
            f[f"layer/1/{key}"] = value
    return Pipeline(path, input_message_bits=16 if neuron["type"] == "SDNN" else 0)


def as_torch(kernel: np.ndarray) -> np.ndarray:
    """Lava's kernels [out, x, y, in] as [out, in, rows, columns]; stock turns the file's by 180 degrees."""
    return kernel.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]


TINY = {"shape": np.array([24, 6, 6]), "inChannels": 3, "outChannels": 24, "stride": 2, "padding": 0, "dilation": 1, "groups": 1}


def test_the_convolution_block_in_spikes_and_currents(tmp_path):
    """The current is in the file before its six bits of shift."""
    neuron = {"type": "CUBA", "iDecay": 4096, "vDecay": 1024, "vThMant": 25}
    weight, bias = as_torch(truth("tinynet/layer1_kernel.npy")), truth("tinynet/layer1_bias.npy")
    net = chain(tmp_path / "conv.net", (3, 16, 16), "conv", neuron, weight=weight, bias=bias, **TINY)
    x, spikes, current = (truth(f"tinynet/{f}.npy")[0].transpose(3, 1, 2, 0) for f in ("input", "layer1", "current"))
    for step in range(15):
        net.step(x[1 + step].reshape(256, 3))
        if step == 0:  # stock's test clears the state that the bias alone has left by then
            net.layers[0].state["u"][...] = net.layers[0].state["v"][...] = 0
            continue
        assert np.array_equal(net.layers[0].state["u"][0], 64 * current[step].reshape(36, 24)), step
        assert np.array_equal(net.outs[0], spikes[step].reshape(36, 24)), step


def test_the_dense_block(tmp_path):
    neuron = {"type": "CUBA", "iDecay": 4096, "vDecay": 415, "vThMant": 6}
    weight, x, want = (truth(f"dense/{f}.npy") for f in ("weight", "in", "out"))
    net = chain(tmp_path / "dense.net", (200,), "dense", neuron, weight=weight, shape=np.array([256]))
    got = np.stack([net.step(x[:, t].astype(np.int32))[0] for t in range(2000)], 1)
    assert want.sum() > 1000 and np.array_equal(got, want)


def test_the_complex_dense_block_of_resonators(tmp_path):
    decay, angle = 1 - 0.05, 2 * np.pi / 11
    turn = {"sinDecay": int(decay * np.sin(angle) * 4096), "cosDecay": int(decay * np.cos(angle) * 4096)}
    x, want = truth("complex_dense/in.npy"), truth("complex_dense/out.npy")
    parts = {"weight/real": truth("complex_dense/weight_r.npy"), "weight/imag": truth("complex_dense/weight_img.npy")}
    net = chain(tmp_path / "rf.net", (200,), "dense", {"type": "RF_PHASE", "vThMant": 25, **turn}, shape=np.array([256]), **parts)
    got = np.stack([net.step(x[:, t].astype(np.int32))[0] for t in range(2000)], 1)
    assert want.sum() > 40_000 and np.array_equal(got, want)


def test_the_sigma_delta_blocks(tmp_path):
    """Input (delta), convolution (sigma-delta; the file holds its first step) and dense (sigma)."""
    path = tmp_path / "delta.net"
    with h5py.File(path, "w") as f:
        f.create_dataset("layer/0/type", (1,), "S10", [b"input"])
        for key, value in {"shape": np.array([3, 16, 16]), "neuron/type": "SDNN", "neuron/vThMant": 20}.items():
            f[f"layer/0/{key}"] = value
    entering = truth("tinynet_sdnn/input.npy")
    wave = truth("tinynet_sdnn/input_bias.npy")[..., None].repeat(15, 3) * np.sin(2 * np.pi * np.arange(15) / 15)
    net = Pipeline(path)
    for step in range(15):
        assert np.array_equal(net.step(positions(wave.astype(int))[..., step])[0], positions(entering)[..., step]), step

    weight, bias = as_torch(truth("tinynet_sdnn/layer1_kernel.npy")), truth("tinynet_sdnn/layer1_bias.npy")
    neuron, sent = {"type": "SDNN", "vThMant": 20}, truth("tinynet_sdnn/layer1.npy")
    net = chain(tmp_path / "conv.net", (3, 16, 16), "conv", neuron, weight=weight, bias=bias, **TINY)
    assert np.array_equal(net.step(positions(entering)[..., 0])[0], positions(sent)[..., 0]) and sent[..., 0].any()

    neuron = {"type": "SDNN", "vThMant": 20, "sigma_output": True}
    weight, want = truth("tinynet_sdnn/layer2_weight.npy"), truth("tinynet_sdnn/layer2.npy")
    net = chain(tmp_path / "sigma.net", (864,), "dense", neuron, weight=weight, shape=np.array([100]))
    x = (sent != 0).reshape(-1, 16).astype(np.int32)  # stock's test gives the block no message bits: an event counts as a spike
    got = np.stack([net.step(x[:, t])[0] for t in range(16)], 1)
    assert want.any() and np.array_equal(got, want)
