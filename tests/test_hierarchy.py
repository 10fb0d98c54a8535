"""QKFormer and MSViT: published sizes, every variant against its integer graph, settings that cannot be built."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convert import engine
from convert.ir import DeployError
from tests.test_layers import config, lively
from train.layers.conv import SpikingConv
from train.layers.folding import FoldedNorm
from train.models import build
from train.tracing import trace_net

torch.set_num_threads(1)
PAPER = {"dim": 384, "stages": (1, 1, 2), "heads": 8, "mlp_ratio": 4.0, "embedding": "published", "attention_threshold": 8}
WIDTHS = {"qkformer": (96, 192, 384), "msvit": (192, 192, 384)}
HIERARCHICAL = tuple(WIDTHS)


def published_count(name: str, classes: int) -> tuple[int, int, int]:
    """(parameters of the published CIFAR net, its biases of proj and MLP, its head), from the papers' layer tables."""
    widths, blocks = WIDTHS[name], PAPER["stages"]
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
    head = widths[-1] * classes + classes
    return count + biases + head, biases, head


@pytest.mark.parametrize(
    "name, classes, millions", [("qkformer", 10, 6.71), ("qkformer", 100, 6.74), ("msvit", 10, 7.56)]
)
def test_published_size_and_every_difference_from_it(name, classes, millions):
    published, biases, head = published_count(name, classes)
    assert round(published / 1e6, 2) == millions, "the table that we compare with is not the published net"
    net = build(config(name, **PAPER), (3, 32, 32), classes, 255)
    decays = sum(p.numel() for n, p in net.named_parameters() if n.endswith("_decay"))
    ours = sum(p.numel() for p in net.parameters()) - decays  # constants of SLAYER's neurons, two for each layer
    tokens = 8 * 8
    positional_head = tokens * 384 * classes + classes + 1  # every token has its own weights; one learned scale of the logits
    assert ours == published - biases - head + positional_head


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_published_geometry_runs_and_its_graph_is_sound(name):
    torch.manual_seed(0)
    net = build(config(name, **PAPER), (3, 32, 32), 10, 255)
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        net(x[:1])  # running statistics, so that the folded weights are those of a net that spikes
        for module in net.modules():
            if isinstance(module, FoldedNorm):
                module.mean.mul_(10)
                module.var.sub_(0.9).mul_(10)
        net.set_phase("deployed")
        net.eval()
        out = net(x[:1])
    assert out.logits.shape == (1, 10) and torch.isfinite(out.logits).all()
    graph = net.graph()
    graph.check()
    shapes = {n: op.out_shape for n, op in graph.ops.items()}
    grids = [(f"stage{s}.block1.attention", (tokens, w)) for s, tokens, w in zip((1, 2, 3), (1024, 256, 64), WIDTHS[name])]
    assert all(shapes[n] == shape for n, shape in grids)
    assert shapes["stage2.block1.fc1"] == (256, 4 * WIDTHS[name][1]) and "stage3.block2.v" in shapes


VARIANTS = {
    "sew": {},
    "channel": {"attention": "channel"},
    "or": {"pooling": "or"},
    "membrane": {"residual": "membrane"},
    "static": {"residual": "membrane", "attention": "channel", "pooling": "or"},
    "three": {"stages": (1, 1, 1), "heads": 2},
    "halting": {"halting": {"enabled": True, "beta": -2.0}, "depth": 2},
    "membrane halting": {"residual": "membrane", "halting": {"enabled": True, "beta": -2.0}, "depth": 2},
    "masks": {"mask": {"enabled": True}},
    "shipped": {"gate_threshold": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", HIERARCHICAL)
def test_every_variant_equals_its_integer_graph(name, variant):
    net, x = lively(name, **{"depth": 1, **VARIANTS[variant]})
    theirs = trace_net(net, x.numpy())
    graph = net.graph()
    graph.check()
    with torch.no_grad():
        embedded = net.stem(x).int().numpy()
    ours = engine.run(graph, embedded, spikes=True)
    silent = [n for n in graph.ops if not ours.spikes[n].any()]
    assert not silent, f"silent ops prove nothing: {silent}"
    for op in graph.ops:
        assert np.array_equal(ours.spikes[op], theirs.spikes[op]), op
    assert np.array_equal(ours.logits, theirs.logits) and np.array_equal(ours.alive, theirs.alive)
    if variant == "static":
        assert not graph.only("spiking_attention") and all(graph.payload_of(n).high == 1 for n in graph.ops if "gate" in graph.ops[n].kind)
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
