"""One spiking layer (convolution, norm, leaky neurons) in several programs, with the same shapes and first parameters."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from spikegate.train.layers.base import Moment
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.layers.slayer_import import slayer

Step = Callable[[], torch.Tensor]  # one forward and backward pass; returns the spikes [T, batch, channels, rows, columns]
PLAIN = "plain torch"  # the row that the others are compared with


@dataclass(frozen=True)
class Shape:
    """A layer's shape. Inputs are spikes [T, batch, channels, grid, grid], every fifth one set."""

    channels: int
    grid: int
    kernel: int
    timesteps: int
    batch: int

    @property
    def text(self) -> str:
        what = f"{self.channels} channels, {self.grid}x{self.grid}, {self.kernel}x{self.kernel} kernel"
        return f"{what}, {self.timesteps} timesteps, batch {self.batch}"


SHAPES = (Shape(64, 14, 3, 4, 64), Shape(128, 7, 1, 4, 64), Shape(64, 7, 3, 4, 64), Shape(32, 4, 1, 4, 64))


class ArcTan(torch.autograd.Function):
    """``u > theta`` with the arctan surrogate of width theta."""

    @staticmethod
    def forward(ctx, u, theta):
        ctx.save_for_backward(u)
        ctx.theta = theta
        return (u > theta).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad / ctx.theta / (1 + (torch.pi * (u - ctx.theta) / ctx.theta) ** 2), None


class PlainLayer(nn.Module):
    """A surrogate-gradient layer as one writes it: ``conv2d``, ``batch_norm``, a Python loop over time, hard detached reset."""

    def __init__(self, weight: torch.Tensor, theta: float) -> None:
        super().__init__()
        out = len(weight)
        self.weight, self.theta = nn.Parameter(weight.clone()), theta
        self.norm = nn.BatchNorm2d(out)
        nn.init.constant_(self.norm.weight, theta / 2)

    def currents(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(F.conv2d(x.flatten(0, 1), self.weight, None, 1, self.weight.shape[-1] // 2))
        return y.unflatten(0, x.shape[:2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.currents(x)
        v, spikes = torch.zeros_like(y[0]), []
        for current in y:
            u = 0.5 * v + current
            s = ArcTan.apply(u, self.theta)
            spikes.append(s)
            v = u * (1 - s.detach())
        return torch.stack(spikes)


def spikingjelly_layer(weight: torch.Tensor, theta: float) -> nn.Module:
    """The same with spikingjelly's multi-step neuron, torch backend; raises ImportError where it is not installed."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    class Layer(PlainLayer):
        def __init__(self) -> None:
            super().__init__(weight, theta)
            self.lif = neuron.LIFNode(
                2.0, decay_input=False, v_threshold=theta, v_reset=0.0, surrogate_function=surrogate.ATan(2.0), detach_reset=True,
                step_mode="m",
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            functional.reset_net(self.lif)
            return self.lif(self.currents(x))

    return Layer()


def steps(shape: Shape) -> tuple[dict[str, Step], list[str]]:
    """Passes by program, and what was left out and why. All learn from the same gradient, also that of their input."""
    torch.manual_seed(0)
    c, g, k = shape.channels, shape.grid, shape.kernel
    x = (torch.rand(shape.timesteps, shape.batch, c, g, g) < 0.2).float()
    grad = torch.randn(x.shape)
    found, left_out = {}, []
    for label, phase, half in (
        ("spikegate, float", "float", False), ("spikegate, deployed", "deployed", False),
        ("spikegate, float, bfloat16", "float", True), ("spikegate, deployed, bfloat16", "deployed", True),
    ):  # fmt: skip
        torch.manual_seed(1)
        layer = SpikingConv(c, c, k, (g, g))
        layer.name, layer.operands = "layer", torch.bfloat16 if half else None
        weight, theta = layer.weight.detach(), layer.block.neuron.threshold
        tokens = x.flatten(3).transpose(2, 3).contiguous()
        with statistics_of_last_batch(layer), torch.no_grad():
            _ours(layer, tokens)
        layer.phase = phase
        found[label] = _step(layer, tokens, grad.flatten(3).transpose(2, 3).contiguous(), _ours, (0, 1, 3, 2))
    found[PLAIN] = _step(PlainLayer(weight, theta), x, grad, lambda m, t: m(t))
    if importlib.util.find_spec("spikingjelly") is None:
        left_out.append("spikingjelly: not installed")
    else:
        found["spikingjelly, LIFNode"] = _step(spikingjelly_layer(weight, theta), x, grad, lambda m, t: m(t))
    neuron = {"threshold": 2.0, "current_decay": 1.0, "voltage_decay": 0.5, "norm": slayer.neuron.norm.WgtScaleBatchNorm}
    # its norm makes the currents about 1 wide: a threshold of two widths, as in the others
    block = slayer.block.cuba.Conv(neuron, c, c, k, padding=k // 2, delay_shift=False)
    block.synapse.weight.data = weight.unsqueeze(-1).clone()
    order = (1, 2, 3, 4, 0)
    found["lava-dl, cuba.Conv"] = _step(
        block, x.permute(order).contiguous(), grad.permute(order).contiguous(), lambda m, t: m(t), (4, 0, 1, 2, 3)
    )
    return found, left_out


@contextmanager
def statistics_of_last_batch(module: nn.Module) -> Iterator[None]:
    """Within it each pass sets the running statistics to those of its batch; the deployed form folds them."""
    norms = [m for m in module.modules() if isinstance(m, FoldedNorm)]
    before = [n.momentum for n in norms]
    for norm in norms:
        norm.momentum = 1.0
    yield
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum


def _ours(layer: SpikingConv, x: torch.Tensor) -> torch.Tensor:
    layer.prepare()
    return layer({"x": [x]}, Moment(1, len(x), len(x)))


def _step(
    module: nn.Module,
    x: torch.Tensor,
    grad: torch.Tensor,
    call: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    order: tuple[int, ...] | None = None,
) -> Step:
    """A pass of `module` on `x`, gradients from `grad`; `order` brings the spikes to [T, batch, channels, ...]."""
    x = x.detach().requires_grad_()

    def step() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        x.grad = None
        spikes = call(module, x)
        spikes.backward(grad)
        return spikes.detach() if order is None else spikes.detach().permute(order)

    return step
