"""Convolution that runs once per sample and answers with a graded spike: the single pass of an integrated embedding."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spikegate.graph.ir import (
    Alu,
    Axes,
    Counts,
    Examples,
    Inputs,
    Payload,
    Payloads,
    Problems,
    Shapes,
    Size,
    Sources,
    State,
    merged,
    nonzero,
    per_sample,
    register,
    total,
)
from spikegate.kernels import counting, gate_loops
from spikegate.kernels.instructions import THRESHOLDS
from spikegate.ops.base.maps import MapOp
from spikegate.synapses import synapse


@register
class LevelConv(MapOp):
    r"""Convolution, then a row of thresholds, at the first timestep only.

    .. math:: y_1 = \sum_{k=1}^{Q} [\,(W * x_1 + b) \ge k\,\vartheta\,], \qquad y_t = 0 \text{ for } t > 1

    ``y`` is the number of spikes that an integrate-and-fire neuron with soft reset would emit for this input, bounded
    by Q: the spikes of several timesteps in one graded event. It is this project's reconstruction of STAS's I-SPS
    (arXiv 2508.14138 gives a figure only): one pass, one representation for all timesteps. After t = 1 nothing is
    received, updated or sent.

    Attributes
    ----------
    weight : int [out, in / groups, kh, kw], even
    bias : int [out]
    grid : (height, width) of the input map
    theta : int, height of one level in mantissa units
    levels : int, Q, the largest output
    """

    kind: ClassVar[str] = "level_conv"
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare")
    axes: ClassVar[Axes] = {"weight": ("out", "in / groups", "kh", "kw"), "bias": ("out",)}

    weight: np.ndarray
    bias: np.ndarray
    grid: tuple[int, int]
    theta: int
    levels: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def payload(self) -> Payload:
        return Payload(0, self.levels)

    @property
    def size(self) -> Size:
        neurons = int(np.prod(self.out_shape))
        synapses, bits = synapse.memory(self.weight, *self.geometry)
        return Size(neurons, synapses, bits + 13 * len(self.bias), 24 * neurons)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Loihi's ranges, exactness of the sums, shapes that fit."""
        yield from synapse.weight_problems(self.weight, self.bias, len(self.weight))
        yield from self.input_problems(shapes)
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "an input can be negative", "a synapse takes spikes or graded spikes >= 0"
        if self.theta < 1 or self.levels < 1:
            yield f"theta {self.theta} and levels {self.levels} must be at least 1", "train with a positive threshold"
        high = sum(p.high for p in payloads.get("x", []))
        if synapse.exact_bound(self.weight.reshape(len(self.weight), -1), high, self.bias) >= 1 << 17:
            yield "worst-case sum overflows the 24-bit state", "lower the weights or the input's levels"

    def current(self, x: np.ndarray) -> np.ndarray:
        return synapse.conv_current(x, self.weight, *self.geometry)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        out = np.zeros((len(t), *self.out_shape), np.int32)
        first = t == 1
        if first.any():
            drive = self.current(total(inputs["x"])[first]).astype(np.int64) + self.bias
            out[first] = np.clip(drive // self.theta, 0, self.levels)
        return out

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        first = t == 1
        arrived = self.synops(inputs["x"])
        return {
            "spike_in": nonzero(inputs["x"]) * first,
            "synop": arrived * first,
            "neuron_update": first * int(np.prod(self.out_shape)),
            "spike_out": per_sample(out != 0),
        }

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        first = np.flatnonzero(t == 1)
        out = np.zeros((len(t), *self.out_shape), np.int32)
        counts = {n: np.zeros(len(t), np.int64) for n in ("spike_in", "synop", "neuron_update", "spike_out")}
        if len(first):
            x = inputs["x"] if len(first) == len(t) else Sources(x[first] for x in inputs["x"])
            sums, counts["synop"][first], counts["spike_in"][first] = self.taps.sums(merged(x))
            now = np.empty(sums.shape, np.int32)
            gate_loops.multi_level(sums, self.bias32, self.theta, self.levels, now)
            out[first] = now
            counts["neuron_update"][first] = int(np.prod(self.out_shape))
            counts["spike_out"][first] = counting.nonzeros(now.reshape(len(first), -1))
        return out, counts

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        synapses = program.synapses(self.taps, sources["x"])
        return None if synapses is None else [THRESHOLDS, *synapses, program.w32.put(self.bias32), self.theta, self.levels]

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        x = total(inputs["x"])[0] * (t == 1)
        return synapse.accumulate_conv(alu, x, self.weight, *self.geometry), self.current(x[None])[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        op = cls(
            weight=rng.integers(-20, 24, (5, 3, 3, 3)) * 2,
            bias=rng.integers(-9, 9, 5),
            grid=(5, 5),
            theta=40,
            levels=3,
            stride=2,
            padding=1,
        )
        quiet = np.zeros((2, 25, 3), np.int32)
        yield op, [{"x": (rng.integers(0, 4, (2, 25, 3)).astype(np.int32) if k == 0 else quiet,)} for k in range(3)]
