"""Matrix products: spiking self-attention, matrices of constants."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from spikegate.convert.spikingjelly import mixing, summing
from spikegate.convert.spikingjelly.firing import part_of
from spikegate.convert.spikingjelly.plan import Refused
from spikegate.convert.spikingjelly.reading import kind_of
from spikegate.convert.spikingjelly.signals import Attended, Product, Signal, Spikes, numbers, slice_bases

HINT = "attention takes q, k, v [.., heads, tokens, width] of spikes: q k^T v, in either order"


def times_constants(reader: Any, a: Any, b: Any) -> Signal:
    """Matrix product of a signal and constants: tokens mixed, or a linear layer."""
    x, matrix = (a, b) if isinstance(a, Signal) else (b, a)
    left = x is b
    if not isinstance(matrix, torch.Tensor) or matrix.dim() < 2 or x.index.dim() < 2:
        raise Refused("multiplies by a matrix of constants", "use a linear layer")
    turned = Signal(x.node, x.index.transpose(-1, -2)) if left else x
    rows = matrix if left else matrix.transpose(-1, -2)
    if mixing.across_tokens(turned):
        out = mixing.mix(turned, rows)
    elif matrix.dim() == 2:
        out = summing.linear(reader, part_of(reader, turned), rows.detach().double().numpy(), None)
    else:
        raise Refused("multiplies by several matrices of constants along another axis than the tokens", "use linear layers")
    return Signal(out.node, out.index.transpose(-1, -2) if left else out.index)


def _slices(x: Signal, across: bool) -> torch.Tensor | None:
    """First number of each head slice [.., positions, width] (or, `across`, [.., width, positions])."""
    index = x.index.transpose(-1, -2) if across else x.index
    return slice_bases(index.reshape(-1, *index.shape[-2:]), x.node)


def matmul(a: Signal, b: Signal, shape: torch.Size) -> Signal:
    """q k^T, k^T v, and the second product; or all of it transposed, ``A B = (B^T A^T)^T``."""
    try:
        return _product(a, b, shape)
    except Refused as e:
        turned = torch.Size([*shape[:-2], shape[-1], shape[-2]])
        try:
            out = _product(_turned(b), _turned(a), turned)
        except Refused:
            raise e from None
        return _turned(out)


def _turned(x: Signal) -> Signal:
    return Signal(x.node, x.index.transpose(-1, -2))


def _product(a: Signal, b: Signal, shape: torch.Size) -> Signal:
    x, y = a.node, b.node
    if isinstance(x, Spikes) and isinstance(y, Spikes):
        for order, across in (("qk", (False, True)), ("kv", (True, False))):
            i, j = _slices(a, across[0]), _slices(b, across[1])
            if i is not None and j is not None and torch.equal(i, j):
                width = a.index.shape[-2] if across[0] else a.index.shape[-1]
                node = Product(x.positions, x.channels, x.grid, order, x.one, y.one, i, width)
                return Signal(node, numbers(shape))
        raise Refused("multiplies spike maps in an order that is no attention's", HINT)
    product, other = (a, b) if isinstance(x, Product) else (b, a)
    if not isinstance(product.node, Product) or not isinstance(other.node, Spikes):
        raise Refused(f"multiplies {kind_of(x)} by {kind_of(y)}", HINT)
    p, bases = product.node, _slices(other, False)
    turned = _turned(product).index
    if torch.equal(turned, numbers(turned.shape)) and not torch.equal(product.index, numbers(product.index.shape)):
        p = dataclasses.replace(p, first=p.second, second=p.first)  # (A^T B)^T = B^T A
    elif not torch.equal(product.index, numbers(product.index.shape)):
        bases = None
    right_side = (p.order == "qk") == (product is a)
    if bases is None or not torch.equal(bases, p.bases) or not right_side:
        raise Refused("multiplies an attention's product in an order that is no attention's", HINT)
    q, k, v = (p.first, p.second, other.node.one) if p.order == "qk" else (other.node.one, p.first, p.second)
    attended = Attended(p.positions, p.channels, p.grid, q, k, v, p.channels // p.width, p.scale)
    inside = torch.arange(p.positions).reshape(-1, 1) * p.channels + torch.arange(p.width)
    return Signal(attended, (bases.reshape(-1, 1, 1) + inside).reshape(shape))
