"""Unpooling with neurons, a layer of a NetX file."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Axes, Examples, register
from spikegate.neurons.base import Neuron
from spikegate.neurons.leaky import Leaky
from spikegate.ops.base.block import TallBlock, merged
from spikegate.synapses.taps import Taps, transposed


@register
class BlockUnpool(TallBlock):
    r"""NetX type ``unpool``: each input spreads over a window, one kernel for all channels.

    .. math:: y_t = \mathrm{neuron}(K^\top * x_t)

    Stock NetX refuses it; the source is SLAYER's forward, which stacks the channels' rows to one tall map.

    Attributes
    ----------
    weight, weight_imag : int [1, 1, kh, kw]; the second is empty but for resonators
    grid : (height, width) of the input map
    channels : int
    """

    kind: ClassVar[str] = "block_unpool"
    axes: ClassVar[Axes] = {"weight": ("1", "1", "kh", "kw"), "weight_imag?": ("1", "1", "kh", "kw"), "bias": ("biases",)}

    weight: np.ndarray
    weight_imag: np.ndarray
    bias: np.ndarray
    grid: tuple[int, int]
    channels: int
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    neuron: Neuron = Leaky()

    def taps(self, weight: np.ndarray) -> Taps:
        return transposed(weight, (self.channels * self.grid[0], self.grid[1]), self.stride, self.padding, self.dilation, 1)

    def arrange(self, x: np.ndarray) -> np.ndarray:
        return merged(x, self.grid)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        none = np.zeros((0,), np.int32)
        op = cls(np.full((1, 1, 2, 3), 40), none, np.zeros(1, np.int32), (3, 2), 2, (2, 3), neuron=Leaky(4096, 1000, 60))
        yield op, [{"x": (rng.integers(0, 2, (2, 6, 2)).astype(np.int32),)} for _ in range(4)]
