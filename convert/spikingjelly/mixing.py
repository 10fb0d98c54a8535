"""Matrices of constants across tokens: recognised by the elements that they take, joined head by head, then neurons on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.plan import FloatNeuron, Mixing, Refused
from spikegate.convert.spikingjelly.signals import Mixed, Signal, Spikes


def across_tokens(x: Signal) -> bool:
    """Whether the last axis holds all tokens of one channel each, in order."""
    node, index = x.node, x.index
    if not isinstance(node, Spikes) or 1 in (node.positions, node.channels) or index.shape[-1] != node.positions:
        return False
    start = index[..., :1]
    first = bool((start % node.size < node.channels).all())
    return first and torch.equal(index, start + torch.arange(node.positions) * node.channels)


def mix(x: Signal, matrices: torch.Tensor) -> Signal:
    """``M x`` on the last axis, the tokens; `matrices` [.., out, tokens] fit the leading axes as in a matrix product."""
    node, index = x.node, x.index
    assert isinstance(node, Spikes)
    if matrices.shape[-2] != node.positions:
        raise Refused(f"mixes {node.positions} tokens into {matrices.shape[-2]}", "a mixing matrix keeps the number of tokens")
    lead = matrices.shape[:-2]
    which = torch.arange(int(np.prod(lead))).reshape(*lead, 1).expand(index.shape[:-1])
    channel = index[..., 0] % node.channels
    table = torch.full((node.channels,), -1)
    table[channel] = which
    if not torch.equal(table[channel], which):
        raise Refused("mixes the tokens of one channel by several matrices", "one matrix for each head, the same for all samples")
    flat = matrices.detach().double().reshape(-1, *matrices.shape[-2:]).numpy()
    return Signal(Mixed(node.positions, node.channels, node.grid, node.sources, flat, table), index)


def linear(x: Signal, weight: torch.Tensor, bias: torch.Tensor | None) -> Signal:
    """A linear layer on the tokens."""
    if bias is not None and bool(bias.any()):
        raise Refused("mixes tokens with a bias for each token", "leave the bias out: a mixing matrix has none")
    return mix(x, weight)


def joined(nodes: list[Mixed]) -> Mixed:
    """Mixed channels of one map, head by head, as one."""
    first = nodes[0]
    table, matrices, n = torch.full((first.channels,), -1), [], 0
    for node in nodes:
        if (node.sources, node.positions, node.channels) != (first.sources, first.positions, first.channels):
            raise Refused("joins mixed tokens of several maps", "mix each map by itself, then neurons")
        here = node.which >= 0
        if bool((table[here] >= 0).any()):
            raise Refused("joins a channel twice", "mix each channel's tokens once")
        table[here] = node.which[here] + n
        matrices.append(node.matrices)
        n += len(node.matrices)
    return Mixed(first.positions, first.channels, first.grid, first.sources, np.concatenate(matrices), table)


def layer_of(name: str, node: Mixed, neuron: FloatNeuron) -> Mixing:
    """The plan's layer; heads are the longest runs of channels, all alike, that share a matrix."""
    which = node.which.numpy()
    if (which < 0).any():
        raise Refused(f"neurons on {int((which >= 0).sum())} of {node.channels} channels with their tokens mixed", "mix all channels")
    wide = next(w for w in range(node.channels, 0, -1) if node.channels % w == 0 and _runs(which, w))
    return Mixing(name, (node.positions, node.channels), node.grid, node.sources, np.asarray(node.matrices)[which[::wide]], neuron)


def _runs(which: Any, wide: int) -> bool:
    return bool((which.reshape(-1, wide) == which[::wide, None]).all())
