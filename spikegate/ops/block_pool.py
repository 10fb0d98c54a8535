"""Sum pooling with neurons, a layer of a NetX file."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Axes, Examples, register
from spikegate.neurons.base import Neuron
from spikegate.neurons.leaky import Leaky
from spikegate.ops.base.block import TallBlock, merged
from spikegate.synapses.taps import Taps, convolution


@register
class BlockPool(TallBlock):
    r"""NetX type ``pool``: one kernel for all channels.

    .. math:: y_t = \mathrm{neuron}(K * x_t)

    Stock NetX refuses it; the source is SLAYER's forward, which stacks the channels' rows to one tall map and appends ``height mod
    kh`` zero rows to each channel. Where the kernel does not divide the map, its windows therefore reach into the next channel, here
    as there.

    Attributes
    ----------
    weight, weight_imag : int [1, 1, kh, kw]; the second is empty but for resonators
    grid : (height, width) of the input map
    channels : int
    """

    kind: ClassVar[str] = "block_pool"
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

    @property
    def extra(self) -> tuple[int, int]:
        """Zero rows and columns that each channel gets."""
        return self.grid[0] % self.weight.shape[2], self.grid[1] % self.weight.shape[3]

    def taps(self, weight: np.ndarray) -> Taps:
        tall = self.channels * (self.grid[0] + self.extra[0]), self.grid[1] + self.extra[1]
        return convolution(weight, tall, self.stride, self.padding, self.dilation, 1)

    def arrange(self, x: np.ndarray) -> np.ndarray:
        return merged(x, self.grid, self.extra)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        none = np.zeros((0,), np.int32)
        op = cls(np.full((1, 1, 2, 2), 40), none, np.zeros(1, np.int32), (4, 5), 3, (2, 2), neuron=Leaky(4096, 1000, 60))
        yield op, [{"x": (rng.integers(0, 2, (2, 20, 3)).astype(np.int32),)} for _ in range(4)]
