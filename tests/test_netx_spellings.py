"""One net in every spelling of its fields that lava-dl 0.1 to 0.6 writes or reads: all give the same events."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Payload
from spikegate.neurons.cuba import Strict
from tests.slayer_chains import Chain
from tests.test_netx_stock import ours, through_lava

UNREAD = ("inFeatures", "outFeatures", "inChannels", "outChannels", "kernelSize")  # the weights say it
PAIRS = ("stride", "padding", "dilation")
SEEDS = range(36)


def put(group: h5py.Group, key: str, value) -> None:
    if key in group:
        del group[key]
    group[key] = value


def text(group: h5py.Group, key: str, rng: np.random.Generator, other: str | None = None) -> None:
    """The string as the exporter's array of one, as a plain string, or as bytes."""
    value = group[key][()]
    value = value[0] if isinstance(value, np.ndarray) else value
    value = (value.decode() if isinstance(value, bytes) else value) if other is None else other
    kinds = [value, np.bytes_(value), np.array([value.encode()], "S10" if len(value) <= 10 else "S16")]
    put(group, key, kinds[rng.integers(len(kinds))])


def respelled(path, rng: np.random.Generator, stock: bool = False) -> None:
    """Every field of every layer in a spelling drawn at random; `stock`: only those that stock NetX reads."""
    with h5py.File(path, "a") as f:
        for layer in f["layer"].values():
            kind = layer["type"][()][0].decode()
            recurrent = kind == "dense_rec" and not stock and rng.random() < 0.7
            text(layer, "type", rng, "recurrent" if recurrent else None)
            if recurrent and rng.random() < 0.7:
                layer.move("weight_rec", "recWeight")
            for key in UNREAD:
                if key in layer and rng.random() < 0.5:
                    del layer[key]
            for key in PAIRS:
                if key in layer and len(set(layer[key][()])) == 1 and rng.random() < 0.5:
                    put(layer, key, int(layer[key][()][0]))
            if "groups" in layer and not stock and rng.random() < 0.5:
                put(layer, "groups", np.array([int(layer["groups"][()])]))
            if kind in ("dense", "dense_rec") and rng.random() < 0.5 and layer["shape"].size == 1:
                put(layer, "shape", np.array([int(layer["shape"][()][0]), 1, 1]))
            _weights(layer, kind, rng, stock)
            if "bias" in layer and rng.random() < 0.5:
                put(layer, "bias", layer["bias"][()].astype(rng.choice(["f4", "f8", "i2", "i8"])))
            if "delay" in layer and len(set(layer["delay"][()])) == 1 and not stock:
                put(layer, "delay", float(layer["delay"][()][0]))
            if "neuron" in layer:
                _neuron(layer["neuron"], rng, stock)


def _weights(layer: h5py.Group, kind: str, rng: np.random.Generator, stock: bool) -> None:
    for key in ("weight", "weight_rec", "recWeight", "weight/real", "weight/imag"):
        if key not in layer or isinstance(layer[key], h5py.Group) or kind == "input":
            continue
        w = layer[key][()].astype(rng.choice(["f4", "f8", "i2", "i8"]))
        flat = kind in ("dense", "dense_rec") and layer["shape"].size == 1 and rng.random() < 0.5
        if flat:
            w = w.ravel()
        elif rng.random() < 0.4 and not (stock and kind == "dense"):
            w = w[..., None]
        put(layer, key, w)


def _neuron(group: h5py.Group, rng: np.random.Generator, stock: bool) -> None:
    if group["type"][()] == b"CUBA":
        text(group, "type", rng, str(rng.choice(["CUBA", "LOIHI"])))
    for key in ("refDelay", "gradedSpike", "activation"):
        if key in group and rng.random() < 0.4:
            del group[key]
    if stock:
        return  # its processes stop at any but plain integers
    for key in ("iDecay", "vDecay", "vThMant", "sinDecay", "cosDecay", "thDecay", "refDecay", "vThStep"):
        if key in group and group[key].shape == () and rng.random() < 0.5:
            put(group, key, np.array([int(group[key][()])]) if rng.random() < 0.5 else float(group[key][()]))


def events(path, chain: Chain):
    graph = read_graph(path, payload=Payload(-(1 << 20), 1 << 20) if chain.graded > 1 else Payload(0, 1), seen=chain.fed.shape)
    graph.timesteps = chain.timesteps
    return integer.run(graph, chain.fed, spikes=[list(graph.ops)[-1]])


@pytest.mark.parametrize("seed", SEEDS)
def test_every_spelling_gives_the_same_events(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(Strict, "raises", False)
    family = ("cuba", "cuba", "alif", "sigma_delta", "rf", "adrf")[seed % 6]
    chain = Chain(seed, family, want="recurrent" if family == "cuba" and seed % 12 == 0 else "")
    chain.export(tmp_path / "exported.net")
    chain.export(tmp_path / "other.net")
    respelled(tmp_path / "other.net", np.random.default_rng(seed))
    a, b = events(tmp_path / "exported.net", chain), events(tmp_path / "other.net", chain)
    assert np.array_equal(a.counts, b.counts) and np.array_equal(a.logits, b.logits)


@pytest.mark.lava
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed, want", [(0, "conv"), (1, "dense"), (3, "recurrent")])
def test_stock_reads_its_own_spellings_as_the_drop_in_does(seed, want, tmp_path, monkeypatch):
    from spikegate.deploy.lava.lava_import import lava_modules
    from spikegate.deploy.netx_network import Network

    monkeypatch.setattr(Strict, "raises", False)
    chain = Chain(seed, "cuba", stock=True, want=want)
    path = tmp_path / "any.net"
    chain.export(path)
    respelled(path, np.random.default_rng(seed), stock=True)
    frames = chain.x[0].numpy()
    frames = (frames.transpose(2, 1, 0, 3) if frames.ndim == 4 else frames).astype(np.int32)
    steps = frames.shape[-1] + len(chain.outputs)
    stock = through_lava(lava_modules(netx=True).netx.Network, path, frames, steps)
    mine = through_lava(Network, path, frames, steps)
    assert any(d.any() for d in stock)
    assert all(np.array_equal(ours(a), ours(b)) for a, b in zip(stock, mine))


def weighted(path, low: int, high: int) -> None:
    with h5py.File(path, "w") as f:
        for key, value in {"type": "dense", "shape": [1], "weight": [[low, high]], "neuron/type": "CUBA", "neuron/iDecay": 4096,
                           "neuron/vDecay": 4096, "neuron/vThMant": 254}.items():
            f[f"layer/0/{key}"] = value


def test_a_weight_of_255_as_lava_dl_before_0_4_wrote_it(tmp_path):
    """A synapse holds it where no weight is negative; stock NetX clips it otherwise, which is refused here."""
    weighted(tmp_path / "any.net", 0, 255)
    graph = read_graph(tmp_path / "any.net")
    x = np.array([[[0, 1]], [[1, 0]]], np.int32)
    assert integer.run(graph, x, spikes=True).spikes["layer0"].ravel().tolist() == [1, 0]
    weighted(tmp_path / "any.net", -2, 255)
    with pytest.raises(DeployError, match=r"weights span \[-2, 255\]") as e:
        read_graph(tmp_path / "any.net")
    assert "254" in str(e.value)
