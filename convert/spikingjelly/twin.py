"""The integer graph in torch: a check that shares no code with the engine, and what fine-tuning differentiates through.

Signals are float32 tensors that hold the ops' integers; all stay below 2^24, so every sum and shift is exact, and decays are
taken in float64. Gradients go straight through every rounding; a neuron's is an arctan's (alpha 2) of the threshold's width,
with the reset detached.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from spikegate.convert.spikingjelly.scaling import BIAS_MAX
from spikegate.engine.integer import Recorder, done_of
from spikegate.engine.record import Record
from spikegate.graph.ir import INPUT, DeployError, Graph
from spikegate.neurons.cuba import DECAY_ONE, LIMIT, MANT_SHIFT, Cuba
from spikegate.synapses.synapse import WEIGHT_MAX, WEIGHT_MIN, pair

Inputs = dict[str, Any]
SYNAPTIC = ("conv", "current", "readout", "token_mix")  # ops with weights


class _Spend(torch.autograd.Function):
    """Spikes of neurons that subtract: as many as it takes for the voltage to fall to the threshold, at most `levels`."""

    @staticmethod
    def forward(ctx: Any, above: torch.Tensor, width: float, step: float, levels: int) -> torch.Tensor:
        ctx.save_for_backward(above)
        ctx.constants = width, step, levels
        return torch.stack([(above > k * step).to(above.dtype) for k in range(levels)]).sum(0)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (above,), (width, step, levels) = ctx.saved_tensors, ctx.constants
        slopes = torch.stack([1 / (1 + (math.pi * (above - k * step) / width) ** 2) / width for k in range(levels)])
        return grad * slopes.sum(0), None, None, None


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, above: torch.Tensor, width: float) -> torch.Tensor:
        ctx.save_for_backward(above)
        ctx.width = width
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (above,) = ctx.saved_tensors
        return grad / (1 + (math.pi * above / ctx.width) ** 2) / ctx.width, None


def _straight(x: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    return x + (to - x).detach()


def even(x: torch.Tensor) -> torch.Tensor:
    """Even 8-bit weights, straight-through."""
    clipped = x.clamp(WEIGHT_MIN, WEIGHT_MAX)
    return _straight(clipped, 2 * torch.round(clipped / 2))


def whole(x: torch.Tensor) -> torch.Tensor:
    """13-bit biases, straight-through."""
    clipped = x.clamp(-BIAS_MAX, BIAS_MAX)
    return _straight(clipped, torch.round(clipped))


def neurons(current: torch.Tensor, state: dict[str, torch.Tensor], name: str, n: Cuba) -> torch.Tensor:
    """One timestep of `spikegate.neurons.cuba.Cuba` with a current that decays fully; `current` in mantissas, bias included."""
    v = state.get(name)
    drive = current * (1 << MANT_SHIFT)
    if v is not None:
        keep = (DECAY_ONE - n.v_decay) / DECAY_ONE
        drive = drive + _straight(v * keep, torch.trunc(v.double() * keep).float())
    v = drive.clamp(1 - LIMIT, LIMIT - 1)
    theta, step, levels = (float(n.rule[0]), float(n.rule[1]), n.levels)
    if step:
        spikes = _Spend.apply(v - theta, theta, step, levels)
        state[name] = v - step * spikes.detach()
        return spikes
    spikes = _Fire.apply(v - theta, theta)
    state[name] = v * (1 - spikes.detach())
    return spikes


class GraphTwin(nn.Module):
    """Torch twin of a graph without halting. `latent` are weights and biases before rounding, by op; left out, the graph's own."""

    def __init__(self, graph: Graph, latent: dict[str, tuple[np.ndarray, np.ndarray]] | None = None) -> None:
        super().__init__()
        self.graph = graph
        for name, op in graph.ops.items():
            if op.kind not in RUN:
                hint = "compare the other targets: --targets int,lava"
                raise DeployError(name, f"the torch form of imported nets has no {op.kind}", hint)
            if isinstance(getattr(op, "neuron", None), Cuba) and op.neuron.i_decay != DECAY_ONE:  # type: ignore[attr-defined]
                raise DeployError(name, "its current decays slowly", "compare the other targets: --targets int,lava")
        self.names = {n: n.replace(".", "/") for n, op in graph.ops.items() if op.kind in SYNAPTIC}
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        for name, key in self.names.items():
            synaptic: Any = graph.ops[name]
            weight, bias = (latent or {}).get(name, (synaptic.weight, getattr(synaptic, "bias", np.zeros(0))))
            self.weights[key] = nn.Parameter(torch.as_tensor(np.asarray(weight, np.float32)))
            self.biases[key] = nn.Parameter(torch.as_tensor(np.asarray(bias, np.float32)))
        self.wiring = {n: graph.sources(n) for n in graph.ops}

    def integers(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Rounded weights and bias of an op."""
        return even(self.weights[self.names[name]]), whole(self.biases[self.names[name]])

    def forward(self, embedded: torch.Tensor, record: dict[str, list[torch.Tensor]] | None = None) -> torch.Tensor:
        """Class accumulators after the last timestep [N, classes] from the host's integers [N, positions, channels], or frames."""
        state: dict[str, torch.Tensor] = {}
        held = {n: self.integers(n) for n in self.names}
        x0, framed = embedded.float(), embedded.dim() > 1 + len(self.graph.input_shape)
        for t in range(self.graph.timesteps):
            now = x0[:, t] if framed else x0 if t == 0 else torch.zeros_like(x0)  # the host sends an image once
            signals = {INPUT: now}
            for name, op in self.graph.ops.items():
                inputs = {s: [signals[e.source] for e in edges] for s, edges in self.wiring[name].items()}
                signals[name] = RUN[op.kind](op, name, inputs, state, held.get(name))
                if record is not None:
                    record.setdefault(name, []).append(signals[name])
        return state["readout"]

    def to_graph(self) -> Graph:
        """The graph with the weights and biases as they stand now."""
        ops = dict(self.graph.ops)
        for name in self.names:
            weight, bias = (v.detach().round().numpy().astype(np.int32) for v in self.integers(name))
            made = {"weight": weight, "bias": bias} if hasattr(ops[name], "bias") else {"weight": weight}
            ops[name] = dataclasses.replace(ops[name], **made)  # type: ignore[type-var]
        return dataclasses.replace(self.graph, ops=ops)


def trace_graph(graph: Graph, embedded: np.ndarray, batch: int = 64) -> Record:
    """Record of the host's integers [N, positions, channels] through the torch twin; it counts no events."""
    twin, recorder = GraphTwin(graph), Recorder(graph, len(embedded), spikes=True)
    with torch.no_grad():
        for start in range(0, len(embedded), batch):
            seen: dict[str, list[torch.Tensor]] = {}
            x = torch.from_numpy(embedded[start : start + batch])
            twin(x, seen)
            rows = np.arange(len(x))  # those that go on
            for t in range(1, graph.timesteps + 1):
                now = {n: v[t - 1][rows].round().int().numpy() for n, v in seen.items()}
                stamp = np.full(len(rows), t)
                done = done_of(graph, now, stamp)
                recorder.signals(start + rows, stamp, now)
                recorder.ended(start + rows, stamp, done)
                rows = rows[~done]
                if not len(rows):
                    break
    return recorder.record(counts=False)


def _total(sources: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(sources).sum(0) if len(sources) > 1 else sources[0]


def _image(x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    return x.reshape(len(x), *grid, -1).permute(0, 3, 1, 2)


def _product(op: Any, x: torch.Tensor, held: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    y = F.conv2d(_image(x, op.grid), held[0], None, op.stride, pair(op.padding), 1, op.groups)
    return y.flatten(2).transpose(1, 2) + held[1]


def _conv(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    return neurons(_product(op, _total(inputs["x"]), held), state, name, op.neuron)


def _current(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    return _product(op, _total(inputs["x"]), held)


def _lif(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    return neurons(_total([*inputs.get("current", []), *inputs.get("x", [])]), state, name, op.neuron)


def _inject(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    return state.setdefault(name, _total(inputs["x"]))


def _max_pool(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    y = F.max_pool2d(_image(inputs["x"][0], op.grid), op.kernel, op.stride, op.padding)
    return y.flatten(2).transpose(1, 2)


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attention(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    q, k, v = (_heads(inputs[s][0], op.heads) for s in "qkv")
    y = (q @ k.transpose(-1, -2)) @ v
    return neurons(y.transpose(1, 2).flatten(2) * (1 << op.exponent), state, name, op.neuron)


def _reached(n: torch.Tensor) -> torch.Tensor:
    return _Fire.apply(n - 0.5, 1.0)


def _token_mix(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    split = _heads(_total(inputs["x"]), op.heads)
    return neurons((held[0] @ split).transpose(1, 2).flatten(2), state, name, op.neuron)


def _sdsa(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    q, k, v = (inputs[s][0] for s in "qkv")
    return q * _reached((k * v).sum(1, keepdim=True))


def _channel_gate(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    return inputs["k"][0] * _reached(inputs["q"][0].sum(1, keepdim=True))


def _token_gate(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    q, k = (inputs[s][0].unflatten(-1, (op.heads, -1)) for s in "qk")
    return (k * _reached(q.sum(-1, keepdim=True))).flatten(2)


def _readout(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    weight, bias = held
    z = F.linear(_total(inputs["x"]).flatten(1), weight.flatten(1), bias)
    for more in (*inputs.get("current", []), *inputs.get("direct", [])):
        z = z + more[:, 0]
    state["readout"] = state["readout"] + z if "readout" in state else z
    return state["readout"]


def _route(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    x = _total(inputs["x"])[..., op.first : op.first + op.count]
    (h, w), f = op.grid, op.fold
    y = x.reshape(len(x), h // f, f, w // f, f, op.count).permute(0, 1, 3, 2, 4, 5).reshape(len(x), -1, f * f * op.count)
    return F.pad(y, (op.at, op.channels - op.at - y.shape[-1]))


def _window(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    t = state[name] = state.get(name, 0) + 1
    return _total(inputs["x"]) * float(op.mask[t - 1])


def _exit(op: Any, name: str, inputs: Inputs, state: Any, held: Any) -> torch.Tensor:
    t, logits = state.get(name, 0) + 1, inputs["logits"][0]
    state[name] = t
    done = torch.full_like(logits[:, 0], float(t == op.timesteps))
    if t < op.timesteps and op.classes > 1:
        top = logits.topk(2, 1).values
        done = (top[:, 0] - top[:, 1] >= float(op.margin[t - 1])).to(logits.dtype)
    return torch.stack([done, logits.argmax(1).float()], 1)


RUN: dict[str, Any] = {
    "conv": _conv, "current": _current, "lif": _lif, "membrane": _lif, "inject": _inject, "max_pool": _max_pool, "sdsa": _sdsa,
    "spiking_attention": _attention, "qk_channel_gate": _channel_gate, "qk_token_gate": _token_gate, "readout": _readout,
    "exit_gate": _exit, "route": _route, "token_mix": _token_mix,
    "step_window": _window,
}  # fmt: skip
