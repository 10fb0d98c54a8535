"""Convolution layer of a NetX file: dilation, groups, unequal strides, any neuron."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spikegate.graph.ir import Axes, Examples, register
from spikegate.neurons.base import Neuron
from spikegate.neurons.leaky import Alif, Leaky
from spikegate.neurons.sigma_delta import SigmaDelta
from spikegate.ops.base.block import Block
from spikegate.synapses.taps import Taps, convolution


@register
class BlockConv(Block):
    r"""NetX type ``conv``.

    .. math:: y_t = \mathrm{neuron}(W * x_t, b)

    Attributes
    ----------
    weight, weight_imag : int [out, in / groups, kh, kw]; the second is empty but for resonators
    bias : int [out]
    grid : (height, width) of the input map
    stride, padding, dilation : (rows, columns)
    """

    kind: ClassVar[str] = "block_conv"
    axes: ClassVar[Axes] = {
        "weight": ("out", "in / groups", "kh", "kw"), "weight_imag?": ("out", "in / groups", "kh", "kw"), "bias": ("biases",),
    }  # fmt: skip

    weight: np.ndarray
    weight_imag: np.ndarray
    bias: np.ndarray
    grid: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    neuron: Neuron = Leaky()

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.grid[0] * self.grid[1], self.weight.shape[1] * self.groups

    @property
    def out_grid(self) -> tuple[int, int]:
        return self.synapses[0].out_grid

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.synapses[0].outputs

    def taps(self, weight: np.ndarray) -> Taps:
        return convolution(weight, self.grid, self.stride, self.padding, self.dilation, self.groups)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        none = np.zeros((0,), np.int32)
        w, bias = rng.integers(-30, 31, (4, 1, 3, 2)), rng.integers(-9, 10, 4)
        geometry: dict[str, Any] = {"grid": (6, 5), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
        spikes = [{"x": (rng.integers(0, 2, (2, 30, 2)).astype(np.int32),)} for _ in range(5)]
        yield cls(w, none, bias, neuron=Leaky(1024, 300, 60), **geometry), spikes
        yield cls(w, none, bias, neuron=Alif(1024, 300, rng.integers(0, 4097, 4), 200, 40, 30), **geometry), spikes
        graded = [{"x": (rng.integers(-2, 3, (2, 30, 2)).astype(np.int32),)} for _ in range(3)]
        yield cls(w, none, bias, neuron=SigmaDelta(1, 0), **geometry), graded
