"""I-LIF of SpikingJelly: neurons that send whole numbers import as multi-level neurons, in every kind of net that takes numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional, layer, neuron, surrogate

if not hasattr(neuron, "ILIFNode"):
    pytest.skip("this SpikingJelly has no ILIFNode", allow_module_level=True)

from spikegate.convert.spikingjelly.importing import import_model
from spikegate.convert.spikingjelly.models import read
from spikegate.deploy.network.network import Network
from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import COUNTERS
from tests.foreign_import import both, pictures, same_in_torch
from tests.foreign_models import settle


def ilif(levels: int = 4, **settings) -> nn.Module:
    return neuron.ILIFNode(surrogate_function=surrogate.MultiLevelSpikeCount(levels), step_mode="m", **settings)


class Net(nn.Module):
    """Convolutions with normalisation and I-LIF, a sum of two layers' numbers, an average pool, a linear head."""

    def __init__(self, levels: int = 4, T: int = 4, width: int = 8, join=torch.add, pool=nn.AvgPool2d, **settings) -> None:
        super().__init__()
        self.T, self.join = T, join
        convs = [nn.Conv2d(i, width, 3, padding=1, bias=False) for i in (1, width, width)]
        self.convs, self.norms = nn.ModuleList(convs), nn.ModuleList([nn.BatchNorm2d(width) for _ in convs])
        self.fires, self.pool = nn.ModuleList([ilif(levels, **settings) for _ in convs]), pool(2)
        self.head = nn.Linear(width * 16, 10)

    def stage(self, x, i):
        x = self.norms[i](self.convs[i](x.flatten(0, 1))).unflatten(0, (self.T, -1))
        return self.fires[i](x)

    def forward(self, x):
        x = self.stage(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1), 0)
        x = self.join(x, self.stage(x, 1))
        x = self.pool(self.stage(x, 2).flatten(0, 1))
        return self.head(x.flatten(1).unflatten(0, (self.T, -1))).mean(0)


KINDS = [{}, {"levels": 1}, {"levels": 8, "tau": 2.0}, {"tau": 3.3, "v_threshold": 0.7}, {"T": 1, "levels": 15}]


@pytest.mark.parametrize("settings", KINDS)
def test_whole_numbers_are_those_of_the_float_model(digits, settings):
    images = pictures(digits)
    levels = settings.get("levels", 4)
    spikes, embedded, rows, graph = both(settle(Net(**settings), 1, images), images)
    assert all(graph.ops[name].neuron.levels == levels and graph.payload_of(name).high == levels for name in spikes)
    assert levels == 1 or max(s.max() for s in spikes.values()) > 1, "the test needs values above 1"
    assert min(row.alone for row in rows) > 0.95  # 8 levels have 8 edges that a rounded weight can cross
    assert all(row.float_rate > 0.05 for row in rows)
    same_in_torch(graph, embedded)


def test_each_value_costs_as_many_accumulates(digits):
    """Events carry their value; a value of n is n accumulates at each synapse."""
    images = pictures(digits, 6)
    _, embedded, _, graph = both(settle(Net(), 1, images), images)
    record = integer.run(graph, embedded, spikes=True)
    head = [*graph.ops].index("readout")
    sent = record.spikes["fires.2"].astype(np.int64).reshape(6, 4, -1)
    fan = np.count_nonzero(graph.ops["readout"].weight, axis=0).ravel()
    assert (sent > 1).any() and np.array_equal(record.counts[:, :, head, COUNTERS.index("synop")], sent @ fan)


@pytest.mark.lava
def test_lava_sends_the_same_numbers(digits, tmp_path):
    images = pictures(digits, 3)
    _, embedded, _, graph = both(settle(Net(width=4, T=2), 1, images), images)
    write_graph(graph, tmp_path / "model.net")
    graph = read_graph(tmp_path / "model.net")
    reference = integer.run(graph, embedded, spikes=True)
    with Network(graph, "block", 2) as network:
        ours = network.run(embedded)
    assert np.array_equal(ours.logits, reference.logits) and np.array_equal(ours.counts, reference.counts)


@pytest.mark.parametrize("what, settings", [("a max-pool", {"pool": nn.MaxPool2d}), ("a product", {"join": torch.mul})])
def test_what_takes_bits_refuses_numbers(digits, what, settings):
    with pytest.raises(DeployError, match=f"{what} takes spikes, and its neurons' values reach 4"):
        read(settle(Net(**settings), 1, pictures(digits)), pictures(digits)[:2], None)


def test_values_beyond_seven_bits_are_refused(digits):
    with pytest.raises(DeployError, match="sends values up to 200"):
        read(Net(levels=200).eval(), pictures(digits)[:2], None)


def test_a_net_imports_with_its_report(digits, tmp_path):
    model = nn.Sequential(layer.Flatten(), layer.Linear(64, 32), ilif(), layer.Linear(32, 10))
    model[1].weight.data.mul_(6)
    functional.set_step_mode(model, "m")

    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x):
            return self.net(x.unsqueeze(0).repeat(4, 1, 1, 1, 1)).mean(0)

    done = import_model(Repeated().eval(), tmp_path, {"name": "digits"}, quiet=True)
    assert done.layers[0]["fidelity"] == "approximate" and done.layers[0]["alone"] > 0.99
    assert json.loads((tmp_path / "import.json").read_text())["int_accuracy"] == done.int_accuracy
