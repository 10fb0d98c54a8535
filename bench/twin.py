"""A net's float twin in SpikingJelly: the same layers and weights as float32, multi-step neurons, every token and timestep.

Made from the exported graph without its halting, norms folded into the convolutions as one would for inference. SpikingJelly has no
halting, so the twin has none. Raises ImportError where SpikingJelly is not installed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from spikegate.graph.ir import INPUT, DeployError, Graph


def convolution(op) -> nn.Conv2d:
    """`torch.nn.Conv2d` with an op's integer weights and biases, in mantissa units."""
    out, per, kh, kw = op.weight.shape
    layer = nn.Conv2d(per * op.groups, out, (kh, kw), op.stride, op.padding, groups=op.groups)
    layer.weight.data = torch.from_numpy(op.weight.astype(np.float32))
    layer.bias.data = torch.from_numpy(op.bias.astype(np.float32))
    return layer


class FloatTwin(nn.Module):
    """Maps are [T, batch, channels, height, width]; what the embedding does once has no T."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional, neuron

        self.graph, self.forget = graph.without_halting(), functional.reset_net
        self.convs, self.lifs = nn.ModuleDict(), nn.ModuleDict()
        self.inputs = {n: [(e.slot, e.source) for e in self.graph.edges if e.target == n] for n in self.graph.ops}
        self.grids = {}
        for name, op in self.graph.ops.items():
            key = name.replace(".", "/")
            if op.kind in ("conv", "level_conv"):
                self.convs[key] = convolution(op)
            if op.kind in ("conv", "lif", "biased", "spiking_attention"):
                if (op.neuron.i_decay, op.neuron.v_decay) != (4096, 2048):  # type: ignore[attr-defined]
                    raise DeployError(name, "has neurons of another kind", "the float twin knows tau 2")
                theta = op.neuron.vth / (1 << getattr(op, "exponent", 0)) + 0.01  # type: ignore[attr-defined]  # strict against SpikingJelly's >=
                self.lifs[key] = neuron.LIFNode(2.0, decay_input=False, v_threshold=theta, v_reset=0.0, step_mode="m")
            elif op.kind not in ("level_conv", "inject", "biased", "readout", "exit_gate"):
                raise DeployError(name, f"kind {op.kind} has no float twin", "give a Spikformer or STAS net")
        head = self.graph.ops[self.graph.only("readout")[0]]
        self.head = nn.Parameter(torch.from_numpy(head.weight.transpose(0, 2, 1).astype(np.float32)), requires_grad=False)  # type: ignore[attr-defined]
        self.head_bias = nn.Parameter(torch.from_numpy(head.bias.astype(np.float32)), requires_grad=False)  # type: ignore[attr-defined]

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes] of the host's integers [batch, positions, channels]."""
        self.forget(self.lifs)
        steps, found = self.graph.timesteps, {INPUT: embedded}
        grid = next(op.grid for op in self.graph.ops.values() if op.kind in ("conv", "level_conv"))  # type: ignore[attr-defined]
        found[INPUT] = embedded.float().transpose(1, 2).unflatten(2, grid)
        for name, op in self.graph.ops.items():
            key, given = name.replace(".", "/"), [found[s] for slot, s in self.inputs[name] if slot == "x"]
            x = given[0] if given else None
            for more in given[1:]:
                x = x + more
            if op.kind == "level_conv":
                found[name] = torch.clamp(torch.floor(self.convs[key](x) / op.theta), 0, op.levels)  # type: ignore[attr-defined]
            elif op.kind == "inject":
                found[name] = x.expand(steps, *x.shape)
            elif op.kind == "biased":
                found[name] = self.lifs[key](x.expand(steps, *x.shape))
            elif op.kind == "lif":
                found[name] = self.lifs[key](x)
            elif op.kind == "conv":
                found[name] = self.lifs[key](self.convs[key](x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            elif op.kind == "spiking_attention":
                slots = dict(self.inputs[name])
                found[name] = self.attention(key, op, *(found[slots[s]] for s in "qkv"))
            elif op.kind == "readout":
                found[name] = torch.tensordot(x.sum(0).flatten(2), self.head, ([1, 2], [1, 2])) + steps * self.head_bias
        return found[self.graph.only("readout")[0]]

    def attention(self, key: str, op, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Q (K^T V), the cheaper order, in heads."""
        q, k, v = (m.flatten(3).unflatten(2, (op.heads, -1)) for m in (q, k, v))  # [T, batch, heads, width, tokens]
        y = (v @ k.transpose(3, 4)) @ q
        return self.lifs[key](y.flatten(2, 3).unflatten(3, self.grid_of(op.tokens)))

    def grid_of(self, tokens: int) -> tuple[int, int]:
        return next(op.out_grid for op in self.graph.ops.values() if op.kind == "conv" and op.out_shape[0] == tokens)  # type: ignore[attr-defined]


def agreement(twin: FloatTwin, graph: Graph, embedded: np.ndarray) -> float:
    """Share of samples for which the twin and the integer net without halting predict the same class."""
    from spikegate.engine import integer

    with torch.no_grad():
        theirs = twin(torch.from_numpy(embedded)).argmax(1).numpy()
    return float((integer.run(graph.without_halting(), embedded).prediction == theirs).mean())
