"""Random SpikingJelly models: each is read as a net whose every layer spikes as the model's own, or is refused by name and reason.

The comparison here is not the importer's own: what was read is run by itself, layer after layer, and its class scores are held against
the model's forward on images that the import did not see.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.plan import IMAGE, Attention, Gate, Neurons, Plan, Pool
from spikegate.errors import DeployError

WRONG = (
    torch.relu, lambda x: x.transpose(-1, -2), lambda x: x * x.mean(), lambda x: x + 0.1 * torch.rand(1), lambda x: x.roll(1, -4),
    lambda x: x if x.sum() > 3 else x * 0, lambda x: torch.cummax(x, -1)[0], lambda x: x.round(), lambda x: x * 0.5,
)  # fmt: skip
MODELS = 320
AT_ONCE = 40
SIZE = 8


class Random(nn.Module):
    """A random chain of blocks; `log` says what was drawn."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.T, self.log = int(self.rng.integers(1, 5)), []
        self.mode = self.pick("m", "m", "s")
        self.first = self.pick("conv", "conv", "linear", "neurons", "pooled", "normed")
        self.on_image = self.pick(None, None, lambda x: (x - 0.4) / 0.3, lambda x: 1 - x, lambda x: x - torch.linspace(0, 1, SIZE))
        self.parts, self.blocks, self.maps = nn.ModuleList(), [], True
        self.channels, self.size = int(self.rng.integers(1, 3)), SIZE
        self.images = self.channels
        self.stem()
        for _ in range(int(self.rng.integers(1, 4))):
            self.block()
        self.ending = self.pick("mean", "sum", "votes", "tokens", "spikes", "steps", "pooled")
        self.end()
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                m.weight.data.mul_(float(self.rng.uniform(1.5, 4)))
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.normal_(0, 0.3), m.running_var.uniform_(0.3, 2)
                m.weight.data.uniform_(0.5, 2), m.bias.data.normal_(0, 0.3)
        self.eval()

    def pick(self, *options):
        chosen = options[int(self.rng.integers(len(options)))]
        self.log.append(str(chosen))
        return chosen

    def add(self, m: nn.Module) -> nn.Module:
        self.parts.append(m)
        return m

    def node(self) -> nn.Module:
        reset = self.pick(0.0, 0.0, 0.0, -0.3, None)
        common = {"v_threshold": float(self.rng.uniform(0.3, 1.2)), "v_reset": reset, "step_mode": self.mode}
        kind = self.pick("if", "lif", "plif", "slow", "exp" if self.rng.random() < 0.05 else "if")
        if kind == "if":
            return self.add(neuron.IFNode(**common))
        if kind == "plif":
            return self.add(
                neuron.ParametricLIFNode(init_tau=float(self.rng.uniform(1.2, 4)), decay_input=bool(self.rng.random() < 0.5), **common)
            )
        if kind == "exp":
            return self.add(neuron.EIFNode(surrogate_function=surrogate.ATan(), **{**common, "v_reset": 0.0}))
        tau = 2.0 if kind == "lif" else float(self.rng.uniform(1.3, 5))
        return self.add(neuron.LIFNode(tau=tau, decay_input=bool(self.rng.random() < 0.5), **common))

    def still(self, m):
        """A layer without state on [T, B, ...] or, in step mode 's', on [B, ...]."""
        if self.mode == "s":
            return m
        how = self.rng.integers(3)
        if how == 0:
            return lambda x: m(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if how == 1:
            return lambda x: functional.seq_to_ann_forward(x, m)
        return lambda x: torch.stack([m(v) for v in x])

    def conv(self, out: int, stride: int = 1) -> list:
        kernel = self.pick(1, 3, 3, 5)
        groups = 2 if self.channels % 2 == 0 and out % 2 == 0 and self.rng.random() < 0.2 else 1
        way = self.pick("module", "module", "function", "padded")
        c = self.add(nn.Conv2d(self.channels, out, kernel, stride, kernel // 2, groups=groups, bias=bool(self.rng.random() < 0.5)))
        if way == "function":
            found = [self.still(lambda x: F.conv2d(x, c.weight, c.bias, stride, kernel // 2, 1, groups))]
        elif way == "padded":
            found = [self.still(lambda x: F.conv2d(F.pad(x, (kernel // 2,) * 4), c.weight, c.bias, stride, 0, 1, groups))]
        else:
            found = [self.still(c)]
        self.size = (self.size + 2 * (kernel // 2) - kernel) // stride + 1
        self.channels = out
        if self.rng.random() < 0.5:
            found.append(self.still(self.add(nn.BatchNorm2d(out))))
        return found

    def stem(self) -> None:
        out = int(self.rng.integers(3, 7))
        if self.first == "linear":
            features = self.channels * SIZE * SIZE
            linear = self.add(nn.Linear(features, 8))
            self.blocks += [self.still(nn.Flatten()), self.still(linear), self.node()]
            self.maps, self.channels = False, 8
        elif self.first == "neurons":
            self.blocks += [self.node()]
        else:
            if self.first == "pooled":
                self.blocks.append(self.still(nn.AvgPool2d(2)))
                self.size //= 2
            if self.first == "normed":
                self.blocks.append(self.still(self.add(nn.BatchNorm2d(self.channels))))
            self.blocks += [*self.conv(out, self.pick(1, 2)), self.node()]

    def block(self) -> None:
        if not self.maps:
            linear = self.add(nn.Linear(self.channels, 8))
            self.channels = 8
            self.blocks += [self.still(linear), self.node()]
            return
        kind = self.pick("plain", "plain", "pool", "average", "add", "and", "iand", "currents", "beside", "chunk", "flat", "wrong", "part")
        if kind == "wrong" and self.rng.random() < 0.6:
            kind = "plain"
        c = self.channels
        if kind in ("pool", "average") and self.size >= 2:
            self.blocks.append(self.still(nn.MaxPool2d(2) if kind == "pool" else nn.AvgPool2d(2)))
            self.size //= 2
            self.blocks += [*self.conv(int(self.rng.integers(3, 7))), self.node()]
        elif kind in ("add", "and", "iand"):
            f = [*self.conv(c), self.node()]
            joined = {"add": lambda x, y: x + y, "and": lambda x, y: x * y, "iand": lambda x, y: x * (1.0 - y)}[kind]
            self.blocks.append(lambda x: joined(x, through(f, x)))
            if kind == "add":
                self.blocks += [*self.conv(4), self.node()]
        elif kind == "currents":
            f = self.conv(c)
            g, n = [self.node(), *self.conv(c)], self.node()
            self.blocks.append(lambda x: n(through(f, x) + through(g, through(f, x))))
        elif kind == "beside":
            f = [*self.conv(c), self.node()]
            axis = -3
            self.blocks.append(lambda x: torch.cat([x, through(f, x)], axis))
            self.channels = 2 * c
            self.blocks += [*self.conv(4), self.node()]
        elif kind == "chunk":
            f = [*self.conv(2 * c), self.node()]
            self.channels = c
            self.blocks.append(lambda x: (lambda y: y[0] + y[1])(through(f, x).chunk(2, -3)))
            self.blocks += [*self.conv(4), self.node()]
        elif kind == "part":
            keep = max(1, c // 2)
            self.blocks.append(lambda x: x[..., :keep, :, :])
            self.channels = keep
            self.blocks += [*self.conv(4), self.node()]
        elif kind == "wrong":
            wrong = self.pick(*WRONG)
            self.blocks += [wrong, *self.conv(4), self.node()]
        else:
            self.blocks += [*self.conv(int(self.rng.integers(3, 7))), self.node()]

    def end(self) -> None:
        if not self.maps:
            self.tail = [self.still(self.add(nn.Linear(self.channels, 10)))]
        elif self.ending == "tokens":
            self.tail = [lambda x: x.flatten(-2).mean(-1), self.still(self.add(nn.Linear(self.channels, 10)))]
        elif self.ending == "pooled":
            to = int(self.rng.integers(1, 4))
            linear = self.add(nn.Linear(self.channels * to * to, 10))
            self.tail = [self.still(nn.AdaptiveAvgPool2d(to)), lambda x: x.flatten(-3), self.still(linear)]
        else:
            linear = self.add(nn.Linear(self.channels * self.size**2, 10 if self.ending != "votes" else 20))
            self.tail = [lambda x: x.flatten(-3), self.still(linear)]
            if self.ending == "votes":
                self.tail += [self.node(), self.add(layer.VotingLayer(2, step_mode=self.mode))]
            elif self.ending == "spikes":
                self.tail.append(self.node())

    def forward(self, x):
        x = x if self.on_image is None else self.on_image(x)
        if self.mode == "m":
            out = through([*self.blocks, *self.tail], x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
            return out[-1] if self.ending == "steps" and self.rng_last else out.mean(0) if self.ending != "sum" else out.sum(0)
        total = 0
        for _ in range(self.T):
            total = total + through([*self.blocks, *self.tail], x)
        return total / self.T

    @property
    def rng_last(self) -> bool:
        return self.T % 2 == 0


def through(f: list, x: torch.Tensor) -> torch.Tensor:
    for g in f:
        x = g(x)
    return x


def scores(plan: Plan, images: torch.Tensor) -> torch.Tensor:
    """The plan by itself in float64, timestep by timestep, from the image to the class scores."""
    state: dict[str, torch.Tensor] = {}
    total = torch.zeros(len(images), len(plan.head.bias), dtype=torch.float64)
    counted = plan.head.steps or range(plan.timesteps)
    for t in range(plan.timesteps):
        now = {IMAGE: images.double()}
        for name, op in plan.layers.items():
            if isinstance(op, Pool):
                now[name] = F.max_pool2d(now[op.source], op.kernel, op.stride, op.padding)
                continue
            assert isinstance(op, Neurons) and not isinstance(op, Attention | Gate)
            x = sum(product(s, now) for s in op.inputs)
            v = op.neuron.keep * state.get(name, torch.zeros_like(x)) + op.neuron.gain * x
            now[name] = (v >= op.neuron.threshold - 1e-9).double()
            state[name] = v - op.neuron.threshold * now[name] if op.neuron.soft else v * (1 - now[name])
        for p in plan.head.parts if t in counted else ():
            total += sum(now[n] for n in p.sources).flatten(2).transpose(1, 2).flatten(1) @ torch.from_numpy(p.weight).flatten(1).T
        total += torch.from_numpy(plan.head.bias)
        if plan.head.image is not None:
            total += product(plan.head.image, now).flatten(1)
    return total


def product(s, now) -> torch.Tensor:
    x = sum(now[n] for n in s.sources)
    y = F.conv2d(x, torch.from_numpy(np.ascontiguousarray(s.weight)), None, s.stride, s.padding, 1, s.groups)
    return y + torch.from_numpy(np.array(s.bias)).reshape(len(s.bias), *(s.bias.shape[1:] or (1, 1)))


def outcome(seed: int) -> str:
    """What becomes of a random model: taken, or the reason why not. Fails where the net that was read is another one."""
    model = Random(seed)
    images = torch.rand(2, model.images, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    try:
        plan, _, form = read(model, images, 1 if model.T == 1 else None)  # a loop of one timestep is none
    except DeployError as e:
        said = str(e)
        assert "hint:" in said and "could be read" not in said, said
        return "refused: " + said.split(":", 1)[1].strip().splitlines()[0][:60]
    others = torch.rand(5, model.images, SIZE, SIZE, generator=torch.Generator().manual_seed(seed + 10**6))
    model.double()
    functional.reset_net(model)
    with torch.no_grad():
        theirs = model(others.double())
    ours = scores(plan, others)
    factor = float((ours * theirs).sum() / (ours * ours).sum()) if ours.any() else 1.0
    assert form in ("image", "step") and factor > 0
    assert torch.allclose(factor * ours, theirs, atol=1e-6 * float(theirs.abs().max()) + 1e-9), f"{seed}: {model.log}"
    return "taken"


@pytest.mark.parametrize("start", range(0, MODELS, AT_ONCE))
def test_random_models_are_the_same_net_or_are_refused(start):
    found = Counter(outcome(seed) for seed in range(start, start + AT_ONCE))
    assert found["taken"] >= AT_ONCE // 2 and len(found) > 1, found
