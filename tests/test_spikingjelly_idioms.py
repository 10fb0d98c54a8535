"""Ways in which users of SpikingJelly write a forward: each imports as the plain form of the same net, or is refused by the true reason."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import encoding, functional, layer, neuron, surrogate
from spikingjelly.activation_based.layer import SeqToANNContainer

from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.plan import IMAGE, Plan
from spikegate.convert.spikingjelly.signals import alike
from spikegate.errors import DeployError
from tests.foreign_import import both

T = 4
IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(5))


class Net(nn.Module):
    """Convolution, neurons, convolution, neurons, linear layer; `way` is its forward."""

    def __init__(self, way=None, step_mode: str = "m", node=neuron.IFNode, **settings) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.way = way
        self.c, self.d, self.fc = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(384, 10)
        self.lif, self.two = (node(step_mode=step_mode, **settings) for _ in range(2))
        self.drop, self.same = nn.Dropout(0.5), nn.Identity()
        for m in (self.c, self.d):
            m.weight.data.mul_(3)
        self.eval()

    def forward(self, x):
        return self.way(self, x)


def steps(x: torch.Tensor) -> torch.Tensor:
    return x.unsqueeze(0).repeat(T, 1, 1, 1, 1)


def flat(f, x: torch.Tensor) -> torch.Tensor:
    return f(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def plain(s, x):
    return s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2)).mean(0)


def once_for_all_steps(s, x):
    return s.fc(s.two(flat(s.d, s.lif(steps(s.c(x))))).flatten(2)).mean(0)


def sequence_to_network(s, x):
    y = functional.seq_to_ann_forward(steps(x), s.c)
    return s.fc(s.two(functional.seq_to_ann_forward(s.lif(y), [s.d, s.same])).flatten(2)).mean(0)


def checks_of_shapes(s, x):
    if len(x.shape) == 4:
        x = steps(x)
    assert x.dim() == 5 and x.ndim == 5 and x.shape[0] == T and x.size(2) == 1 and x.numel() == len(x) * x[0].numel(), "shape"
    time, batch, channels, *size = x.shape
    y = s.lif(s.c(x.view(time * batch, channels, *size)).view(time, batch, 6, *size))
    return s.fc(torch.flatten(s.two(s.d(y.flatten(0, 1)).reshape_as(y)), 2)).mean(0)


def functions(s, x):
    y = s.lif(flat(lambda v: F.conv2d(v, s.c.weight, s.c.bias, padding=1), steps(x)))
    y = s.two(flat(lambda v: F.conv2d(F.pad(v, (1, 1, 1, 1)), s.d.weight, s.d.bias), y))
    y = F.dropout(y, 0.3, training=s.training)
    return F.linear(y.flatten(2), s.fc.weight, s.fc.bias).mean(0)


def matrix_product(s, x):
    y = s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2).mean(0)
    return torch.addmm(s.fc.bias, y, s.fc.weight.t())


def dropout_and_identity(s, x):
    return s.fc(s.drop(s.two(flat(s.d, s.same(s.drop(s.lif(flat(s.c, steps(x)))))))).flatten(2)).mean(0)


def summed(s, x):
    return s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2)).sum(0) / T


def changed_in_place(s, x):
    y = flat(s.c, steps(x))
    y *= 2
    y /= 2.0
    y = s.two(flat(s.d, s.lif(y)))
    y.unsqueeze_(0).squeeze_(0)
    return s.fc(y.flatten(2)).mean(0)


def by_step(s, x):
    return s.fc(s.two(s.d(s.lif(s.c(x)))).flatten(1))


def loop(s, x):
    out = 0.0
    for _ in range(T):
        out += by_step(s, x)
    return out / T


def loop_with_a_list(s, x):
    functional.reset_net(s)
    record = []
    for t in range(T):
        record.append(by_step(s, steps(x)[t]))
    return torch.stack(record).mean(0)


def loop_into_zeros(s, x):
    out = torch.zeros(len(x), 10)
    for _ in range(T):
        out = out + by_step(s, x)
    return out / T


def loop_over_a_sequence(s, x):
    return torch.stack([by_step(s, now) for now in steps(x)], 0).mean(0)


def loop_by_torch(s, x):
    return functional.multi_step_forward(steps(x), lambda v: by_step(s, v)).mean(0)


def loop_that_sums_spikes(s, x):
    total = None
    for _ in range(T):
        spikes = s.two(s.d(s.lif(s.c(x))))
        total = spikes if total is None else total + spikes
    return s.fc((total / T).flatten(1))


SAME = [
    once_for_all_steps,
    sequence_to_network,
    checks_of_shapes,
    functions,
    matrix_product,
    dropout_and_identity,
    summed,
    changed_in_place,
]
LOOPS = [loop, loop_with_a_list, loop_into_zeros, loop_over_a_sequence, loop_by_torch, loop_that_sums_spikes]


def plan_of(model: nn.Module, images: torch.Tensor = IMAGES, timesteps: int | None = None) -> Plan:
    return read(model, images, timesteps)[0]


def same_net(a: Plan, b: Plan) -> bool:
    """Layer for layer the same neurons and weights, and the same class scores up to a positive factor."""
    pairs = list(zip(a.layers.values(), b.layers.values(), strict=True))
    layers = all(
        alike(x.neuron, y.neuron) and all(np.array_equal(i.weight, j.weight) for i, j in zip(x.inputs, y.inputs)) for x, y in pairs
    )
    factor = a.head.parts[0].weight.std() / b.head.parts[0].weight.std()
    close = np.allclose(a.head.parts[0].weight, factor * b.head.parts[0].weight) and np.allclose(a.head.bias, factor * b.head.bias)
    return layers and close and a.timesteps == b.timesteps


@pytest.mark.parametrize("way", SAME, ids=lambda f: f.__name__)
def test_a_forward_may_be_written_in_many_ways(way):
    assert same_net(plan_of(Net(way)), plan_of(Net(plain)))


@pytest.mark.parametrize("way", LOOPS, ids=lambda f: f.__name__)
def test_loops_over_timesteps_in_python_are_the_net_without_a_loop(way):
    assert same_net(plan_of(Net(way, "s")), plan_of(Net(plain)))


def test_spikes_of_a_loop_are_those_of_the_net_without_one():
    """And the integers' agreement is the same, cell by cell."""
    images = torch.rand(6, 1, 8, 8)
    a, b = (both(net, images) for net in (Net(plain), Net(loop, "s")))
    assert all(np.array_equal(a[0][name], b[0][name]) for name in a[0]) and [r.agreement for r in a[2]] == [r.agreement for r in b[2]]
    assert min(r.alone for r in a[2]) > 0.97 and all(r.float_rate > 0 for r in a[2])


def feedback(s, x):
    now, out = s.lif(s.c(x)), 0
    for _ in range(T):
        now = s.two(s.d(now))
        out = out + s.fc(now.flatten(1))
    return out


def last_alone(s, x):
    return s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x)))))[-1].flatten(1))


def first_alone(s, x):
    return s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x)))))[0].flatten(1))


def weighted_steps(s, x):
    y = s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2))
    return (y * torch.arange(1.0, T + 1).reshape(T, 1, 1)).mean(0)


def uneven_steps(s, x):
    y = s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2))
    return y.sum(0) + y[-1]


def branch_on_values(s, x):
    return plain(s, x) if x.mean() > 0.3 else plain(s, x * 2)


@torch.jit.script
def scripted(v):
    return v * 2.0


def hidden(s, x):
    return plain(s, scripted(x))


def numpys(s, x):
    return plain(s, torch.from_numpy(x.numpy() * 2))


def random(s, x):
    return plain(s, x + 0.1 * torch.rand(1))


def poisson(s, x):
    return plain(s, encoding.PoissonEncoder()(x))


def voltage(s, x):
    s.two(flat(s.d, s.lif(flat(s.c, steps(x)))))
    return s.fc(s.two.v.flatten(1))


def through_another_name(s, x):
    y = s.c(x)
    z = y.view(y.shape)
    z += 1
    return s.fc(s.two(flat(s.d, s.lif(steps(y)))).flatten(2)).mean(0)


def ones_for_spikes(s, x):
    y = s.lif(flat(s.c, steps(x)))
    return s.fc(s.two(flat(s.d, (y > 0.5).float())).flatten(2)).mean(0)


def batch_as_channels(s, x):
    y = s.lif(flat(s.c, steps(x)))
    return s.fc(s.two(flat(s.d, y.flip(1))).flatten(2)).mean(0)


REFUSED = {
    weighted_steps: "differ between timesteps", branch_on_values: "Python numbers", hidden: "cannot be followed",
    numpys: "Python numbers", random: "random numbers", poisson: "random|not supported", voltage: "reads the voltage of two",
    through_another_name: "changed in place through another name", ones_for_spikes: "'gt' is not supported",
    batch_as_channels: "rows are not the samples in order",
}  # fmt: skip


@pytest.mark.parametrize("way", REFUSED, ids=lambda f: f.__name__)
def test_what_a_chip_cannot_do_is_refused_with_its_line(way):
    with pytest.raises(DeployError, match=REFUSED[way]) as caught:
        plan_of(Net(way))
    assert "test_spikingjelly_idioms.py:" in str(caught.value) or "output" in str(caught.value)


def test_feedback_in_a_loop_is_refused():
    with pytest.raises(DeployError, match=r"two: is called (at several places|4 times)|two: its input|two: .*other layers before it"):
        plan_of(Net(feedback, "s"))


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


# A refusal's hint leads on


def loops_with_one_layer_in_steps(s, x):
    return s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2)).mean(0)


def dropping(s, x):
    return s.fc(F.dropout(s.two(flat(s.d, s.lif(flat(s.c, steps(x)))))).flatten(2)).mean(0)


def into_zeros(s, x):
    spikes, out = s.lif(flat(s.c, steps(x))), torch.zeros(T, len(x), 6, 8, 8)
    for t in range(T):
        out[t] = s.d(spikes[t])
    return s.fc(s.two(out).flatten(2)).mean(0)


def mixed_modes() -> Net:
    net = Net(loops_with_one_layer_in_steps)
    net.two.step_mode = "s"
    return net


def elsewhere() -> Net:
    net = Net(plain)
    net.two.set_reset_value("v", 0.5)
    return net


def in_place_of(way, **settings):
    return lambda net: Net(way, **settings)


def mode_m(net: nn.Module) -> nn.Module:
    functional.set_step_mode(net, "m")
    return net


def at_reset(net: Net) -> Net:
    net.two.set_reset_value("v", 0.0)
    return net


HINTS = {
    "step modes": (mixed_modes, r"functional\.set_step_mode\(net, 'm'\)", mode_m),
    "start": (elsewhere, r"leave set_reset_value\('v', ...\) out", at_reset),
    "weights of timesteps": (lambda: Net(uneven_steps), "take the sum or mean over the timesteps that count", in_place_of(last_alone)),
    "neuron": (lambda: Net(plain, node=neuron.EIFNode), "train with LIFNode", in_place_of(plain, node=neuron.LIFNode, v_threshold=0.5)),
    "dropout": (lambda: Net(dropping), r"nn\.Dropout in place of F\.dropout", in_place_of(dropout_and_identity)),
    "written parts": (lambda: Net(into_zeros), r"torch\.stack", in_place_of(loop_with_a_list, step_mode="s")),
    "branch": (lambda: Net(branch_on_values), "leave it out", in_place_of(plain)),
    "poisson": (lambda: Net(poisson), "direct coding", in_place_of(plain)),
}


@pytest.mark.parametrize("kind", HINTS)
def test_following_a_hint_leads_on(kind):
    make, hint, follow = HINTS[kind]
    model = make()
    with pytest.raises(DeployError) as caught:
        plan_of(model)
    assert re.search(hint, str(caught.value)), str(caught.value)
    assert plan_of(follow(model)).head is not None


def test_a_model_of_single_steps_asks_for_their_number():
    with pytest.raises(DeployError, match="give --timesteps"):
        plan_of(Net(by_step, "s"))
    assert same_net(plan_of(Net(by_step, "s"), timesteps=T), plan_of(Net(plain)))
