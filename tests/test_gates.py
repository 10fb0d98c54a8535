"""Gates, pooling and token mixing: the papers' formulas, the neurons that the gates stand for, their torch twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from spikegate.graph.ir import DeployError, Graph, Payload
from spikegate.neurons.cuba import Cuba
from spikegate.ops.max_pool import MaxPool
from spikegate.ops.multiscale_gate import MultiscaleGate
from spikegate.ops.qk_channel_gate import QkChannelGate
from spikegate.ops.qk_token_gate import QkTokenGate
from spikegate.ops.sdsa import Sdsa
from spikegate.ops.token_mix import TokenMix
from spikegate.train.layers.base import Moment
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.max_pool import MaxPool as PoolTwin
from spikegate.train.layers.multiscale_gate import MultiscaleAttention
from spikegate.train.layers.qk_channel_gate import ChannelAttention
from spikegate.train.layers.qk_token_gate import TokenAttention
from spikegate.train.layers.sdsa import SpikeDrivenAttention
from spikegate.train.layers.token_mix import TokenMixer

torch.set_num_threads(1)
NOW = np.ones(1, np.int64)
GATES = {
    "token": lambda n, c, h: (QkTokenGate(n, c, h), TokenAttention(n, c, h)),
    "channel": lambda n, c, h: (QkChannelGate(n, c), ChannelAttention(n, c)),
    "multiscale-1": lambda n, c, h: (MultiscaleGate(n, c, h, 1), MultiscaleAttention(n, c, h, 1)),
    "multiscale-2": lambda n, c, h: (MultiscaleGate(n, c, h, 2), MultiscaleAttention(n, c, h, 2)),
    "sdsa": lambda n, c, h: (Sdsa(n, c), SpikeDrivenAttention(n, c)),
}


def formula(name: str, heads: int, maps: dict[str, np.ndarray]) -> np.ndarray:
    """The published formula of one sample, by loops over tokens and channels."""
    q, k = maps["q"], maps["k"]
    tokens, channels = q.shape
    width, out = channels // heads, np.zeros_like(q)
    for j in range(tokens):
        for c in range(channels):
            head = range(c // width * width, (c // width + 1) * width)
            if name == "token":
                out[j, c] = k[j, c] and any(q[j, i] for i in head)
            elif name == "channel":
                out[j, c] = k[j, c] and any(q[m, c] for m in range(tokens))
            elif name == "sdsa":
                out[j, c] = q[j, c] and any(k[m, c] and maps["v"][m, c] for m in range(tokens))
            else:
                out[j, c] = k[j, c] and sum(q[j, i] + maps["p"][j, i] for i in head) >= int(name[-1])
    return out


def draw_bits(data, shape) -> np.ndarray:
    seed, rate = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from([0.05, 0.2, 0.6]))
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.int32)


@pytest.mark.parametrize("name", GATES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_gate_equals_its_formula_and_its_twin(name, data):
    tokens, heads, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    op, twin = GATES[name](tokens, heads * width, heads)
    maps = {s: draw_bits(data, (2, tokens, heads * width)) for s in op.maps}
    out = op.step({}, maps, NOW)
    for row in range(2):
        assert np.array_equal(out[row], formula(name, heads, {s: m[row] for s, m in maps.items()}))
    credit = draw_bits(data, (2, tokens))
    gated = op.step({}, {**maps, "alive": credit}, NOW)
    living = {s: m * credit[..., None] for s, m in maps.items()}
    assert np.array_equal(gated, op.step({}, living, NOW)), "a dead token's bits decide something"
    for inputs, expected in ((maps, out), ({**maps, "alive": credit}, gated)):
        for phase in ("float", "deployed"):
            twin.phase = phase
            ours = twin({s: torch.tensor(v, dtype=torch.float32)[None] for s, v in inputs.items()}, Moment(1, 1, 1))
            assert np.array_equal(ours[0].numpy(), expected)
    assert type(twin.to_op()) is type(op) and twin.to_op().__dict__ == op.__dict__


def leaky(counts: np.ndarray, theta: int) -> np.ndarray:
    """Neurons of tau 2 with reset to 0 on counts [T, ...], in exact integers: v <- v / 2 + n, fires at v >= theta."""
    scale, v, out = 1 << len(counts), np.zeros(counts.shape[1:], np.int64), np.zeros_like(counts)
    for t, n in enumerate(counts):
        assert not (v & 1).any()
        v = v // 2 + n * scale
        out[t] = v >= theta * scale
        v[out[t] > 0] = 0
    return out


def every_sequence(bits: int, steps: int) -> np.ndarray:
    """All sequences of `steps` words of `bits` bits, int32 [steps, 2^(bits * steps), bits]."""
    words = np.arange(1 << bits * steps)
    return np.stack([(words[:, None] >> (t * bits + np.arange(bits))) & 1 for t in range(steps)]).astype(np.int32)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("name", GATES)
def test_gate_is_the_published_neuron_for_every_input(name, steps):
    """Exhaustively: OR and [n >= 2] gates equal the leaky neurons that the papers write, so they need no state."""
    theta = 2 if name == "multiscale-2" else 1
    bits = 3 if name in ("token", "channel") else 4
    x = every_sequence(bits, steps)
    ones = np.ones_like
    if name == "token":
        op, counts, maps = QkTokenGate(1, 3, 1), x.sum(2), [{"q": b[:, None], "k": ones(b[:, None])} for b in x]
    elif name == "channel":
        op, counts, maps = QkChannelGate(3, 1), x.sum(2), [{"q": b[..., None], "k": ones(b[..., None])} for b in x]
    elif name == "sdsa":
        op, counts = Sdsa(2, 1), (x[..., :2] * x[..., 2:]).sum(2)
        maps = [{"q": ones(b[:, :2, None]), "k": b[:, :2, None], "v": b[:, 2:, None]} for b in x]
    else:
        op, counts = MultiscaleGate(1, 2, 1, theta), x.sum(2)
        maps = [{"q": b[:, None, :2], "p": b[:, None, 2:], "k": ones(b[:, None, :2])} for b in x]
    assert not list(op.problems({}, {}))
    expected = leaky(counts.astype(np.int64), theta)
    assert 0 < expected.mean() < 1
    for inputs, fired in zip(maps, expected):
        out = op.step({}, inputs, NOW)
        assert (out == fired.reshape(-1, 1, 1)).all()


def test_a_threshold_with_memory_is_refused():
    """Two counts twice reach 3 through the leak, so [n >= 3] is not the neuron; nor may a gate take graded values."""
    assert leaky(np.array([[2], [2]], np.int64), 3)[1, 0] == 1
    assert any("memoryless" in what for what, _ in MultiscaleGate(1, 4, 1, 3).problems({}, {}))
    graded = {"q": [Payload(0, 1)], "k": [Payload(0, 2)]}
    assert [what for what, _ in QkTokenGate(2, 4, 2).problems({}, graded)] == ["k is not binary"]


@pytest.mark.parametrize("name", GATES)
def test_gradient_passes_each_gate_open_or_closed(name):
    """Every map's layer learns through the gate; a closed gate still tells its queries to open it."""
    torch.manual_seed(1)
    op, twin = GATES[name](9, 8, 2)
    layers = {s: SpikingConv(4, 8, 1, (3, 3)) for s in op.maps}
    x = (torch.rand(4, 6, 9, 4) < 0.5).float()
    maps = {}
    for s, layer in layers.items():
        layer.name = s
        layer.prepare()
        maps[s] = layer({"x": [x]}, Moment(1, 4, 4))
    out = twin(maps, Moment(1, 4, 4))
    assert 0 < out.detach().mean() < 1
    (out * torch.randn(out.shape)).sum().backward()
    for s, layer in layers.items():
        assert layer.block.synapse.weight.grad.abs().sum() > 0, s
    opened = [s for s in op.maps if s != ("q" if name == "sdsa" else "k")]
    carried = next(s for s in op.maps if s not in opened)
    silent = {s: torch.zeros(1, 1, 9, 8, requires_grad=True) for s in op.maps}
    silent[carried] = torch.ones(1, 1, 9, 8)
    if name == "sdsa":
        silent["v"] = torch.ones(1, 1, 9, 8)
        opened = ["k"]
    twin(silent, Moment(1, 1, 1)).sum().backward()
    assert all((silent[s].grad > 0).all() for s in opened)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_max_pool_is_torchs_on_bits(data):
    grid = data.draw(st.integers(2, 7)), data.draw(st.integers(2, 7))
    kernel, stride, padding = data.draw(st.sampled_from([(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 1, 0), (2, 2, 1)]))
    op, twin = MaxPool(grid, 3, kernel, stride, padding), PoolTwin(3, kernel, grid, stride, padding)
    x = draw_bits(data, (2, grid[0] * grid[1], 3))
    image = torch.tensor(x, dtype=torch.float32).reshape(2, *grid, 3).permute(0, 3, 1, 2)
    expected = F.max_pool2d(image, kernel, stride, padding)
    assert op.out_grid == tuple(expected.shape[2:]) == twin.out_grid
    expected = expected.flatten(2).transpose(1, 2).numpy()
    assert np.array_equal(op.step({}, {"x": x}, NOW), expected)
    ours = twin({"x": [torch.tensor(x, dtype=torch.float32)[None]]}, Moment(1, 1, 1))
    assert np.array_equal(ours[0].numpy(), expected)
    assert twin.to_op().__dict__ == MaxPool(grid, 3, kernel, stride, padding).__dict__


def test_max_pool_counts_only_windows_that_exist():
    corner = np.zeros((1, 16, 1), np.int32)
    corner[0, 0] = 1
    middle = np.zeros((1, 16, 1), np.int32)
    middle[0, 5] = 1
    op = MaxPool((4, 4), 1, 3, 1, 1)
    assert [int(op.events({"x": x}, op.step({}, {"x": x}, NOW), NOW)["synop"][0]) for x in (corner, middle)] == [4, 9]


def test_max_pool_refuses_a_residual_stream():
    op = MaxPool((4, 4), 1, 2, 2, 0)
    assert any("pool each source" in hint for _, hint in op.problems({"x": [(16, 1)]}, {"x": [Payload(0, 2)]}))
    graph = Graph(input_shape=(16, 1))
    graph.add("a", MaxPool((4, 4), 1, 3, 1, 1), x="input")
    graph.add("pool", op, x=["a", "input"])
    with pytest.raises(DeployError, match="2 sources"):
        graph.check()


def test_a_silent_window_is_told_to_spike():
    layer = SpikingConv(2, 4, 3, (4, 4))
    layer.name, pool = "conv", PoolTwin(4, 2, (4, 4), 2, 0)
    layer.prepare()
    spikes = layer({"x": [(torch.rand(3, 5, 16, 2) < 0.5).float()]}, Moment(1, 3, 3))
    pool({"x": [spikes]}, Moment(1, 3, 3)).square().sum().backward()
    assert layer.block.synapse.weight.grad.abs().sum() > 0
    silent = torch.zeros(1, 1, 16, 4, requires_grad=True)
    pool({"x": [silent]}, Moment(1, 1, 1)).sum().backward()
    assert (silent.grad > 0).all()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_token_mix_equals_its_formula(data):
    """Sums by loops, then the integer neuron, token by token; dead tokens neither send, nor receive, nor leak."""
    tokens, heads, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    op = TokenMix(weight=rng.integers(-40, 60, (heads, tokens, tokens)) * 2, channels=heads * width, neuron=Cuba(4096, 2048, 50))
    state, v = op.state(1), np.zeros((tokens, heads * width), np.int64)
    credit = rng.integers(0, 4, (1, tokens)).astype(np.int32) if data.draw(st.booleans()) else None
    for t in range(3):
        x = rng.integers(0, 3, (1, tokens, heads * width)).astype(np.int32)
        inputs = {"x": (x,)} if credit is None else {"x": (x,), "alive": np.maximum(credit - t, 0)}
        alive = np.ones(tokens, bool) if credit is None else inputs["alive"][0] > 0
        expected = np.zeros((tokens, heads * width), np.int32)
        for n in np.flatnonzero(alive):
            for c in range(heads * width):
                drive = sum(int(op.weight[c // width, n, m]) * int(x[0, m, c]) for m in np.flatnonzero(alive))
                v[n, c] = int(v[n, c] / 2) + (drive << 6)
                if v[n, c] > 50 << 6:
                    expected[n, c], v[n, c] = 1, 0
        assert np.array_equal(op.step(state, inputs, NOW)[0], expected)


def test_token_mixer_equals_its_op_and_learns():
    torch.manual_seed(3)
    layer = TokenMixer(16, 12, 3)
    layer.name = "mix"
    layer.log_gain.data.normal_(std=0.3)
    credit = torch.randint(0, 5, (5, 16)).float()
    alive = torch.stack([(credit - t).clamp(min=0) for t in range(4)])
    x = (torch.rand(4, 5, 16, 12) < 0.3).float()
    for phase in ("float", "deployed"):
        layer.phase = phase
        layer.zero_grad()
        layer.prepare()
        out = layer({"x": [x, x], "alive": alive}, Moment(1, 4, 4))
        assert 0.02 < out.detach().mean() < 0.5
        out.square().sum().backward()
        assert layer.synapse.weight.grad.abs().sum() > 0 and (layer.log_gain.grad.abs() > 0).all()
    op = layer.to_op()
    assert not list(op.problems({"x": [(16, 12)] * 2}, {"x": [Payload(0, 1)] * 2}))
    state = op.state(5)
    for t in range(4):
        inputs = {"x": (x[t].int().numpy(),) * 2, "alive": alive[t].int().numpy()}
        assert np.array_equal(op.step(state, inputs, NOW), out[t].detach().numpy())


def test_token_mixer_starts_lively():
    """At the rate it is made for, initial currents have half the threshold's standard deviation: no silence, no storm."""
    torch.manual_seed(0)
    for tokens in (16, 49, 196):
        layer = TokenMixer(tokens, 8, 4)
        layer.name = "mix"
        layer.prepare()
        x = (torch.rand(4, 8, tokens, 8) < 0.2).float()
        current = layer.cached @ x.unflatten(-1, (4, -1)).transpose(2, 3)
        assert 0.4 < float(current.std() / layer.neuron.threshold) < 0.6
        assert 0.01 < layer({"x": [x]}, Moment(1, 4, 4)).detach().mean() < 0.3
        assert float((layer.folded().abs() * MANT < 256).float().mean()) > 0.99, "the quantiser's range cuts the weights"
