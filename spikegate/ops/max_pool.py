"""Max-pool of binary spikes: OR over each window."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Counts, Examples, Inputs, Op, Payloads, Problems, Shapes, Size, State, nonzero, per_sample, register
from spikegate.synapses import synapse


@register
class MaxPool(Op):
    r"""Maximum of bits over a window of the map, channel by channel.

    .. math:: y_{pc} = \bigvee_{p' \in \text{window}(p)} x_{p'c}

    Equal to a memoryless neuron that fires at one spike. Pooling before the neurons (of real-valued currents) is no
    OR and is not this op; nor is pooling a sum of sources: max(x + y) is not max(x) + max(y), so there is one source.

    Events: ``synop`` = input spikes x windows that they reach (fewer at the border), each adds one to its window's count.

    Attributes
    ----------
    grid : (height, width) of the input map
    channels : int
    kernel, stride, padding : int; the padding is silent
    """

    kind: ClassVar[str] = "max_pool"
    slots: ClassVar[tuple[str, ...]] = ("x",)
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare")

    grid: tuple[int, int]
    channels: int
    kernel: int = 3
    stride: int = 2
    padding: int = 1

    @property
    def window(self) -> tuple[int, int]:
        return self.kernel, self.kernel

    @property
    def out_grid(self) -> tuple[int, int]:
        return synapse.out_grid(self.grid, self.window, self.stride, self.padding)

    @property
    def out_shape(self) -> tuple[int, ...]:
        h, w = self.out_grid
        return h * w, self.channels

    @property
    def size(self) -> Size:
        return Size(int(np.prod(self.out_shape)), int(self.reach.sum()) * self.channels, 8)

    @property
    def dense_ops(self) -> int:
        return int(np.prod(self.out_shape)) * self.kernel**2

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Bits, a map that fits, windows that exist."""
        if min(self.kernel, self.stride) < 1 or not 0 <= self.padding < self.kernel or min(self.out_grid) < 1:
            yield (
                f"kernel {self.kernel}, stride {self.stride}, padding {self.padding} do not fit {self.grid}",
                "use e.g. 3, 2, 1 or 2, 2, 0",
            )
        want = (self.grid[0] * self.grid[1], self.channels)
        for shape in shapes.get("x", []):
            if shape != want:
                yield f"input has shape {shape}, needs {want}", "check grid and channels"
        if any(not p.binary for p in payloads.get("x", [])):
            yield "its input is not binary", "pool each source before adding, and neurons before pooling"

    @cached_property
    def reach(self) -> np.ndarray:
        """Windows that each position lies in, int64 [positions]."""
        ones = np.ones((1, 1, *self.window), np.int64)
        return synapse.conv_fanout(ones, self.grid, self.stride, self.padding, 1)[:, 0]

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        patches = synapse.windows(inputs["x"].astype(bool), self.grid, self.window, self.stride, self.padding)
        found: np.ndarray = np.any(patches.reshape(len(patches), -1, self.kernel**2, self.channels), axis=2)
        return found.astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        x = inputs["x"]
        return {
            "spike_in": nonzero([x]),
            "synop": x.sum(2, dtype=np.int64) @ self.reach,
            "neuron_update": np.full(len(out), int(np.prod(self.out_shape))),
            "spike_out": per_sample(out),
        }

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        n = np.zeros(self.out_shape, np.int64)
        ones = np.ones((1, 1, *self.window), np.int64)
        for p, c in zip(*np.nonzero(inputs["x"][0])):
            for target, _, w in synapse.conv_targets(ones, self.grid, self.stride, self.padding, 1, p, 0):
                alu.add(n, (target, c), w[0])
        return alu.at_least(n, 1), self.step({}, {"x": inputs["x"][:1]}, np.ones(1))[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        for grid, shape in (((5, 4), (3, 2, 1)), ((6, 4), (2, 2, 0)), ((4, 4), (3, 1, 1))):
            op = cls(grid, 3, *shape)
            yield op, [{"x": (rng.random((2, grid[0] * grid[1], 3)) < 0.2).astype(np.int32)} for _ in range(3)]
