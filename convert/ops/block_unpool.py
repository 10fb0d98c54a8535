"""Unpooling with neurons, a layer of a NetX file."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from convert.block import Block, merged, split
from convert.ir import register
from convert.neuron_base import Neuron
from convert.neuron_leaky import Leaky
from convert.taps import Taps, transposed


@register
class BlockUnpool(Block):
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
    def in_shape(self) -> tuple[int, ...]:
        return self.grid[0] * self.grid[1], self.channels

    @property
    def out_grid(self) -> tuple[int, int]:
        height, width = self.synapses[0].out_grid
        return height // self.channels, width

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.out_grid[0] * self.out_grid[1], self.channels

    def problems(self, shapes, payloads):
        yield from super().problems(shapes, payloads)
        if self.synapses[0].out_grid[0] % self.channels:
            yield f"{self.synapses[0].out_grid[0]} rows do not split into {self.channels} channels", "SLAYER cannot run this either"

    def taps(self, weight: np.ndarray) -> Taps:
        return transposed(weight, (self.channels * self.grid[0], self.grid[1]), self.stride, self.padding, self.dilation, 1)

    def arrange(self, x: np.ndarray) -> np.ndarray:
        return merged(x, self.grid)

    def restore(self, sums: np.ndarray) -> np.ndarray:
        return split(sums, self.channels, self.out_shape)

    @classmethod
    def examples(cls, rng: np.random.Generator):
        none = np.zeros((0,), np.int32)
        op = cls(np.full((1, 1, 2, 3), 40), none, np.zeros(1, np.int32), (3, 2), 2, (2, 3), neuron=Leaky(4096, 1000, 60))
        yield op, [{"x": (rng.integers(0, 2, (2, 6, 2)).astype(np.int32),)} for _ in range(4)]
