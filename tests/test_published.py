"""Paper-size nets: parameters and operations as published, one forward pass, one export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import DeployError
from spikegate.train import models
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.models.net import Net
from spikegate.train.settings.options import from_yaml
from spikegate.train.tracing import trace_net

CONF = Path(__file__).parents[1] / "conf" / "published"
IMAGE = (3, 32, 32)


def build(name: str) -> Net:
    torch.manual_seed(0)
    return models.build(from_yaml(CONF / f"{name}.yml").model, IMAGE, 10, 255)


def operations(net: Net) -> int:
    """Operations per timestep by the field's count: every layer once, max-pool free, the host's convolution included."""
    ops = net.graph().ops.values()
    chip = sum(op.dense_ops // getattr(op, "copies", 1) for op in ops if op.kind not in ("max_pool", "readout"))
    head = net.twin("readout")
    return chip + net.stem.macs + head.channels * head.classes  # type: ignore[operator]


def test_spikformer_has_the_published_parameters_and_operations():
    """9,330,874 with 6,144 in layer norms that are never used and a bias in every linear layer, which its norm's beta repeats."""
    net = build("spikformer-4-384")
    redundant = 4 * (4 * 384 + 4 * 384 + 384)
    scale = 1  # of the head, in training only
    assert net.parameter_count - scale + redundant + 6144 == 9_330_874
    net.set_phase("deployed")
    assert operations(net) == 934_039_296


@pytest.mark.parametrize("name, more", [("at-snn-4-384", 4), ("dts-vit-4-384", 25 * 4), ("stas-4-384", 4)])
def test_adaptive_nets_stand_on_the_published_spikformer(name, more):
    """Their own parameters: an offset for each block's gate, or a score for each mask and timestep."""
    base, net = build("spikformer-4-384"), build(name)
    assert net.parameter_count - base.parameter_count == more


def test_integrated_patch_splitting_refuses_to_pool_graded_events():
    model = from_yaml(CONF / "stas-4-384.yml").model.model_copy(update={"pooling": "or"})
    with pytest.raises(DeployError, match="pooling: stride"):
        models.build(model, IMAGE, 10, 255)


def test_stmixer_has_the_published_parameters():
    assert round(build("stmixer-4-384-16").parameter_count / 1e6, 2) == 8.22


def test_spike_driven_transformer_has_the_published_parameters():
    assert round(build("spike-driven-2-512").parameter_count / 1e6, 2) == 10.23


def repeated_biases(net: Net) -> int:
    """Biases of the published projections and MLPs, which the norms behind them make redundant and which are left out here."""
    twins = dict(net.named_parameters())
    ours = [n for n in twins if n.endswith("norm.beta") and n.split("/")[-1].split(".")[0] in ("proj", "fc1", "fc2")]
    return sum(twins[n].numel() for n in ours)


@pytest.mark.parametrize("name, published", [("qkformer-4-384", 6.71), ("msvit-4-384", 7.56)])
def test_hierarchical_nets_have_the_published_parameters(name, published):
    net = build(name)
    assert round((net.parameter_count - 1 + repeated_biases(net)) / 1e6, 2) == published  # 1: the head's scale, in training only


def test_the_static_qkformer_has_the_published_parameters():
    """QKTA + QKCA on CIFAR-100, an ablation of the paper: 6.44 M."""
    model = from_yaml(CONF / "qkformer-4-384.yml").model.model_copy(update={"attention": "channel"})
    net = models.build(model, IMAGE, 100, 255)
    assert round((net.parameter_count - 1 + repeated_biases(net)) / 1e6, 2) == 6.44


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", sorted(p.stem for p in CONF.glob("*.yml")))
def test_a_paper_size_net_runs_and_exports(name, tmp_path):
    """Random weights with the statistics of a batch, so that it spikes: file = torch, spike by spike."""
    net = build(name)
    net.modules_aside = torch.nn.ModuleList()
    x = torch.randint(0, 256, (2, *IMAGE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for module in net.modules():
        if isinstance(module, FoldedNorm):
            module.momentum = 1.0
    with torch.no_grad():
        net(x)
    net.set_phase("deployed")
    write_graph(net.graph(), tmp_path / "model.net")
    graph = read_graph(tmp_path / "model.net")
    theirs = trace_net(net, x[:1].numpy())
    with torch.no_grad():
        ours = integer.run(graph, net.stem(x[:1]).int().numpy(), spikes=True)
    silent = [n for n in graph.ops if not ours.spikes[n].any()]
    assert len(silent) < len(graph.ops) / 3, silent
    for op in graph.ops:
        assert np.array_equal(ours.spikes[op], theirs.spikes[op]), op
    assert np.array_equal(ours.logits, theirs.logits)
