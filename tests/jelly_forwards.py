"""A small net of SpikingJelly and the many ways to write its forward."""

from __future__ import annotations

import numpy as np
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn
from torch.nn import functional as F

from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.plan import Plan
from spikegate.convert.spikingjelly.signals import alike

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


def last_alone(s, x):
    return s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x)))))[-1].flatten(1))


def first_alone(s, x):
    return s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x)))))[0].flatten(1))


def uneven_steps(s, x):
    y = s.fc(s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2))
    return y.sum(0) + y[-1]
