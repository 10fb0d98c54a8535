"""What ops with convolution synapses have in common: the geometry of the maps, and how inputs and credit must fit it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from spikegate.graph.ir import Op, summed
from spikegate.kernels import counting
from spikegate.synapses import synapse
from spikegate.synapses.taps import Taps, convolution


class MapOp(Op):
    """Base of ops on token maps. Subclasses are registered dataclasses with the fields named here."""

    weight: np.ndarray
    bias: np.ndarray
    grid: tuple[int, int]
    stride: int
    padding: synapse.Padding
    groups: int

    @property
    def geometry(self) -> tuple[tuple[int, int], int, synapse.Padding, int]:
        return self.grid, self.stride, self.padding, self.groups

    @property
    def out_grid(self) -> tuple[int, int]:
        return synapse.out_grid(self.grid, self.weight.shape[2:], self.stride, self.padding)

    @property
    def out_shape(self) -> tuple[int, ...]:
        h, w = self.out_grid
        return h * w, len(self.weight)

    @property
    def pointwise(self) -> bool:
        return self.weight.shape[2:] == (1, 1) and (self.stride, self.padding, self.groups) == (1, 0, 1)

    @property
    def dense_ops(self) -> int:
        return self.out_shape[0] * self.weight.size

    @property
    def in_shape(self) -> tuple[int, int]:
        return self.grid[0] * self.grid[1], self.weight.shape[1] * self.groups

    def input_problems(self, shapes: dict[str, list[tuple[int, ...]]]) -> Iterator[tuple[str, str]]:
        """Sources of another shape than the weights need."""
        for shape in shapes.get("x", []):
            if shape != self.in_shape:
                yield f"input has shape {shape}, the weights need {self.in_shape}", "check grid, channels and groups"

    def gating_problems(self, shapes: dict[str, list[tuple[int, ...]]]) -> Iterator[tuple[str, str]]:
        """Credit on a layer that mixes tokens, or of another number of tokens."""
        tokens = self.in_shape[0]
        if "alive" in shapes and not self.pointwise:
            yield "token gating needs a 1x1 kernel of stride 1", "gate the token-wise layers only"
        if "alive" in shapes and shapes["alive"] != [(tokens,)]:
            yield f"credit of shape {shapes['alive']} does not match {tokens} tokens", "gate and layer need the same tokens"

    @cached_property
    def fanout(self) -> np.ndarray:
        """Non-zero synapses that leave each input neuron, int64 [inputs]."""
        return synapse.conv_fanout(self.weight, *self.geometry).ravel()

    @cached_property
    def taps(self) -> Taps:
        """The synapses as the compiled kernels take them."""
        square = (self.stride, self.stride)
        return convolution(self.weight, self.grid, square, synapse.pair(self.padding), (1, 1), self.groups)

    @cached_property
    def bias32(self) -> np.ndarray:
        return self.bias.astype(np.int32)

    def synops(self, sources: tuple[np.ndarray, ...]) -> np.ndarray:
        """Accumulates that maps [batch, positions, channels] cause, int64 [batch]."""
        return summed(counting.weighted(x.reshape(len(x), -1), self.fanout) for x in sources)
