"""Ways in which users of SpikingJelly write a forward: each imports as the plain form of the same net, or is refused by the true reason."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import encoding, functional, neuron

from spikegate.errors import DeployError
from tests.foreign_import import both
from tests.jelly_forwards import (
    LOOPS,
    SAME,
    Net,
    T,
    by_step,
    dropout_and_identity,
    flat,
    last_alone,
    loop,
    loop_with_a_list,
    plain,
    plan_of,
    same_net,
    steps,
    uneven_steps,
)


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


def weighted_steps(s, x):
    y = s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2))
    return (y * torch.arange(1.0, T + 1).reshape(T, 1, 1)).mean(0)


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
    file = "jelly_forwards.py:" if way in (hidden, through_another_name) else "test_spikingjelly_idioms.py:"  # in `plain`, in `flat`
    assert file in str(caught.value) or "output" in str(caught.value)


def test_feedback_in_a_loop_is_refused():
    with pytest.raises(DeployError, match=r"two: is called (at several places|4 times)|two: its input|two: .*other layers before it"):
        plan_of(Net(feedback, "s"))


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
