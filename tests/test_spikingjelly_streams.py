"""Streams that begin with a current of the host, matrices across tokens, signals side by side; what the host sends, and its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional

from spikegate.convert.spikingjelly.hosting import RawPixels, add_replays, host_map, side_by_side
from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.plan import IMAGE, Synapses
from spikegate.convert.spikingjelly.scaling import diffused
from spikegate.engine import integer
from spikegate.formats.host import Host
from spikegate.graph.ir import INPUT, DeployError, Graph, Payload
from tests.foreign_import import both, pictures, same_in_torch
from tests.foreign_models import lif, settle


def steps(x: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
    """Layers without state on [T, B, ...]."""
    y = x.flatten(0, 1)
    for layer in layers:
        y = layer(y)
    return y.unflatten(0, x.shape[:2])


class Rooted(nn.Module):
    """Membrane shortcuts from the stem on: its currents are the stream's first, no neurons between (MS-ResNet, Spike-driven Transformer).

    `end`: class scores from neurons on the stream's mean ("neurons"), or from the stream itself ("stream").
    """

    def __init__(self, end: str, stem_groups: int = 1) -> None:
        super().__init__()
        self.end = end
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1, groups=stem_groups, bias=False), nn.BatchNorm2d(8)
        for n in (1, 2):
            setattr(self, f"into{n}", lif(v_threshold=1.0 / n))
            setattr(self, f"conv{n}", nn.Conv2d(8, 8, 3, padding=1, bias=False))
            setattr(self, f"norm{n}", nn.BatchNorm2d(8))
        self.last, self.head = lif(v_threshold=0.2), nn.Linear(8, 10)

    def forward(self, x):
        x = steps(x.unsqueeze(0).repeat(4, 1, 1, 1, 1), self.stem, self.norm)
        for n in (1, 2):
            x = x + steps(getattr(self, f"into{n}")(x), getattr(self, f"conv{n}"), getattr(self, f"norm{n}"))
        x = x.flatten(3).mean(3)
        return self.head(self.last(x) if self.end == "neurons" else x).mean(0)


@pytest.mark.parametrize("end", ["neurons", "stream"])
def test_a_stream_may_begin_with_the_stems_currents(digits, end):
    images = pictures(digits, 16)
    torch.manual_seed(4)
    model = settle(Rooted(end), 4, images)
    _, embedded, rows, graph = both(model, images)
    assert graph.ops["into1"].kind == "lif" and graph.ops["into2"].kind == "membrane"
    held = "host.stem.replay"
    assert all(held in [e.source for e in graph.sources(n)["x"]] for n in ("into1", "into2"))
    assert abs(graph.ops["into1"].neuron.vth - 2 * graph.ops["into2"].neuron.vth) <= 1  # thresholds 1 and 1/2 at one scale
    assert min(row.alone for row in rows[:2]) > 0.99 and rows[-1].alone > 0.96 and all(row.float_rate > 0.01 for row in rows)
    if end == "neurons":
        assert graph.ops["last"].kind == "membrane" and graph.ops["last"].out_shape == (1, 8)
    same_in_torch(graph, embedded)
    functional.reset_net(model)
    with torch.no_grad():
        wanted = model(images).numpy()
    assert np.corrcoef(integer.run(graph, embedded).logits.ravel(), wanted.ravel())[0, 1] > (0.98 if end == "stream" else 0.9)


class Summed(nn.Module):
    """Sums of spikes (SEW) behind a convolution whose currents join the stem's in a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(1, 8, 3, padding=1), lif(v_threshold=0.2)
        self.conv, self.two = nn.Conv2d(8, 8, 1), lif(v_threshold=0.2)
        self.join, self.last, self.head = nn.Conv2d(8, 8, 3, padding=1), lif(v_threshold=0.3), nn.Linear(8, 10)

    def forward(self, x):
        start = steps(x.unsqueeze(0).repeat(4, 1, 1, 1, 1), self.stem)
        y = self.one(start)
        y = y + self.two(steps(y, self.conv))
        return self.head(self.last(start + steps(y, self.join)).flatten(3).mean(3)).mean(0)


def test_sums_of_spikes_join_a_stream_source_by_source(digits):
    images = pictures(digits, 8)
    torch.manual_seed(1)
    _, embedded, rows, graph = both(Summed().eval(), images)
    assert graph.only("current") == ["join", "join.two"] and not graph.ops["join.two"].bias.any()
    assert np.array_equal(graph.ops["join"].weight, graph.ops["join.two"].weight)
    assert min(row.alone for row in rows) > 0.99 and all(row.float_rate > 0.01 for row in rows)
    same_in_torch(graph, embedded)


class TwoStems(nn.Module):
    """Two convolutions of the image, a finer and a coarser one, each with neurons of its own."""

    def __init__(self, padding: int = 1) -> None:
        super().__init__()
        self.a, self.one = nn.Conv2d(1, 4, 3, 1, padding), lif(v_threshold=0.3)
        self.b, self.two = nn.Conv2d(1, 6, 2, 2), lif(v_threshold=0.3)
        self.down, self.last, self.head = nn.Conv2d(4, 6, 2, 2), lif(v_threshold=0.3), nn.Linear(6 * 16, 10)
        self.across = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(3, 1, 1, 1, 1)
        y = steps(self.one(steps(x, self.a)), self.down) + steps(self.two(steps(x, self.b)), self.across)
        return self.head(self.last(y).flatten(2)).mean(0)


def test_the_image_may_enter_at_two_places(digits):
    images = pictures(digits, 8)
    torch.manual_seed(3)
    model = TwoStems().eval()
    _, embedded, rows, graph = both(model, images)
    assert graph.input_shape == (64, 4 + 2) and graph.ops["host.b"].fold == 2  # 6 channels on a quarter of the places
    assert [row.alone > 0.999 for row in rows[:2]] == [True, True] and min(row.alone for row in rows) > 0.97
    same_in_torch(graph, embedded)


def test_maps_of_the_image_that_do_not_fold_are_refused_by_name():
    class Odd(TwoStems):
        def forward(self, x):
            x = x.unsqueeze(0).repeat(3, 1, 1, 1, 1)
            a, b = self.one(steps(x, self.a)), self.two(steps(x, self.b))
            return self.head(self.last(self.wide(a.flatten(2)) + self.narrow(b.flatten(2)))).mean(0)

    model = Odd(padding=2)  # 10 x 10 places, and 4 x 4
    model.wide, model.narrow = nn.Linear(400, 96), nn.Linear(96, 96)
    with pytest.raises(DeployError, match="b: the host's map of 4 x 4 positions does not fold onto the one of 10 x 10"):
        both(model.eval(), torch.rand(2, 1, 8, 8))


class Mixer(nn.Module):
    """Matrices across tokens, written in one of several ways."""

    def __init__(self, form: str, bias: bool = False) -> None:
        super().__init__()
        self.form, self.T = form, 3
        self.stem, self.fire = nn.Conv2d(1, 6, 3, 2, 1), lif(v_threshold=0.3)
        self.mix = nn.ModuleList(nn.Linear(16, 16, bias=bias) for _ in range(3))
        self.mixed, self.head = lif(v_threshold=0.3), nn.Linear(6, 10)

    def forward(self, x):
        x = self.fire(steps(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1), self.stem)).flatten(3)
        split, thirds = x.unflatten(2, (3, 2)), x.chunk(3, 2)
        if self.form == "stack":
            y = torch.stack([m(split[:, :, i]) for i, m in enumerate(self.mix)], 2).flatten(2, 3)
        elif self.form == "cat":
            y = torch.cat([m(thirds[i]) for i, m in enumerate(self.mix)], 2)
        elif self.form == "product":
            y = (split @ torch.stack([m.weight for m in self.mix]).transpose(-1, -2)).flatten(2, 3)
        elif self.form == "from the left":
            y = (torch.stack([m.weight for m in self.mix]) @ split.transpose(-1, -2)).transpose(-1, -2).flatten(2, 3)
        elif self.form == "one for all":
            y = self.mix[0](x) * 3.0
        elif self.form == "some":
            y = self.mix[0](split[:, :, 0])
        else:
            y = torch.cat([self.mix[0](split[:, :, 0]), self.mix[1](split[:, :, 0])], 2)
        return self.head(self.mixed(y).mean(-1)).mean(0)


@pytest.mark.parametrize("form", ["stack", "cat", "product", "from the left", "one for all"])
def test_tokens_are_mixed_head_by_head_or_at_once(digits, form):
    images = pictures(digits, 8)
    torch.manual_seed(2)
    model = Mixer(form).eval()
    _, embedded, rows, graph = both(model, images)
    op = graph.ops["mixed"]
    assert op.kind == "token_mix" and op.weight.shape == (1 if form == "one for all" else 3, 16, 16)
    assert [op.kind for op in graph.ops.values()] == ["inject", "lif", "token_mix", "readout", "exit_gate"]  # no parts for heads
    assert rows[-1].alone > 0.99 and 0.01 < rows[-1].float_rate < 0.9
    same_in_torch(graph, embedded)


@pytest.mark.parametrize("form, said", [("some", "neurons on 2 of 6 channels"), ("twice", "joins a channel twice")])
def test_other_mixing_is_refused_by_name(form, said):
    model = Mixer(form).eval()
    model.head = nn.Linear(2 if form == "some" else 4, 10)
    with pytest.raises(DeployError, match=said):
        read(model, torch.rand(2, 1, 8, 8), None)


def test_a_bias_for_each_token_is_refused():
    with pytest.raises(DeployError, match=r"mix\.0.*bias for each token"):
        read(Mixer("stack", bias=True).eval(), torch.rand(2, 1, 8, 8), None)


class Joined(nn.Module):
    """Two layers joined: their spikes, or their currents along another axis than the channels."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.stem, self.fire = what, nn.Conv2d(1, 4, 3, 2, 1), lif()
        self.a, self.b, self.one, self.two = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), lif(), lif()
        self.last, self.head = lif(), nn.Linear(8 * 16, 10)

    def forward(self, x):
        x = self.fire(steps(x.unsqueeze(0).repeat(2, 1, 1, 1, 1), self.stem))
        a, b = steps(x, self.a), steps(x, self.b)
        if self.what == "spikes":
            return self.head(torch.cat([self.one(a), self.two(b)], 2).flatten(2)).mean(0)
        return self.head(self.last(torch.cat([a, b], 2 if self.what == "channels" else 3)).flatten(2)).mean(0)


def test_currents_and_spikes_join_along_channels_and_nothing_else(digits):
    images = pictures(digits, 8)
    torch.manual_seed(5)
    _, embedded, rows, graph = both(Joined("channels").eval(), images)
    assert graph.ops["last"].kind == "membrane" and not graph.ops["last.branch2"].weight[:4].any() and rows[-1].alone > 0.98
    same_in_torch(graph, embedded)
    _, embedded, rows, graph = both(Joined("spikes").eval(), images)
    assert graph.ops["readout"].weight.shape == (10, 16, 4) and [op.kind for op in graph.ops.values()].count("current") == 1
    same_in_torch(graph, embedded)
    with pytest.raises(DeployError, match="does not hold all their channels"):
        read(Joined("places").eval(), torch.rand(2, 1, 8, 8), None)


def synapses(rng: np.random.Generator, out: int, kernel: int, stride: int, padding: int, grid: int = 8) -> Synapses:
    weight = rng.normal(size=(out, 2, kernel, kernel)) * (rng.random((out, 1, 1, 1)) < 0.7)
    return Synapses((IMAGE,), weight, rng.normal(size=out) * (rng.random(out) < 0.7), (grid, grid), stride, (padding, padding), name="s")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), parts=st.sampled_from([1, 2, 8]), coarse=st.sampled_from([2, 4, 8]), offset=st.booleans())
def test_what_the_host_sends_side_by_side_arrives_as_it_was(tmp_path_factory, seed, parts, coarse, offset):
    """Property: ONNX = NumPy, and after wiring and replay each map is there, its parts added up to the very same integers."""
    rng = np.random.default_rng(seed)
    pixels = RawPixels(255, np.full(2, 1 / 255), np.full(2, -0.4 if offset else 0.0))
    fine, rough = synapses(rng, 3, 3, 1, 1), synapses(rng, int(rng.integers(1, 7)), coarse, coarse, 0)
    whole, alone = host_map("rough", rough, 900.0, pixels), host_map("fine", fine, 300.0, pixels)
    host = side_by_side([host_map("rough", rough, 900.0, pixels, parts), alone])
    images = rng.integers(0, 256, (3, 2, 8, 8)).astype(np.uint8)
    path: Path = tmp_path_factory.mktemp("host") / "embedding.onnx"
    host.write(path, (2, 8, 8), 255)
    embedded = host.encode(images)
    assert np.array_equal(Host(path).encode(images), embedded)
    graph = Graph(timesteps=1, input_shape=host.shape, input_payload=Payload(host.low, host.high))
    names = add_replays(graph, host)
    graph.check()
    signals = {INPUT: embedded}
    for name, op in graph.ops.items():
        sources = tuple(signals[e.source] for e in graph.sources(name)["x"])
        signals[name] = op.step(op.state(3), {"x": sources}, np.ones(3, int))
    for label, single in (("rough", whole), ("fine", alone)):
        assert np.array_equal(signals[names[label]], side_by_side([single]).encode(images))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(0.05, 40))
def test_diffused_weights_are_even_near_and_right_in_sum(seed, size):
    weight = np.random.default_rng(seed).normal(size=(3, 16, 5)) * size
    whole = diffused(weight)
    assert not (whole & 1).any() and np.abs(whole - weight).max() <= 2
    assert np.abs((whole - weight).sum(1)).max() <= 2
