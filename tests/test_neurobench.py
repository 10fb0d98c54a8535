"""NeuroBench as a judge of the counts: its SynapticOperations on quantised torch nets are our Effective_ACs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikegate.command.runs import ZOO
from spikegate.engine import integer
from spikegate.engine.record import Record
from spikegate.formats.host import Host
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import COUNTERS, Graph
from spikegate.hw_sim.chip.workload import workload_of
from spikegate.hw_sim.energy import summary
from spikegate.hw_sim.energy.ledger import book
from spikegate.hw_sim.energy.measured import Measured
from spikegate.ops.conv import Conv
from spikegate.ops.readout import Readout
from tests.slayer_chains import Chain

NAMES = ("Effective_ACs", "Effective_MACs", "Dense")


def judged(net: torch.nn.Module, call: Any, samples: int) -> dict[str, float]:
    """NeuroBench's SynapticOperations of what `call(model)` runs."""
    pytest.importorskip("neurobench", reason="neurobench is not installed (extra neurobench)")
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    model, metric = TorchModel(net), SynapticOperations()
    model.register_hooks()
    with torch.no_grad():
        call(model)
        found = metric(model, None, (torch.zeros(samples),))
    model.cleanup_hooks()
    assert set(found) == set(NAMES)  # a weight norm would make it the plain number 0.0
    return found


def ours(graph: Graph, record: Record) -> dict[str, float]:
    """The report's figures under NeuroBench's names."""
    manifest = {"host_macs": 0, "embedding_ops": [], "dense_ops": {n: op.dense_ops for n, op in graph.ops.items()}, "halting": False}
    measured = Measured(Path(), manifest, record, None, Path())
    priced = summary.Priced(measured, record, book(record, measured.info), {})
    return summary.neurobench(priced)["synaptic_operations"]


def quantised(chain: Chain) -> torch.nn.Module:
    """SLAYER's own blocks with the weights that are exported; without this NeuroBench counts weights that round to zero."""
    for block in chain.blocks:
        if hasattr(block, "synapse"):
            block.synapse.weight.data = block.neuron.quantize_8bit(block.synapse.weight.data)
    return torch.nn.Sequential(*chain.blocks)


@pytest.mark.parametrize("seed", range(12))
def test_effective_acs_are_neurobenchs_on_quantised_slayer_nets(seed, tmp_path):
    chain = Chain(seed, "cuba", stock=True)
    chain.export(tmp_path / "chain.net")
    graph = read_graph(tmp_path / "chain.net")
    graph.timesteps = chain.timesteps
    record = integer.run(graph, chain.input)
    found = judged(quantised(chain), lambda model: model(chain.x), len(chain.x))
    mine = ours(graph, record)
    assert mine["Effective_ACs"] == pytest.approx(found["Effective_ACs"], rel=1e-12) and found["Effective_ACs"] > 0
    assert mine["Effective_MACs"] == found["Effective_MACs"] == 0
    sums = workload_of(graph, record).ledger()
    assert sums["effective_acs"].sum() == pytest.approx(found["Effective_ACs"] * len(chain.x), rel=1e-12)
    if not any(len(op.out_shape) == 2 for op in graph.ops.values()):  # on maps ours counts the padding's taps, NeuroBench does not
        assert mine["Dense"] == found["Dense"]


def test_neurobench_counts_weights_that_round_to_zero_if_one_forgets_to_quantise():
    raw, whole = [], []
    for chain in (Chain(seed, "cuba", stock=True) for seed in range(6)):
        raw.append(judged(torch.nn.Sequential(*chain.blocks), lambda model, x=chain.x: model(x), 3)["Effective_ACs"])
        whole.append(judged(quantised(chain), lambda model, x=chain.x: model(x), 3)["Effective_ACs"])
    assert all(a >= b for a, b in zip(raw, whole)) and sum(raw) > sum(whole)


class Layers(torch.nn.Module):
    """Convolutions and the head of a deployed graph as plain torch layers with its integer weights; a residual's sources one by one."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.held = graph, torch.nn.ModuleList()
        self.at: dict[str, torch.nn.Module] = {}
        for name, op in graph.ops.items():
            layer: torch.nn.Module
            if isinstance(op, Conv):
                out, per, kh, kw = op.weight.shape
                layer = torch.nn.Conv2d(per * op.groups, out, (kh, kw), op.stride, op.padding, groups=op.groups, bias=False)
            elif isinstance(op, Readout):
                layer = torch.nn.Linear(int(np.prod(op.weight.shape[1:])), len(op.weight), bias=False)
            else:
                continue
            layer.weight.data = torch.from_numpy(op.weight.reshape(layer.weight.shape)).float()
            self.at[name] = layer
            self.held.append(layer)

    def forward(self, spikes: dict[str, np.ndarray]) -> None:
        for name, layer in self.at.items():
            op: Any = self.graph.ops[name]
            for e in self.graph.sources(name)["x"]:
                x = torch.from_numpy(spikes[e.source]).float().flatten(0, 1)  # samples and timesteps are one batch
                layer(x.transpose(1, 2).unflatten(2, op.grid) if isinstance(op, Conv) else x.flatten(1))


def test_a_deployed_transformers_synapses_are_neurobenchs():
    """All convolutions, linear layers and the head of a trained net; attention has no layer that NeuroBench could see."""
    folder = ZOO / "spikformer-digits"
    graph = read_graph(folder / "model.net")
    shape = Host(folder / "embedding.onnx")
    images = np.random.default_rng(0).integers(0, 17, (3, 1, 8, 8)).astype(np.uint8)
    record = integer.run(graph, shape.encode(images), spikes=True)
    layers = Layers(graph)
    found = judged(layers, lambda model: model(record.spikes), len(images))
    rows = [i for i, n in enumerate(graph.ops) if n in layers.at]
    counted = record.counts[:, :, rows, COUNTERS.index("synop")].sum() / len(images)
    assert found["Effective_ACs"] == pytest.approx(counted, rel=1e-12) and found["Effective_MACs"] == 0
    attention = record.total("attention_ac").mean()
    others = record.total("synop").mean() - counted
    assert attention > 0 and ours(graph, record)["Effective_ACs"] == pytest.approx(found["Effective_ACs"] + attention + others)
