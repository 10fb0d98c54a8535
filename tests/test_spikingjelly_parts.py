"""SpikingJelly models whose layers part and join: split channels, membrane shortcuts, streams of currents, voting heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional, layer, neuron

from spikegate.convert.spikingjelly.models import read
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from spikegate.hw_sim.chip.groups import groups_of
from tests.foreign_import import both, pictures, same_in_torch
from tests.foreign_models import lif, settle


class MultiStepLIFNode(neuron.LIFNode):
    """The node of SpikingJelly up to 0.0.0.0.14's older package, which published nets are built of and 2.0 no longer has."""

    __module__ = "spikingjelly.clock_driven.neuron"

    def __init__(self, tau: float) -> None:
        super().__init__(tau, step_mode="m")


class Shortcuts(nn.Module):
    """Membrane shortcuts (currents add up), q and k from one convolution, an average before neurons, voting on firing rates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.start = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)), lif()
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.AvgPool2d(2))
        self.one, self.two = lif(), lif()
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8))
        self.both, self.q, self.k = nn.Sequential(nn.Conv1d(8, 16, 1), nn.BatchNorm1d(16)), lif(), MultiStepLIFNode(tau=2.0)
        self.gate, self.last, self.vote = lif(v_threshold=0.5), lif(), layer.VotingLayer(2, step_mode="m")
        self.linear = nn.Linear(8 * 16, 20)

    def forward(self, x):
        x = self.start(self.stem(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        T, B = x.shape[:2]
        stream = self.first(x.flatten(0, 1)).unflatten(0, (T, B))
        stream = stream + self.second(self.one(stream).flatten(0, 1)).unflatten(0, (T, B))
        y = self.both(self.two(stream).flatten(3).flatten(0, 1)).unflatten(0, (T, B))
        q, k = y.chunk(2, dim=2)
        y = self.gate(self.q(q).sum(dim=3, keepdim=True)) * self.k(k)
        return self.vote(self.last(self.linear(y.flatten(2)))).mean(0)


def test_currents_add_up_channels_split_and_rates_vote(digits):
    images = pictures(digits)
    model = settle(Shortcuts(), 7, images)
    _, embedded, rows, graph = both(model, images)
    assert graph.ops["two"].kind == "membrane" and graph.only("current") == ["two.branch1", "two.branch2"]
    assert graph.ops["q"].weight.shape == graph.ops["k"].weight.shape == (8, 8, 1, 1)
    assert graph.ops["two.branch1"].weight.shape == (8, 8, 4, 4) and graph.ops["two.branch1"].stride == 2  # the average is in the weights
    assert len(graph.only("qk_channel_gate")) == 1
    assert all(row.float_rate > 0 for row in rows) and min(row.alone for row in rows) > 0.97
    votes = graph.ops["readout"].weight
    assert votes.shape == (10, 1, 20) and [np.flatnonzero(v[0]).tolist() for v in votes] == [[2 * c, 2 * c + 1] for c in range(10)]
    same_in_torch(graph, embedded)


class SpikeDriven(nn.Module):
    """Spike-driven Transformer: membrane shortcuts, SDSA, neurons on the stream's mean. `split`: where one convolution's q, k, v part."""

    def __init__(self, split: str, groups: int = 1) -> None:
        super().__init__()
        self.stem, self.start = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8)), lif()
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.blocks = nn.ModuleList(DrivenBlock(8, split, groups) for _ in range(2))
        self.last, self.head = lif(v_threshold=0.3), nn.Linear(8, 10)

    def forward(self, x):
        x = self.start(self.stem(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        x = self.first(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x.flatten(3).mean(3))).mean(0)


class DrivenBlock(nn.Module):
    def __init__(self, dim: int, split: str, groups: int) -> None:
        super().__init__()
        self.split, self.heads, self.into = split, 4, lif()
        self.qkv, self.norm = nn.Conv2d(dim, 3 * dim, 1, groups=groups), nn.BatchNorm2d(3 * dim)
        self.q, self.k, self.v = lif(), lif(), lif()
        self.qkv_lif = lif()
        self.gate, self.proj = lif(v_threshold=0.5), nn.Sequential(nn.Conv2d(dim, dim, 1), nn.BatchNorm2d(dim))

    def forward(self, x):
        T, B, C, H, W = x.shape
        x_spikes = self.into(x).flatten(0, 1)
        if self.split == "layers":
            q, k, v = (n(c(x_spikes).reshape(T, B, C, H * W)) for n, c in zip((self.q, self.k, self.v), self.apart))
        elif self.split == "currents":
            q, k, v = self.norm(self.qkv(x_spikes)).reshape(T, B, 3 * C, H * W).chunk(3, dim=2)
            q, k, v = self.q(q), self.k(k), self.v(v)
        else:
            y = self.qkv_lif(self.norm(self.qkv(x_spikes)).reshape(T, B, 3 * C, H * W))
            y = y.reshape(T, B, self.heads, 3, C // self.heads, H * W).permute(3, 0, 1, 2, 4, 5)
            q, k, v = (y[i].flatten(2, 3) for i in range(3))
        y = q * self.gate((k * v).sum(dim=-1, keepdim=True))
        return x + self.proj(y.reshape(T * B, C, H, W)).reshape(T, B, C, H, W)

    def part(self) -> None:
        """The convolution as three, with their rows of weights, biases and normalisation."""
        out, per = self.qkv.weight.shape[:2]
        dim, dense = out // 3, torch.zeros(out, per * self.qkv.groups)
        for row in range(out):
            start = row * self.qkv.groups // out * per
            dense[row, start : start + per] = self.qkv.weight.detach()[row, :, 0, 0]
        channels = torch.arange(out)
        parts = channels.chunk(3) if self.split == "currents" else channels.reshape(self.heads, 3, -1).transpose(0, 1).flatten(1)
        self.apart = nn.ModuleList()
        for rows in parts:
            conv, norm = nn.Conv2d(per * self.qkv.groups, dim, 1), nn.BatchNorm2d(dim)
            conv.weight.data, conv.bias.data = dense[rows][..., None, None].clone(), self.qkv.bias.data[rows].clone()
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).data = getattr(self.norm, name).data[rows].clone()
            self.apart.append(nn.Sequential(conv, norm))
        self.split = "layers"


@pytest.mark.parametrize("split, groups", [("currents", 1), ("currents", 2), ("spikes", 1), ("spikes", 4)])
def test_channels_that_part_before_or_after_neurons_are_layers_of_their_own(digits, split, groups):
    """Head by head or one after the other, the graph is that of a model with three convolutions: same integers, same answers."""
    images = pictures(digits, 6)
    model = settle(SpikeDriven(split, groups), 8, images)
    _, embedded, rows, graph = both(model, images)
    assert all(row.float_rate > 0 for row in rows) and min(row.alone for row in rows) > 0.95
    same_in_torch(graph, embedded)
    for block in model.blocks:
        block.part()
    apart = both(model.eval(), images)[3]
    assert [op.kind for op in graph.ops.values()] == [op.kind for op in apart.ops.values()] and len(graph.only("sdsa")) == 2
    for a, b in zip(graph.ops.values(), apart.ops.values()):
        assert getattr(a, "neuron", None) == getattr(b, "neuron", None)
        assert all(np.array_equal(getattr(a, field, 0), getattr(b, field, 0)) for field in ("weight", "bias"))
    assert np.array_equal(integer.run(graph, embedded).logits, integer.run(apart, embedded).logits)


class StreamHead(nn.Module):
    """Class scores from the mean of a stream of currents: no neurons before the head; its first branch comes from a finer map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.start = nn.Conv2d(1, 6, 3, padding=1), lif(v_threshold=0.3)
        self.down, self.norm, self.one = nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), lif(v_threshold=0.5)
        self.branch, self.norm2, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x):
        x = self.start(self.stem(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        stream = self.norm(self.down(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        stream = stream + self.norm2(self.branch(self.one(stream).flatten(0, 1))).unflatten(0, x.shape[:2])
        return self.head(stream.flatten(3).mean(3)).mean(0)


def test_class_scores_may_be_read_from_a_stream_of_currents(digits):
    """The head's weights times each branch's, on the spikes that feed the branch: the float net's scores but for the rounding."""
    images = pictures(digits, 24)
    model = settle(StreamHead(), 9, images)
    spikes, embedded, _, graph = both(model, images)
    assert [op.kind for op in graph.ops.values()][-3:] == ["current", "readout", "exit_gate"]
    assert graph.ops["readout"].weight.shape == (10, 16, 8) and graph.ops["readout.start"].weight.shape == (10, 6, 8, 8)
    same_in_torch(graph, embedded)
    plan = read(model, images[:2], None)[0]
    scores = sum(np.einsum("kpc,ntpc->nk", p.weight, spikes[p.sources[0]].astype(float)) for p in plan.head.parts) + 4 * plan.head.bias
    functional.reset_net(model)
    with torch.no_grad():
        assert np.allclose(scores, model(images).numpy(), atol=1e-4)
    record = integer.run(graph, embedded)
    assert np.corrcoef(record.logits.ravel(), scores.ravel())[0, 1] > 0.99
    synapses = {p.source: p.taps for g in groups_of(graph) for p in g.projections if g.name == "readout"}
    for p in plan.head.parts:  # what places the net on cores sees the same synapses
        assert len(synapses[p.sources[0]]) == 10 and synapses[p.sources[0]].size == p.weight.size and synapses[p.sources[0]].mean() > 0.9


class Sliced(nn.Module):
    """Some channels of the spikes beside all of them; or of one timestep alone."""

    def __init__(self, one_step: bool = False) -> None:
        super().__init__()
        self.one_step, self.conv, self.fire, self.after = one_step, nn.Conv2d(1, 6, 3, 2, 1), lif(v_threshold=0.2), lif(v_threshold=0.2)
        self.next, self.last, self.head = nn.Conv2d(6, 4, 1), lif(v_threshold=0.2), nn.Linear(4 * 16, 10)
        self.narrow = nn.Conv2d(2, 4, 1)

    def forward(self, x):
        x = self.fire(self.conv(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        y = self.after(self.next(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        z = y[0][:, 1:3] if self.one_step else y[:, :, 1:3].flatten(0, 1)
        z = self.narrow(z) if self.one_step else self.narrow(z).unflatten(0, x.shape[:2])
        return self.head((self.last(z) if self.one_step else y + self.last(z)).flatten(2)).mean(0)


def test_a_layer_that_is_read_whole_and_in_part_is_there_twice(digits):
    """The part is exact neurons of its own; the whole one stays."""
    images = pictures(digits, 6)
    torch.manual_seed(2)
    spikes, embedded, rows, graph = both(Sliced().eval(), images)
    assert graph.ops["after.part1"].weight.shape[0] == 2 and graph.ops["after"].weight.shape[0] == 4
    assert np.array_equal(spikes["after.part1"], spikes["after"][..., 1:3]) and min(row.alone for row in rows) > 0.97
    same_in_torch(graph, embedded)
    with pytest.raises(DeployError):
        read(Sliced(one_step=True), images[:2], None)


def test_a_split_that_leaves_tokens_out_is_refused():
    """Neurons on part of the positions would be another layer; they are never taken for a split by channels."""
    model = SpikeDriven("currents")
    model.blocks[0].forward = lambda x: x[..., :2]
    with pytest.raises(DeployError, match=r"every sample's map once|whole maps"):
        read(model, torch.rand(2, 1, 8, 8), None)
