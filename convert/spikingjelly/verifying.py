"""Proof of a plan in floats: on images that it was not read from, each layer must spike as the model's own.

Each layer gets the spikes that the model's layers before it sent, and its neurons are reset where the model's were, so that an error
shows in the layer that makes it. The model computes in float32: where a voltage lies as near to the threshold as that rounds, either
answer is right.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from spikegate.convert.spikingjelly.plan import IMAGE, Attention, FloatNeuron, Gate, Layer, Mixing, Neurons, Plan, Pool, Problem, Synapses
from spikegate.graph.ir import INPUT

NEAR = 1e-4  # share of threshold and input that float32 may be off
HINT = "the forward does something there that cannot be followed: use torch's layers and SpikingJelly's neurons as they are"

Maps = dict[str, torch.Tensor]  # [T * N, channels, height, width], float64


def check(plan: Plan, spikes: dict[str, np.ndarray], images: torch.Tensor, scores: torch.Tensor) -> list[Problem]:
    """What differs between the plan and the model that sent `spikes` [T, N, positions, channels] for images [N, C, H, W] or frames."""
    steps, n = plan.timesteps, len(images)
    maps = {name: _maps(torch.from_numpy(s).double(), plan.layers[name].grid) for name, s in spikes.items() if name in plan.layers}
    if plan.events:
        maps[INPUT] = images.double().transpose(0, 1).flatten(0, 1)
    else:
        maps[IMAGE] = images.double().repeat(steps, 1, 1, 1)
    found = []
    for name, layer in plan.layers.items():
        drive, neuron = _drive(layer, maps)
        theirs = maps[name].unflatten(0, (steps, n))
        wrong = _differing(drive.unflatten(0, (steps, n)), theirs, neuron)
        if wrong:
            what = f"the model sends other spikes than what was read of it ({wrong} of {theirs.numel()} differ)"
            found.append(Problem(name, what, HINT))
    if plan.head is not None and not found:
        ours = _scores(plan, maps, steps, n)
        theirs = scores.double()
        factor = float((ours * theirs).sum() / (ours * ours).sum().clamp(min=1e-300)) if ours.any() else 0.0
        if ours.shape != theirs.shape or bool(((ours * factor - theirs).abs() > 1e-3 * theirs.abs().max() + 1e-6).any()) or factor < 0:
            found.append(Problem("output", "the model's class scores are other ones than what was read of it", HINT))
    return found


def _maps(spikes: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """[T, N, positions, channels] as maps."""
    return spikes.flatten(0, 1).transpose(1, 2).unflatten(2, grid)


def _product(s: Synapses, maps: Maps) -> torch.Tensor:
    x = sum(maps[name] for name in s.sources)
    y = F.conv2d(x, torch.from_numpy(np.ascontiguousarray(s.weight)), None, s.stride, s.padding, 1, s.groups)  # type: ignore[arg-type]
    return y + torch.from_numpy(np.array(s.bias).reshape(len(s.bias), *(s.bias.shape[1:] or (1, 1))))


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Maps as [rows, heads, positions, width]."""
    return x.flatten(2).unflatten(1, (heads, -1)).transpose(-1, -2)


def _drive(layer: Layer, maps: Maps) -> tuple[torch.Tensor, FloatNeuron | None]:
    """What the layer's neurons receive, as maps; or the spikes themselves where nothing is rounded."""
    if isinstance(layer, Neurons):
        return sum(_product(s, maps) for s in layer.inputs), layer.neuron  # type: ignore[return-value]
    if isinstance(layer, Pool):
        return F.max_pool2d(maps[layer.source], layer.kernel, layer.stride, layer.padding), None
    if isinstance(layer, Attention):
        q, k, v = (_heads(maps[name], layer.heads) for name in (layer.q, layer.k, layer.v))
        y = q @ (k.transpose(-1, -2) @ v) * layer.scale
        return y.transpose(-1, -2).flatten(1, 2).unflatten(2, layer.grid), layer.neuron
    if isinstance(layer, Mixing):
        x = _heads(sum(maps[name] for name in layer.sources), len(layer.weight))  # type: ignore[arg-type]
        y = torch.from_numpy(layer.weight) @ x
        return y.transpose(-1, -2).flatten(1, 2).unflatten(2, layer.grid), layer.neuron
    assert isinstance(layer, Gate)
    q, k = maps[layer.slots["q"]], maps[layer.slots["k"]]
    if layer.kind == "sdsa":
        return q * ((k * maps[layer.slots["v"]]).sum((2, 3), keepdim=True) > 0), None
    if layer.kind == "qk_channel_gate":
        return k * (q.sum((2, 3), keepdim=True) > 0), None
    bits = (q.unflatten(1, (layer.heads, -1)).sum(2, keepdim=True) > 0).double()
    return (k.unflatten(1, (layer.heads, -1)) * bits).flatten(1, 2), None


def _differing(drive: torch.Tensor, theirs: torch.Tensor, neuron: FloatNeuron | None) -> int:
    """Cells [T, ...] that spike otherwise, but for ties with the threshold."""
    if drive.shape != theirs.shape:
        return theirs.numel()
    if neuron is None:
        return int((drive.bool() != theirs.bool()).sum())
    v, wrong = torch.zeros_like(drive[0]), 0
    near = NEAR * (neuron.threshold + neuron.gain * float(drive.abs().max()))
    for x, fired in zip(drive, theirs):
        v = neuron.keep * v + neuron.gain * x
        if neuron.step:
            level = v / neuron.step - 0.5
            clear = (level - level.round()).abs() * neuron.step > near
            wrong += int((((v / neuron.step).round().clamp(0, neuron.levels) != fired) & clear).sum())
            v = v - neuron.step * fired
            continue
        wrong += int((((v >= neuron.threshold).double() != fired) & ((v - neuron.threshold).abs() > near)).sum())
        v = v - neuron.threshold * fired if neuron.soft else v * (1 - fired)
    return wrong


def _scores(plan: Plan, maps: Maps, steps: int, n: int) -> torch.Tensor:
    assert plan.head is not None
    total = torch.zeros(n, len(plan.head.bias), dtype=torch.float64) + steps * torch.from_numpy(plan.head.bias)
    for p in plan.head.parts:
        x = sum(maps[name] for name in p.sources).unflatten(0, (steps, n))  # type: ignore[union-attr]
        x = x[list(plan.head.steps or range(steps))].sum(0)
        total += torch.einsum("kpc,ncp->nk", torch.from_numpy(p.weight), x.flatten(2))
    if plan.head.image is not None:
        total += steps * _product(plan.head.image, maps)[:n].flatten(1)
    return total
