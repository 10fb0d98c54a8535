"""What linear layers on maps do to a signal: checks that the elements arrive in the order that the layer means, and makes currents."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch.nn import functional as F

from spikegate.convert.spikingjelly.plan import IMAGE, Refused, Synapses, after_average
from spikegate.convert.spikingjelly.signals import Beside, Complement, Current, Image, Node, Padded, Reduced, Signal, Spikes, map_bases

NEURONS_BETWEEN = "put neurons between: on chip only spikes travel"
ORDER = "the layer must take whole maps [.., channels, height, width] of one sample and timestep each"
WORDS = {
    "Current": "currents that went through no neurons", "Product": "an attention's product", "Attended": "an attention's product",
    "Met": "a product of spikes", "Mixed": "mixed tokens that went through no neurons", "Gated": "a gate", "Reduced": "sums",
    "Logits": "class scores", "Image": "the image", "Complement": "1 - spikes", "Padded": "a map with a border of zeros",
    "Beside": "spikes of several layers side by side",
}  # fmt: skip


def sources_of(node: Node) -> tuple[str, ...]:
    """What feeds a linear map of this node."""
    if isinstance(node, Image):
        return (IMAGE,)
    if isinstance(node, Spikes):
        return node.sources
    raise Refused(f"takes {kind_of(node)}", NEURONS_BETWEEN)


def fed_by(base: Node, weight: np.ndarray, bias: np.ndarray) -> list[tuple[tuple[str, ...], np.ndarray, np.ndarray]]:
    """What feeds a linear map with these weights [out, in, ...]: (sources, weights, bias) for each part of spikes side by side."""
    if not isinstance(base, Beside):
        return [(sources_of(base), weight, bias)]
    found, at = [], 0
    for part in base.parts:
        found.append((part.sources, weight[:, at : at + part.channels], bias if not at else np.zeros_like(bias)))
        at += part.channels
    return found


def kind_of(node: Node) -> str:
    """A node in words."""
    return WORDS.get(type(node).__name__, "spikes")


def symmetric(weight: np.ndarray, pads: tuple[int, int, int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """(weights, padding) with the same border on both sides; weights of 0 take the place of what that adds."""
    top, bottom, left, right = pads
    p, q = max(top, bottom), max(left, right)
    return np.pad(weight, ((0, 0), (0, 0), (p - top, p - bottom), (q - left, q - right))), (p, q)


def conv(x: Signal, weight: np.ndarray, bias: np.ndarray, stride: int, padding: tuple[int, int], groups: int, name: str) -> Signal:
    """Convolution of maps [rows, channels, height, width]; the result's index is [rows, out, height, width] too."""
    node, step = x.node, stride
    bases = map_bases(x.index, node)
    pads = padding[0], padding[0], padding[1], padding[1]
    if isinstance(node, Padded):
        pads = tuple(a + b for a, b in zip(pads, node.pads))  # type: ignore[assignment]
        node = node.base
    weight, padding = symmetric(weight, pads)
    base = node
    if isinstance(node, Reduced) and node.window and isinstance(node.base, Spikes | Image):
        kernel, apart = node.window
        base = node.base
        whole = kernel == apart and base.grid == (node.grid[0] * apart, node.grid[1] * apart)
        if padding != (0, 0) and not whole:
            raise Refused("a padded convolution of averages whose windows do not tile the map", "use windows that tile it, or no padding")
        weight, padding = after_average(weight, padding, kernel, apart)
        weight, step = weight * (node.scale * kernel**2), stride * apart
    if isinstance(base, Beside) and groups > 1:
        weight, groups = Synapses((), weight, bias, base.grid, groups=groups).rows(np.arange(len(weight))).weight, 1
    fed = fed_by(base, weight, bias)
    if bases is None:
        raise Refused("its input is not in order", ORDER)
    inputs = tuple(seen(base, Synapses(sources, w, b, base.grid, step, padding, groups, name)) for sources, w, b in fed)
    return from_maps(bases, Current(0, 0, (0, 0), inputs))


def seen(base: Node, s: Synapses) -> Synapses:
    """The map as it is on the plain image, where it reads ``gain * image + shift``; a border of zeros keeps its zeros."""
    if not isinstance(base, Image) or ((base.gain == 1).all() and not base.shift.any()):
        return s
    out, per = s.weight.shape[:2]
    channel = np.arange(out)[:, None] // (out // s.groups) * per + np.arange(per)
    bias = s.bias
    if base.shift.any():
        still = torch.from_numpy(base.shift.T.reshape(1, -1, *base.grid).copy())
        more = F.conv2d(still, torch.from_numpy(s.weight), None, s.stride, s.padding, 1, s.groups)[0].numpy()
        bias = bias.reshape(out, *bias.shape[1:] or (1, 1)) + more
        if (bias == bias[:, :1, :1]).all():
            bias = bias[:, 0, 0]
    return dataclasses.replace(s, weight=s.weight * base.gain[channel][:, :, None, None], bias=bias)


def from_maps(bases: torch.Tensor, node: Node) -> Signal:
    """Maps [rows, channels, height, width] of a fresh node; sizes of a current come from its synapses."""
    if isinstance(node, Current):
        node.grid = node.inputs[0].out_grid
        node.positions, node.channels = node.grid[0] * node.grid[1], len(node.inputs[0].weight)
    h, w = node.grid
    inside = torch.arange(h * w).reshape(1, 1, h, w) * node.channels + torch.arange(node.channels).reshape(1, -1, 1, 1)
    return Signal(node, bases.reshape(-1, 1, 1, 1) * node.size + inside)


def as_current(x: Signal) -> Signal:
    """Spikes, the image, or averages of them over windows, as currents: one synapse for each."""
    node = x.node
    if isinstance(node, Current):
        return x
    if isinstance(node, Complement):
        spikes = as_current(Signal(node.source, x.index))
        inputs = tuple(s.scaled(-1.0, 1.0) for s in spikes.node.inputs)  # type: ignore[attr-defined]
        return Signal(Current(node.positions, node.channels, node.grid, inputs), x.index)
    if isinstance(node, Beside):
        at, placed = 0, []
        for part in node.parts:
            s = as_current(Signal(part, x.index)).node.inputs[0]  # type: ignore[attr-defined]
            placed.append(s.placed(at, node.channels))
            at += part.channels
        return Signal(Current(node.positions, node.channels, node.grid, tuple(placed)), x.index)
    if isinstance(node, Reduced) and node.window and isinstance(node.base, Spikes | Image):
        (k, step), base = node.window, node.base
        weight = np.full((node.channels, 1, k, k), node.scale)
        s = Synapses(sources_of(base), weight, np.zeros(node.channels), base.grid, step, (0, 0), node.channels)
        synapses = seen(base, s)
    else:
        ones = np.ones((node.channels, 1, 1, 1))
        synapses = seen(node, Synapses(sources_of(node), ones, np.zeros(node.channels), node.grid, groups=node.channels))
    return Signal(Current(node.positions, node.channels, node.grid, (synapses,)), x.index)


def affine(x: Signal, gain: np.ndarray, shift: np.ndarray) -> Signal:
    """``gain x + shift``: gain [channels], shift [positions, channels]."""
    node = x.node
    if isinstance(node, Image):
        return Signal(Image(node.positions, node.channels, node.grid, node.gain * gain, node.shift * gain + shift), x.index)
    if not isinstance(node, Current | Spikes | Complement | Beside) and not (isinstance(node, Reduced) and node.window):
        raise Refused(f"scales or shifts {kind_of(node)}", "do that behind a linear layer")
    x = as_current(x)
    first, *rest = x.node.inputs  # type: ignore[attr-defined]
    own: np.ndarray = shift[0]
    if (shift != own).any():
        hosts = [s for s in x.node.inputs if s.from_image]  # type: ignore[attr-defined]
        if not hosts:
            what = "adds a constant that differs from position to position (a position embedding)"
            raise Refused(what, "learn it as a bias for each channel, or as a convolution of the map, and train again")
        first, rest = hosts[0], [s for s in x.node.inputs if s is not hosts[0]]  # type: ignore[attr-defined]
        own = shift.T.reshape(node.channels, *node.grid)
        first = dataclasses.replace(first, bias=np.broadcast_to(first.bias.reshape(len(own), *first.bias.shape[1:] or (1, 1)), own.shape))
    inputs = (first.scaled(gain, own), *(s.scaled(gain) for s in rest))
    return Signal(Current(node.positions, node.channels, node.grid, inputs), x.index)


def normalised(x: Signal, gain: np.ndarray, shift: np.ndarray) -> Signal:
    """A normalisation, whose channels are axis 1."""
    c = x.node.channels
    if isinstance(x.node, Reduced) and not x.node.window:
        raise Refused("normalises sums", "normalise after a linear layer")
    if (
        x.index.dim() < 2
        or x.index.shape[1] != c
        or not torch.equal(*torch.broadcast_tensors(x.index % max(c, 1), _axis1(c, x.index.dim())))
    ):
        raise Refused("its axis 1 does not hold the channels in order", "normalise maps [.., channels, positions]")
    return affine(x, gain, np.broadcast_to(shift, (x.node.positions, c)))


def _axis1(channels: int, dims: int) -> torch.Tensor:
    return torch.arange(channels).reshape(1, -1, *[1] * (dims - 2))


def padded(x: Signal, pads: tuple[int, int, int, int], shape: torch.Size) -> Signal:
    """Maps with a border of zeros."""
    node = x.node
    bases = map_bases(x.index.reshape(-1, *x.index.shape[-3:]), node) if x.index.dim() > 2 else None
    if bases is None:
        raise Refused("puts a border around maps that are not in order", ORDER)
    if not isinstance(node, Spikes | Image | Reduced | Beside) or min(pads) < 0:
        raise Refused(f"puts a border around {kind_of(node)}", "pad whole maps of spikes or the image, on all sides by 0 or more")
    h, w = shape[-2:]
    around = Padded(h * w, node.channels, (h, w), node, pads)
    return Signal(around, from_maps(bases, around).index.reshape(shape))
