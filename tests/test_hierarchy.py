"""QKFormer and MSViT: published sizes, every variant against its integer graph, settings that cannot be built."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.current import Branch
from spikegate.train.models import build
from spikegate.train.settings.config import ModelConfig
from spikegate.train.settings.options import from_yaml
from spikegate.train.tracing import trace_net
from tests.test_layers import config, lively

torch.set_num_threads(1)
CONF = Path(__file__).parents[1] / "conf" / "published"
WIDTHS = {"qkformer": (96, 192, 384), "msvit": (192, 192, 384)}
HIERARCHICAL = tuple(WIDTHS)


def published_config(name: str, head: str = "mean") -> ModelConfig:
    settings = from_yaml(CONF / f"{name}-4-384.yml").model
    return settings.model_copy(update={"head": head})


def published_count(name: str, classes: int) -> tuple[int, int]:
    """(parameters of the published CIFAR net, its biases of proj and MLP among them), from the papers' layer tables."""
    widths, blocks = WIDTHS[name], (1, 1, 2)
    norm = lambda c: 2 * c  # noqa: E731
    conv = lambda i, o, k: i * o * k * k + norm(o)  # noqa: E731
    stem = widths[0] // 2
    count, biases = conv(3, stem, 3), 0
    for s, (w, depth) in enumerate(zip(widths, blocks)):
        last, before = s == len(blocks) - 1, widths[s - 1] if s else stem
        count += conv(before, w, 3) + conv(before, w, 1) + (conv(w, w, 3) if s else 0)
        block = (3 if last else 2) * conv(w, w, 1) + conv(w, w, 1) + conv(w, 4 * w, 1) + conv(4 * w, w, 1)
        if name == "msvit" and not last:
            block += 3 * w * w + norm(w)  # the projection P, kernel 3
        count, biases = count + depth * block, biases + depth * (w + 4 * w + w)
    return count + biases + widths[-1] * classes + classes, biases


@pytest.mark.parametrize("name, classes, millions", [("qkformer", 10, 6.71), ("qkformer", 100, 6.74), ("msvit", 10, 7.56)])
@pytest.mark.parametrize("head", ["mean", "tokens"])
def test_published_size_and_every_difference_from_it(name, classes, millions, head):
    """Biases before a norm are its beta; the logits' scale is learned; a head on every token has its own weights for each."""
    published, biases = published_count(name, classes)
    assert round(published / 1e6, 2) == millions, "the table that we compare with is not the published net"
    net = build(published_config(name, head), (3, 32, 32), classes, 255)
    more = (8 * 8 - 1) * 384 * classes if head == "tokens" else 0
    assert net.parameter_count == published - biases + 1 + more


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_published_geometry(name):
    net = build(published_config(name), (3, 32, 32), 10, 255)
    net.set_phase("deployed")
    shapes = {n: op.out_shape for n, op in net.graph().ops.items()}
    for stage, tokens, width in zip((1, 2, 3), (1024, 256, 64), WIDTHS[name]):
        block = f"stage{stage}.block1"
        assert shapes[f"{block}.attention"] == (tokens, width) and shapes[f"{block}.fc1"] == (tokens, 4 * width)
        assert (f"{block}.p" in shapes) == (name == "msvit" and stage < 3) and (f"{block}.v" in shapes) == (stage == 3)
    assert shapes["stage2.pool"] == (256, WIDTHS[name][1]) and "stage3.block2.fc2" in shapes and "stage2.block2.fc2" not in shapes


VARIANTS = {
    "sew": {},
    "channel": {"attention": "channel"},
    "or": {"pooling": "or"},
    "membrane": {"residual": "membrane"},
    "static": {"residual": "membrane", "attention": "channel", "pooling": "or"},
    "three": {"stages": (1, 1, 1), "heads": 2},
    "halting": {"halting": {"enabled": True, "beta": -2.0}, "depth": 2},
    "membrane halting": {"residual": "membrane", "halting": {"enabled": True, "beta": -3.0}, "depth": 2},
    "masks": {"mask": {"enabled": True}},
    "shipped": {"gate_threshold": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", HIERARCHICAL)
def test_every_variant_equals_its_integer_graph(name, variant):
    net, x = lively(name, **{"depth": 1, **VARIANTS[variant]})
    for twin in net.named.values():
        if isinstance(twin, Branch) and "block" in twin.name:
            twin.norm.beta.data -= twin.norm.gamma.data  # `lively` excites each layer; a stream adds that up and would always fire
    theirs = trace_net(net, x.numpy())
    graph = net.graph()
    graph.check()
    with torch.no_grad():
        embedded = net.stem(x).int().numpy()
    ours = integer.run(graph, embedded, spikes=True)
    silent = [n for n in graph.ops if not ours.spikes[n].any()]
    assert not silent, f"silent ops prove nothing: {silent}"
    steady = [n for n in graph.ops if graph.payload_of(n).binary and ours.spikes[n][:, -1].all()]
    assert not steady or "halting" in variant, f"ops that always fire prove little: {steady}"
    for op in graph.ops:
        assert np.array_equal(ours.spikes[op], theirs.spikes[op]), op
    assert np.array_equal(ours.logits, theirs.logits) and np.array_equal(ours.alive, theirs.alive)
    if variant == "static":
        assert not graph.only("spiking_attention"), "two spike maps are multiplied"
        assert all(len(graph.sources(n).get("x", [])) <= 1 for n in graph.ops), "spikes are added"
    if "halting" in variant:
        assert 0 < ours.mean_tokens < 1


@pytest.mark.parametrize("variant", ["sew", "static", "shipped"])
@pytest.mark.parametrize("name", HIERARCHICAL)
def test_gradients_reach_every_parameter_of_every_variant(name, variant):
    net, x = lively(name, **{"depth": 1, **VARIANTS[variant]})
    for phase in ("float", "deployed"):
        net.zero_grad()
        net.set_phase(phase)
        net.train()
        torch.nn.functional.cross_entropy(net(x).logits, torch.arange(6) % 5).backward()
        silent = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
        assert not silent, (phase, silent)


def test_the_p_branch_runs_along_the_row_major_token_axis():
    """The last pixel of a row neighbours the first of the next; the map's ends have one neighbour."""
    layer = SpikingConv(1, 1, (1, 3), (1, 6))
    layer.block.synapse.weight.data.fill_(1.0)
    layer.name, layer.phase = "p", "deployed"
    op = layer.to_op()
    x = np.zeros((1, 6, 1), np.int32)
    x[0, 2] = 1  # end of the first row of a 2 x 3 map
    assert np.flatnonzero(op.current(x)[0, :, 0]).tolist() == [1, 2, 3]
    assert op.fanout.tolist() == [2, 3, 3, 3, 3, 2]


@pytest.mark.parametrize(
    "change, where",
    [({"dim": 36, "heads": 4}, "model.dim"), ({"stages": (1, 1, 1, 1, 1), "dim": 256}, "model.stages")],
)
def test_sizes_that_do_not_fit_are_refused_by_key(change, where):
    with pytest.raises(DeployError) as e:
        build(config("qkformer", **change), (1, 8, 8), 5, 16)
    assert where in str(e.value)
