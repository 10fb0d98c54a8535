"""What models of SpikingJelly are made of, as training leaves them: layers at the image, wrappers, neurons, shared layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.layer import SeqToANNContainer

from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.plan import IMAGE
from spikegate.convert.spikingjelly.signals import alike
from spikegate.errors import DeployError
from tests.foreign_import import both
from tests.jelly_forwards import IMAGES, Net, T, flat, plain, plan_of, same_net, steps

# What stands at the image


class Front(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        functional.set_step_mode(self, "m")
        self.eval()

    def forward(self, x):
        return self.body(x.unsqueeze(0).repeat(8, 1, 1, 1, 1)).mean(0)


def conv(inner: int = 1, size: int = 3) -> nn.Module:
    return layer.Conv2d(inner, 4, size, padding=size // 2)


FIRST = {
    "the first tutorial's net": lambda: (layer.Flatten(), layer.Linear(64, 10, bias=False), neuron.LIFNode()),
    "convolution": lambda: (layer.Conv2d(1, 10, 8, bias=False), neuron.LIFNode(), layer.Flatten()),
    "neurons": lambda: (neuron.LIFNode(v_threshold=0.3), layer.Flatten(), layer.Linear(64, 10)),
    "linear layers": lambda: (layer.Flatten(), layer.Linear(64, 20), neuron.LIFNode(), layer.Linear(20, 10)),
    "average": lambda: (layer.AvgPool2d(2), conv(), neuron.IFNode(), layer.Flatten(), layer.Linear(64, 10)),
    "average to a size": lambda: (layer.AdaptiveAvgPool2d(4), layer.Flatten(), layer.Linear(16, 10), neuron.IFNode()),
    "average to an odd size": lambda: (layer.AdaptiveAvgPool2d(3), layer.Flatten(), layer.Linear(9, 10), neuron.IFNode()),
    "norm": lambda: (layer.BatchNorm2d(1), conv(), neuron.IFNode(), layer.Flatten(), layer.Linear(256, 10)),
}


@pytest.mark.parametrize("kind", FIRST)
def test_whatever_is_linear_may_stand_at_the_image(kind):
    torch.manual_seed(1)
    model = Front(*FIRST[kind]())
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.fill_(0.4), m.running_var.fill_(0.09), m.bias.data.fill_(0.2)
        if isinstance(m, nn.Linear | nn.Conv2d):
            m.weight.data.mul_(3)
    spikes, _, rows, _ = both(model, (torch.rand(6, 1, 8, 8) * 16).round() / 16)
    assert any(s.any() for s in spikes.values()) and min(r.alone for r in rows) > 0.99


CHANGES = {
    "normalised": lambda x: (x - 0.5) / 0.25, "inverted": lambda x: 1 - x, "from -1 to 1": lambda x: x * 2 - 1,
    "by methods": lambda x: x.sub(0.1).div_(0.3),
    "negative": lambda x: -x, "by tensors": lambda x: (x - torch.tensor([0.4])) / torch.tensor(0.2),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_constants_on_the_image_are_the_hosts(change):
    images = (torch.rand(6, 1, 8, 8) * 16).round() / 16
    rows = both(Net(lambda s, x: plain(s, CHANGES[change](x))), images)[2]
    assert rows[0].alone > 0.99


def test_a_mean_image_is_subtracted_on_the_host_and_at_the_border():
    images, mean = (torch.rand(6, 1, 8, 8) * 16).round() / 16, torch.rand(1, 8, 8)
    rows = both(Net(lambda s, x: plain(s, x - mean)), images)[2]
    assert rows[0].alone > 0.99 and plan_of(Net(lambda s, x: plain(s, x - mean))).layers["lif"].inputs[0].bias.shape == (6, 8, 8)


# Models as training leaves them


def test_wrappers_hooks_and_counters_change_nothing():
    wanted = plan_of(Net(plain))
    hooked = Net(plain)
    hooked.lif.register_forward_hook(lambda m, i, o: None)
    hooked.c.register_forward_pre_hook(lambda m, i: None)
    for m in hooked.modules():
        m.register_buffer("total_ops", torch.zeros(1, dtype=torch.float64))
    assert same_net(plan_of(hooked), wanted) and same_net(plan_of(nn.DataParallel(Net(plain))), wanted)
    assert same_net(plan_of(torch.compile(Net(plain))), wanted)
    changing = Net(plain)
    changing.lif.register_forward_hook(lambda m, i, o: o * 0)
    try:
        assert not alike(plan_of(changing).layers["two"], wanted.layers["two"])
    except DeployError:
        pass


class Named(neuron.IFNode):
    """A subclass that is the same neuron."""

    def __init__(self, *args, threshold: float = 0.7, **settings) -> None:
        super().__init__(*args, v_threshold=threshold, **settings)


class Learnable(neuron.SimpleLIFNode):
    def __init__(self, **settings) -> None:
        super().__init__(2.0, True, **settings)
        del self.v_threshold
        self.v_threshold = nn.Parameter(torch.tensor(0.3))


class EachChannel(neuron.SimpleIFNode):
    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        del self.v_threshold
        self.v_threshold = nn.Parameter(torch.linspace(0.4, 1.4, 6).reshape(6, 1, 1))


class Another(neuron.LIFNode):
    def single_step_functional_forward(self, inputs, states, **settings):
        return super().single_step_functional_forward((inputs[0] * 2,), states, **settings)


@pytest.mark.parametrize("node", [Named, Learnable, EachChannel])
def test_subclasses_that_are_the_same_neurons_import(node):
    images = (torch.rand(6, 1, 8, 8) * 16).round() / 16
    _, _, rows, _ = both(Net(plain, node=node), images)
    assert all(r.float_rate > 0.01 for r in rows) and rows[0].alone > 0.99 and rows[1].alone > 0.97


NODES = {
    "another": (Another, {}, "changes LIFNode"),
    "EIF": (neuron.EIFNode, {}, "EIFNode is not supported: its voltage grows exponentially"),
    "KLIF": (neuron.KLIFNode, {}, "KLIFNode is not supported: it scales"),
    "QIF": (neuron.QIFNode, {}, "QIFNode is not supported: .*square"),
    "infinite": (neuron.IFNode, {"v_threshold": float("inf")}, "threshold is inf"),
    "below": (neuron.IFNode, {"v_threshold": -0.5}, "not above v_reset"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NODES)
def test_other_neurons_are_refused_by_name_and_reason(kind):
    node, settings, said = NODES[kind]
    with pytest.raises(DeployError, match=said):
        plan_of(Net(plain, node=node, surrogate_function=surrogate.ATan(), **settings))


def test_neurons_that_start_elsewhere_are_refused():
    net = Net(plain)
    net.two.set_reset_value("v", 0.5)
    with pytest.raises(DeployError, match=r"two: starts at v = 0\.5"):
        plan_of(net)


class Shared(nn.Module):
    """One pool at two places, one convolution at two places, averages to a size, a container."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.a, self.c = SeqToANNContainer(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)), nn.Conv2d(6, 6, 3, padding=1)
        self.one, self.two, self.three = (neuron.IFNode(step_mode="m") for _ in range(3))
        self.pool, self.to_size, self.fc = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Linear(24, 10)
        self.a[0].weight.data.mul_(3)
        self.c.weight.data.mul_(3)

    def forward(self, x):
        x = self.two(flat(self.c, flat(self.pool, self.one(self.a(steps(x))))))
        x = self.three(flat(self.c, flat(self.pool, x)))
        return self.fc(flat(self.to_size, x).flatten(2)).mean(0)


def test_shared_layers_without_state_and_containers_import():
    images = (torch.rand(6, 1, 16, 16) * 16).round() / 16
    _, _, rows, graph = both(Shared().eval(), images)
    assert [r.name for r in rows] == ["one", "pool", "two", "pool.2", "three"]
    assert np.array_equal(graph.ops["two"].weight.shape, graph.ops["three"].weight.shape) and min(r.alone for r in rows) > 0.97


def test_a_sequence_model_takes_images_for_every_step():
    net = Net(lambda s, x: s.fc(s.two(flat(s.d, s.lif(flat(s.c, x)))).flatten(2)))
    plan, _, form = read(net, IMAGES, T)
    assert form == "sequence" and same_net(plan, plan_of(Net(plain))) and plan.layers["lif"].inputs[0].sources == (IMAGE,)
