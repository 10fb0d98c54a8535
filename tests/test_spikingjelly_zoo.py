"""SpikingJelly's own models: read layer for layer, or refused for the one reason that holds; AND and IAND exact in integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly.activation_based.model.spikformer", reason="spikingjelly 2 is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model import (
    ms_resnet,
    parametric_lif_net,
    qkformer,
    sew_resnet,
    spike_driven_transformer,
    spikformer,
    spiking_resnet,
)

from spikegate.convert.spikingjelly.models import read
from spikegate.errors import DeployError
from tests.foreign_import import both, same_in_torch
from tests.foreign_models import settle


class Repeated(nn.Module):
    """A model of sequences, given the same image in every timestep."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.net(x.unsqueeze(0).repeat(2, 1, 1, 1, 1)).mean(0)


IF = {"spiking_neuron": neuron.IFNode, "num_classes": 10}
SMALL = {"T": 2, "num_classes": 10, "embed_dims": 32}
TAKEN = {
    "SEW-ResNet-18, ADD": (lambda: Repeated(sew_resnet.sew_resnet18(cnf="ADD", **IF)), 3, 32, 21),
    "SEW-ResNet-18, AND": (lambda: Repeated(sew_resnet.sew_resnet18(cnf="AND", **IF)), 3, 32, 29),
    "SEW-ResNet-18, IAND": (lambda: Repeated(sew_resnet.sew_resnet18(cnf="IAND", **IF)), 3, 32, 29),
    "spiking ResNet-18": (lambda: Repeated(spiking_resnet.spiking_resnet18(**IF)), 3, 32, 18),
    "PLIF net of MNIST": (lambda: Repeated(parametric_lif_net.MNISTNet(4, neuron.ParametricLIFNode, init_tau=2.0)), 1, 28, 6),
    "spike-driven transformer": (
        lambda: spike_driven_transformer.SpikeDrivenTransformer(num_heads=4, depths=1, pooling_stat="1100", **SMALL), 3, 32, 14,
    ),
}  # fmt: skip
REFUSED = {
    "Spikformer": (
        lambda: spikformer.Spikformer(img_size_h=32, img_size_w=32, patch_size=4, num_heads=4, depths=1, **SMALL),
        r"stages\.2\.conv_bn\.block\.2: max-pool of currents",
    ),
    "QKFormer": (lambda: qkformer.QKFormer(num_heads=(2, 2, 2), depths=(1, 1, 1), **SMALL), r"patch_embed1\.pool1: max-pool of currents"),
    "spike-driven transformer, pooled last": (
        lambda: spike_driven_transformer.SpikeDrivenTransformer(num_heads=4, depths=1, **SMALL), "max-pool of currents",
    ),
    "MS-ResNet": (
        lambda: ms_resnet.MSResNet(T=2, num_classes=10, base_channels=4),
        r"layer1\.0\.downsample\.0: takes currents that went through no neurons",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_models_that_send_spikes_alone_are_read(name):
    make, channels, size, layers = TAKEN[name]
    torch.manual_seed(0)
    plan = read(make(), torch.rand(2, channels, size, size), None)[0]
    assert len(plan.layers) == layers and plan.timesteps == 2 and plan.head is not None


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_pool_or_convolve_currents_are_refused_for_that(name):
    make, said = REFUSED[name]
    with pytest.raises(DeployError, match=said) as caught:
        read(make(), torch.rand(2, 3, 32, 32), None)
    assert all("currents" in line for line in str(caught.value).splitlines() if line.startswith("  - "))


@pytest.mark.parametrize("kind", ["AND", "IAND"])
def test_and_and_iand_are_exact(digits, kind):
    """Each such layer gives the float net's spikes, cell by cell, on its spikes; and torch, integers and float agree on what it is."""
    torch.manual_seed(4)
    block = sew_resnet.BasicBlock(4, 4, cnf=kind, spiking_neuron=neuron.IFNode, v_threshold=0.4)
    stem = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), neuron.IFNode(v_threshold=0.4)
    net = nn.Sequential(*stem, block, nn.Flatten(), nn.Linear(256, 10))
    functional.set_step_mode(net, "s")

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x):
            return sum(self.net(x) for _ in range(4))

    images = torch.from_numpy(digits.train.x[:12] / digits.levels).float()
    spikes, embedded, rows, graph = both(settle(Loop(), 2, images), images)
    name = "net.3.and" if kind == "AND" else "net.3.iand"
    x, y = (spikes[n].astype(bool) for n in ("net.2", "net.3.sn2"))
    assert np.array_equal(spikes[name].astype(bool), x & y if kind == "AND" else x & ~y) and spikes[name].any()
    assert next(r for r in rows if r.name == name).alone == 1
    same_in_torch(graph, embedded)
