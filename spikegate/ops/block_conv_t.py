"""Transposed convolution layer of a NetX file."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Axes, Examples, register
from spikegate.neurons.base import Neuron
from spikegate.neurons.leaky import Leaky
from spikegate.ops.base.block import Block
from spikegate.synapses.taps import Taps, transposed


@register
class BlockConvT(Block):
    r"""NetX type ``convT``: each input spreads its kernel over the output, :math:`y_t = \mathrm{neuron}(W^\top * x_t, b)`.

    .. math:: (W^\top * x)_o = \sum_{i, k:\; o = i s + k d - p} W_k x_i

    Stock NetX refuses it; the source is SLAYER's forward (torch's transposed convolution without output padding).

    Attributes
    ----------
    weight, weight_imag : int [in, out / groups, kh, kw]; the second is empty but for resonators
    bias : int [out]
    grid : (height, width) of the input map
    stride, padding, dilation : (rows, columns)
    """

    kind: ClassVar[str] = "block_conv_t"
    axes: ClassVar[Axes] = {
        "weight": ("in", "out / groups", "kh", "kw"), "weight_imag?": ("in", "out / groups", "kh", "kw"), "bias": ("biases",),
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
        return self.grid[0] * self.grid[1], len(self.weight)

    @property
    def out_grid(self) -> tuple[int, int]:
        return self.synapses[0].out_grid

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.synapses[0].outputs

    def taps(self, weight: np.ndarray) -> Taps:
        return transposed(weight, self.grid, self.stride, self.padding, self.dilation, self.groups)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        none = np.zeros((0,), np.int32)
        op = cls(
            rng.integers(-30, 31, (4, 3, 3, 2)), none, rng.integers(-9, 10, 6), grid=(3, 4), stride=(2, 1), padding=(1, 0),
            dilation=(1, 2), groups=2, neuron=Leaky(4096, 500, 50),
        )
        yield op, [{"x": (rng.integers(0, 2, (2, 12, 4)).astype(np.int32),)} for _ in range(4)]
