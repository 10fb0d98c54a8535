"""The class scores: whatever linear maps and means stand after the last neurons become one table of weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from spikegate.convert.spikingjelly.gating import met
from spikegate.convert.spikingjelly.plan import IMAGE, Head, HeadPart, Refused, Synapses
from spikegate.convert.spikingjelly.reading import kind_of
from spikegate.convert.spikingjelly.signals import Beside, Current, Logits, Node, Signal, Spikes
from spikegate.convert.spikingjelly.summing import members, rows_of
from spikegate.graph.ir import INPUT


def head_of(reader: Any, x: Signal) -> Head:
    """The head of a net whose output is `x`: scores [T, B, classes], or [B, classes]."""
    if x.index.dim() not in (2, 3):
        raise Refused(f"the output has shape {tuple(x.index.shape)}", "return class scores [B, classes] or [T, B, classes]")
    ids, base, scale = members(x)
    base = met(reader, Signal(base, ids)).node
    rows = rows_of(ids.reshape(-1, *ids.shape[-2:]), base.size, reader.batch)
    samples, everything = torch.arange(reader.batch), tuple(range(reader.timesteps))
    before = base.steps if isinstance(base, Logits) and base.merged else ()  # summed before a linear layer: its bias is a share already
    if rows.merged or before or (isinstance(base, Current) and base.constant):
        steps, ordered = before or rows.steps or everything, samples
    else:
        times = torch.unique(rows.which // reader.batch)
        steps, ordered = tuple(times.tolist()), (times[:, None] * reader.batch + samples).flatten()
    if not torch.equal(rows.which, ordered):
        raise Refused("the output's rows are not the samples in order", "return class scores [B, classes] or [T, B, classes]")
    # scores of single timesteps count alike, so their sum is the answer either way
    weight = rows.spread(np.eye(ids.shape[-2]) * scale, base.size)
    head = _through(base, weight.reshape(len(weight), base.positions, base.channels), np.zeros(len(weight)))
    if steps == everything:
        return head
    share = 1.0 if before else len(steps) / reader.timesteps
    image = None if head.image is None else head.image.scaled(share)
    return dataclasses.replace(head, bias=head.bias * share, image=image, steps=steps)


def _through(node: Node, weight: np.ndarray, bias: np.ndarray) -> Head:
    """Scores ``weight . node + bias`` in terms of spikes; weight is [classes, positions, channels]."""
    if isinstance(node, Spikes):
        if INPUT in node.sources:
            raise Refused("class scores straight from the events, without neurons", "put neurons between")
        return Head([HeadPart(node.sources, weight, node.grid)], bias)
    if isinstance(node, Logits):
        flat = weight.reshape(len(weight), -1)
        return _through(node.base, np.tensordot(flat, node.weight, 1), bias + flat @ node.bias)
    if isinstance(node, Beside):
        apart, at = [], 0
        for part in node.parts:
            apart.append(HeadPart(part.sources, weight[:, :, at : at + part.channels], node.grid))
            at += part.channels
        return Head(apart, bias)
    if not isinstance(node, Current):
        raise Refused(f"class scores from {kind_of(node)}", "end with a linear layer on spikes")
    parts: dict[tuple[str, ...], HeadPart] = {}
    for s in node.inputs:
        inner, more = _before(s, weight)
        bias = bias + more
        if s.sources in parts:
            parts[s.sources].weight += inner
        else:
            parts[s.sources] = HeadPart(s.sources, inner, s.grid)
    image = parts.pop((IMAGE,), None)
    if not parts:
        raise Refused("class scores straight from the image, without neurons", "there is nothing for a chip to do")
    return Head(list(parts.values()), bias, None if image is None else _from_image(image))


def _from_image(part: HeadPart) -> Synapses:
    """The part as a convolution as large as the image."""
    kernel = part.weight.reshape(len(part.weight), *part.grid, -1).transpose(0, 3, 1, 2)
    return Synapses((IMAGE,), np.ascontiguousarray(kernel), np.zeros(len(kernel)), part.grid)


def _before(s: Synapses, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weights, bias) on the spikes of a linear map whose currents are read with `weight` [classes, positions, channels]."""
    h, w = s.out_grid
    maps = torch.from_numpy(weight.reshape(len(weight), h, w, -1).transpose(0, 3, 1, 2).copy())
    spare = [g + 2 * p - ((o - 1) * s.stride + k) for g, p, o, k in zip(s.grid, s.padding, (h, w), s.weight.shape[2:])]
    back = torch.nn.functional.conv_transpose2d(maps, torch.from_numpy(s.weight), None, s.stride, 0, 0, s.groups)
    back = torch.nn.functional.pad(back, (0, spare[1], 0, spare[0]))
    back = back[:, :, s.padding[0] : s.padding[0] + s.grid[0], s.padding[1] : s.padding[1] + s.grid[1]]
    inner = back.permute(0, 2, 3, 1).reshape(len(weight), s.grid[0] * s.grid[1], -1).numpy()
    bias_map = s.bias.reshape(len(s.bias), -1)
    return inner, np.einsum("kpc,cp->k", weight, np.broadcast_to(bias_map, (len(bias_map), h * w)))
