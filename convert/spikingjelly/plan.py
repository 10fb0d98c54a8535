"""The float plan between a foreign net and the integer graph: layers of neurons, what feeds them, the head. NumPy only.

Maps are numbered as everywhere, (positions, channels) with positions row by row. `IMAGE` is the model's input image.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from spikegate.synapses.synapse import out_grid

IMAGE = "image"
Grid = tuple[int, int]


@dataclass(frozen=True)
class Problem:
    """What cannot be imported: where (module path), what, and what to do."""

    where: str
    what: str
    hint: str


class Refused(Exception):
    """Raised where a layer cannot be imported; the reader turns it into a `Problem` with its path."""

    def __init__(self, what: str, hint: str) -> None:
        self.what, self.hint = what, hint
        super().__init__(what)


@dataclass(frozen=True)
class FloatNeuron:
    r"""``v = keep v + gain x``, fires where ``v >= threshold``, then v = 0, or, with a `soft` reset, v - threshold.

    SpikingJelly's LIF has keep 1 - 1/tau and gain 1/tau (1 without decay_input); IF has 1 and 1. A hard reset to another
    value than 0 is the same neuron with v, and so the threshold, counted from there: it also leaks to that value.

    With a `step` (I-LIF) it sends ``round(v / step)``, at most `levels`, which takes as many steps from v; the threshold is half a step,
    and a voltage that equals it sends nothing.
    """

    keep: float
    gain: float
    threshold: float
    soft: bool = False
    step: float = 0.0
    levels: int = 1

    @property
    def fall(self) -> float:
        """What a spike of a soft reset takes from the voltage, in units of the input."""
        return (self.step or self.threshold) / self.gain

    @property
    def drive(self) -> float:
        """Threshold in units of the input: what constant x must reach at once."""
        return self.threshold / self.gain


@dataclass(frozen=True, eq=False)
class Synapses:
    """A linear map of spikes: convolution of the sum of `sources` and a bias; both float64."""

    sources: tuple[str, ...]
    weight: np.ndarray  # [out, in / groups, kh, kw]
    bias: np.ndarray  # [out], of the host also [out, height, width]
    grid: Grid
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    name: str = ""  # of the module that it was read from
    smooth: bool = False  # an average over positions: neighbouring weights are alike
    highs: tuple[int, ...] = ()  # the largest value of each source, where one is above 1

    @property
    def high(self) -> int:
        """The largest sum of the sources."""
        return sum(self.highs) or len(self.sources)

    @property
    def out_grid(self) -> Grid:
        return out_grid(self.grid, self.weight.shape[2:], self.stride, self.padding)  # type: ignore[arg-type]

    @property
    def from_image(self) -> bool:
        return self.sources == (IMAGE,)

    def scaled(self, gain: np.ndarray | float, shift: np.ndarray | float = 0.0) -> Synapses:
        """``gain * y + shift``, channel by channel."""
        gain = np.broadcast_to(np.asarray(gain, float), len(self.weight))
        axes = (slice(None), *[None] * (self.bias.ndim - 1))
        bias = self.bias * gain[axes] + np.broadcast_to(np.asarray(shift, float), len(self.weight))[axes]
        return dataclasses.replace(self, weight=self.weight * gain[:, None, None, None], bias=bias)

    def rows(self, chosen: np.ndarray) -> Synapses:
        """The map to these output channels alone; of a grouped one, with zeros where the groups have no synapses."""
        weight, groups = self.weight[chosen], 1
        if self.groups > 1:
            out, per, *kernel = self.weight.shape
            weight = np.zeros((len(chosen), per * self.groups, *kernel))
            for i, row in enumerate(chosen):
                start = int(row) * self.groups // out * per
                weight[i, start : start + per] = self.weight[row]
        return dataclasses.replace(self, weight=weight, bias=self.bias[chosen], groups=groups)

    def by_source(self) -> list[Synapses]:
        """A map for each source, ``W (x + y) = W x + W y``; the first has the bias."""
        highs = self.highs or (1,) * len(self.sources)
        first, *rest = (dataclasses.replace(self, sources=(source,), highs=(high,)) for source, high in zip(self.sources, highs))
        return [first, *(dataclasses.replace(s, bias=np.zeros_like(s.bias)) for s in rest)]

    def placed(self, at: int, channels: int) -> Synapses:
        """The map as channels `at` ... of `channels`; the other ones have no synapses."""
        dense = self.rows(np.arange(len(self.weight))) if self.groups > 1 else self
        after = channels - at - len(dense.weight)
        weight, bias = (np.pad(v, ((at, after), *[(0, 0)] * (v.ndim - 1))) for v in (dense.weight, dense.bias))
        return dataclasses.replace(dense, weight=weight, bias=bias)

    def averaged(self, kernel: Grid, stride: int) -> Synapses:
        """This map, then an average over windows, as one convolution."""
        out, per, kh, kw = self.weight.shape
        reach = [(k - 1) * self.stride for k in kernel]
        weight = np.zeros((out, per, kh + reach[0], kw + reach[1]))
        for y in range(0, reach[0] + 1, self.stride):
            for x in range(0, reach[1] + 1, self.stride):
                weight[:, :, y : y + kh, x : x + kw] += self.weight / (kernel[0] * kernel[1])
        bias = self.bias
        if bias.ndim > 1:
            bias = np.lib.stride_tricks.sliding_window_view(bias, kernel, axis=(1, 2))[:, ::stride, ::stride].mean((-1, -2))  # type: ignore
        smooth = self.smooth or kernel != (1, 1)
        return dataclasses.replace(self, weight=weight, bias=bias, stride=self.stride * stride, smooth=smooth)


def after_average(weight: np.ndarray, padding: tuple[int, int], kernel: int, stride: int) -> tuple[np.ndarray, tuple[int, int]]:
    """(weights, padding) of a convolution that takes the map before an average over windows; its stride grows by `stride`."""
    out, per, kh, kw = weight.shape
    wide = np.zeros((out, per, (kh - 1) * stride + kernel, (kw - 1) * stride + kernel))
    for y in range(kh):
        for x in range(kw):
            wide[:, :, y * stride : y * stride + kernel, x * stride : x * stride + kernel] += weight[:, :, y : y + 1, x : x + 1] / kernel**2
    return wide, (padding[0] * stride, padding[1] * stride)


@dataclass(eq=False)
class Layer:
    """Base of the plan's layers; its output is a map of bits `shape` (positions, channels) on `grid`."""

    name: str
    shape: tuple[int, int]
    grid: Grid


@dataclass(eq=False)
class Neurons(Layer):
    """Spiking neurons on the sum of several linear maps (one, but for membrane shortcuts)."""

    inputs: tuple[Synapses, ...]
    neuron: FloatNeuron


@dataclass(eq=False)
class Pool(Layer):
    """Max-pool of one map of bits."""

    source: str
    source_grid: Grid
    kernel: int
    stride: int
    padding: int


@dataclass(eq=False)
class Attention(Layer):
    """Neurons on ``scale * q k^T v`` of each head."""

    q: str
    k: str
    v: str
    heads: int
    scale: float
    neuron: FloatNeuron


@dataclass(eq=False)
class Gate(Layer):
    """A memoryless gate: kind ``sdsa`` (q, k, v), ``qk_token_gate`` (q, k; heads) or ``qk_channel_gate`` (q, k)."""

    kind: str
    slots: dict[str, str]
    heads: int = 1


@dataclass(eq=False)
class Mixing(Layer):
    """Neurons on spikes mixed across tokens: all channels of a head share its matrix."""

    sources: tuple[str, ...]
    weight: np.ndarray  # [heads, target token, source token]
    neuron: FloatNeuron
    highs: tuple[int, ...] = ()


@dataclass(eq=False)
class HeadPart:
    """What one map adds to the class scores: ``weight . sum of sources``."""

    sources: tuple[str, ...]
    weight: np.ndarray  # [classes, positions, channels]
    grid: Grid
    highs: tuple[int, ...] = ()


@dataclass(eq=False)
class Head:
    """Class scores of one timestep: `parts` (several, where a stream of currents is read) and a bias; the net's answer sums over time.

    `image`: what the host adds, one convolution as large as the image, where the stream holds currents straight from it.
    `steps`: the timesteps whose spikes count, from 0, where those are not all; bias and image are added in all of them, as shares.
    """

    parts: list[HeadPart]
    bias: np.ndarray  # [classes]
    image: Synapses | None = None
    steps: tuple[int, ...] | None = None


@dataclass(eq=False)
class Plan:
    """A whole net. `image_shape` is (channels, height, width); with `events` that of a frame, whose pixels are the spikes of `INPUT`."""

    layers: dict[str, Layer] = field(default_factory=dict)
    head: Head | None = None
    timesteps: int = 1
    image_shape: tuple[int, int, int] = (1, 1, 1)
    events: bool = False

    def read(self) -> set[str]:
        """Names of the layers that something reads."""
        found = {name for part in self.head.parts for name in part.sources} if self.head else set()
        for layer in self.layers.values():
            if isinstance(layer, Neurons):
                found.update(name for s in layer.inputs for name in s.sources)
            elif isinstance(layer, Mixing):
                found.update(layer.sources)
            elif isinstance(layer, Pool):
                found.add(layer.source)
            elif isinstance(layer, Attention):
                found.update((layer.q, layer.k, layer.v))
            elif isinstance(layer, Gate):
                found.update(layer.slots.values())
        return found
