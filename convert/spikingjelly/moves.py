"""Calls that only move elements: what happens to the tensor happens to its index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from spikegate.convert.spikingjelly.plan import Refused
from spikegate.convert.spikingjelly.signals import Signal, signals_in, with_signals

SHAPES = {"expand_as", "view_as", "reshape_as", "type_as"}  # of another tensor only its shape counts
STILL = {
    "to_float", "to", "type", "double", "half", "bfloat16", "contiguous", "clone", "detach", "cpu", "cuda", "alias", "get:data",
    "requires_grad", "type_as", "identity", "positive", "get:real",
}  # fmt: skip
MOVES = {
    "reshape", "view", "flatten", "unflatten", "permute", "transpose", "t", "adjoint", "movedim", "unsqueeze", "squeeze", "expand",
    "repeat", "tile", "broadcast_to", "chunk", "split", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind", "getitem", "select",
    "narrow", "unfold", "flip", "roll", "repeat_interleave", "index_select", "take_along_dim", "swapdims", "ravel", "diagonal",
    "atleast_1d", "atleast_2d", "atleast_3d", "get:T", "get:mT", "get:H", "get:mH", "rot90", "pixel_shuffle", "pixel_unshuffle",
    "channel_shuffle", "split_with_sizes", "take",
} | SHAPES | STILL  # fmt: skip


def move(name: str, func: Callable, args: tuple, kwargs: dict, result: Any) -> Any:
    """Signals in the shape of `result`."""
    if name not in SHAPES and signals_in((args[1:], kwargs)):
        raise Refused("picks elements by another tensor", "the order of elements must be static")
    first = args[0]
    if name in STILL:
        return Signal(first.node, first.index)
    own = with_signals((args, kwargs), lambda s: s.index.clone())
    moved = func(*own[0], **own[1])
    if isinstance(moved, torch.Tensor):
        return Signal(first.node, moved)
    return [Signal(first.node, i) for i in moved]
