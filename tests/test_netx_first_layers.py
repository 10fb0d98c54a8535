"""Files without an input layer, with SLAYER's shift between layers, with images of floats: what no field of a file states."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from spikegate.deploy.netx_input import pixels, unit_of
from spikegate.deploy.netx_run import as_slayer_shows, prepared
from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError
from spikegate.neurons.cuba import Strict
from tests.slayer_chains import WANTS, Chain

EACH = [(family, want) for family, wants in WANTS.items() for want in wants]


@pytest.fixture(autouse=True)
def wrapping(monkeypatch):
    monkeypatch.setattr(Strict, "raises", False)


def array(chain: Chain) -> np.ndarray:
    """The chain's input as users hold it: [samples, T, channels, height, width] or [samples, T, neurons]."""
    return np.moveaxis(np.round(chain.x.numpy() * chain.graded), -1, 1).astype(np.int32)


def last_of(chain: Chain, path, delay_shift: bool = False) -> np.ndarray:
    """Our output of the chain's last layer."""
    chain.export(path)
    graph, x = prepared(path, array(chain), delay_shift)
    last = list(graph.ops)[-1]
    record = integer.run(graph, x, spikes=[last])
    return (as_slayer_shows(record, graph, last) if delay_shift else record).spikes[last]


@pytest.mark.parametrize("family, want", EACH)
def test_every_first_layer_is_read_without_an_input_layer(family, want, tmp_path):
    chain = Chain(len(want), family, want=want, stated=False)
    want = chain.scaled(chain.outputs[-1], chain.computing[-1])
    assert np.array_equal(last_of(chain, tmp_path / "any.net").reshape(want.shape), want)


@pytest.mark.parametrize("family, want", EACH)
def test_slayers_shift_between_layers_is_offered(family, want, tmp_path):
    """`delay_shift=True`, SLAYER's default: a layer integrates its bias while its input is still under way."""
    chain = Chain(len(want), family, want=want, shift=True)
    shown = chain.scaled(chain.outputs[-1], chain.computing[-1])
    assert np.array_equal(last_of(chain, tmp_path / "any.net", True).reshape(shown.shape), shown)


def test_the_shift_changes_the_output():
    a, b = (Chain(4, "cuba", want="conv", shift=shift).outputs[0] for shift in (True, False))
    assert b.any() and np.array_equal(a[..., 1:], b[..., :-1]) and not np.array_equal(a, b)


@pytest.mark.parametrize("family", ["cuba", "alif", "sigma_delta"])
def test_an_image_of_floats_is_rounded_as_slayer_rounds_it(family, tmp_path):
    chain = next(c for c in (Chain(s, family, want="input conv") for s in range(99)) if "recurrent" not in c.flat)
    chain.export(tmp_path / "any.net")
    image = torch.rand(chain.x.shape) * 6 - 2  # beyond the range to which SLAYER clamps, too
    with torch.no_grad():
        y = image
        for block in chain.blocks:
            y = block(y)
    want = chain.scaled(y.numpy(), chain.computing[-1])
    graph, x = prepared(tmp_path / "any.net", np.moveaxis(image.numpy().astype(np.float64), -1, 1))
    last = list(graph.ops)[-1]
    assert np.array_equal(integer.run(graph, x, spikes=[last]).spikes[last].reshape(want.shape), want)


def test_pixels_are_even_and_halves_go_to_the_even_neighbour():
    assert pixels(np.array([0.0, 1 / 64, 3 / 64, 5 / 64, -1 / 64, 9.0, -9.0])).tolist() == [0, 0, 4, 4, 0, 254, -256]


def test_the_unit_of_the_input_is_said_and_what_is_odd_about_it(tmp_path):
    chain = Chain(3, "sigma_delta", want="input conv")
    chain.export(tmp_path / "any.net")
    graph, x = prepared(tmp_path / "any.net", array(chain))
    assert unit_of(graph, x).ones == 64 and not unit_of(graph, x).notes
    assert "odd" in unit_of(graph, x + 1).notes[0]
    chain = Chain(4, "sigma_delta", want="dense")
    chain.export(tmp_path / "any.net")
    graph, x = prepared(tmp_path / "any.net", array(chain))
    assert unit_of(graph, x).ones == 4096 and not unit_of(graph, x).notes
    assert "1/4096" in unit_of(graph, np.minimum(x, 1)).notes[0]


def test_fractions_are_for_input_blocks_only(tmp_path):
    Chain(4, "cuba", want="dense").export(tmp_path / "any.net")
    with pytest.raises(DeployError, match="fractions"):
        prepared(tmp_path / "any.net", np.full((4, 3), 0.5))


def strided(path, **fields) -> None:
    """A file that begins with a convolution of stride 2, so that several maps give the stated one."""
    with h5py.File(path, "w") as f:
        f["layer/0/weight"] = np.ones((2, 3, 2, 2), int) * 40
        named = {"type": "conv", "shape": [2, 3, 4], "stride": [2, 2], "neuron/type": "CUBA", "neuron/iDecay": 4096, "neuron/vDecay": 4096,
                 "neuron/vThMant": 30}
        for key, value in {**named, **fields}.items():
            f[f"layer/0/{key}"] = value


@pytest.mark.parametrize("map_, fits", [((3, 6, 8), True), ((3, 7, 9), True), ((3, 8, 8), False), ((2, 6, 8), False)])
def test_where_several_maps_fit_the_array_says_which(map_, fits, tmp_path):
    strided(tmp_path / "any.net")
    x = np.ones((2, 4, *map_), np.int32)
    if fits:
        graph, y = prepared(tmp_path / "any.net", x)
        assert graph.input_shape == (map_[1] * map_[2], 3) and y.shape == (2, 4, map_[1] * map_[2], 3)
        assert read_graph(tmp_path / "any.net", input_shape=map_).input_shape == graph.input_shape
    else:
        with pytest.raises(DeployError, match="the first layer takes 3 channels"):
            prepared(tmp_path / "any.net", x)


def test_where_nothing_says_the_map_the_hint_names_what_can(tmp_path):
    strided(tmp_path / "any.net")
    for shape in (None, (4, 48, 3)):
        with pytest.raises(DeployError, match="several sizes fit") as e:
            read_graph(tmp_path / "any.net", seen=shape)
        assert "channels, height, width" in str(e.value)


def test_a_layer_on_maps_after_a_vector_is_refused_for_what_it_is(tmp_path):
    chain = next(c for c in (Chain(s, "cuba", want="conv", stated=False) for s in range(99)) if type(c.blocks[-1]).__name__ == "Dense")
    chain.export(tmp_path / "any.net")
    with h5py.File(tmp_path / "any.net", "a") as f:
        f.copy("layer/0", f"layer/{len(f['layer'])}")
    with pytest.raises(DeployError, match="gets a vector"):
        read_graph(tmp_path / "any.net", seen=array(chain).shape)
