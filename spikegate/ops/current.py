"""Synapses without neurons of their own: their current joins others in the dendrites of the neurons that read it."""

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
    State,
    nonzero,
    only_alive,
    register,
    total,
)
from spikegate.ops.base.maps import MapOp
from spikegate.synapses import synapse


@register
class Current(MapOp):
    r"""One branch of a membrane shortcut (Spike-driven Transformer, arXiv 2307.01694; STMixer).

    .. math:: c_t = \sum_{\text{sources } x} W * x_t + b

    The stream :math:`x_l = x_0 + \sum_i c_i` is never sent: a current cannot travel on chip. Each of the neurons that
    read the stream has its own copy of these synapses, which add into its dendrite. So an event costs its fan-out times
    the number of `copies`, and the output itself costs nothing. All spikes stay binary.

    With ``alive``, a dead token's row is 0 and not computed. Events: ``synop`` = value x synapses x copies.

    Attributes
    ----------
    weight : int [out, in / groups, kh, kw], even, -256..254
    bias : int [out], added every timestep (in the reading neuron's bias)
    grid : (height, width) of the input map; padding : int, or (rows, columns)
    copies : number of ops that read the current
    """

    kind: ClassVar[str] = "current"
    slots: ClassVar[tuple[str, ...]] = ("x*", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add",)
    axes: ClassVar[Axes] = {"weight": ("out", "in / groups", "kh", "kw"), "bias": ("out",)}

    weight: np.ndarray
    bias: np.ndarray
    grid: tuple[int, int]
    stride: int = 1
    padding: synapse.Padding = 0
    groups: int = 1
    copies: int = 1

    @property
    def payload(self) -> Payload:
        """Range that binary inputs can reach."""
        rows = self.weight.reshape(len(self.weight), -1).astype(np.int64)
        low, high = np.minimum(rows, 0).sum(1) + self.bias, np.maximum(rows, 0).sum(1) + self.bias
        return Payload(min(0, int(low.min())), max(0, int(high.max())))

    @property
    def size(self) -> Size:
        synapses, bits = synapse.memory(self.weight, *self.geometry)
        return Size(0, self.copies * synapses, self.copies * (bits + 13 * len(self.bias)), 0)

    @property
    def dense_ops(self) -> int:
        return self.copies * super().dense_ops

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Loihi's ranges, binary input, shapes that fit."""
        yield from synapse.weight_problems(self.weight, self.bias, len(self.weight))
        yield from self.input_problems(shapes)
        if sum(p.high for p in payloads.get("x", [])) > 1 or any(p.low < 0 for p in payloads.get("x", [])):
            yield "its input is not binary", "a membrane shortcut takes spikes of one source; put neurons before it"
        yield from self.gating_problems(shapes)
        if synapse.exact_bound(self.weight.reshape(len(self.weight), -1), 1, self.bias) >= synapse.FLOAT_EXACT:
            yield "worst-case sum is not exact in float32", "lower the weights"

    def sums(self, x: np.ndarray) -> np.ndarray:
        return synapse.conv_current(x, self.weight, *self.geometry).astype(np.int32)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        x = total(inputs["x"])
        bias = self.bias.astype(np.int32)
        if "alive" not in inputs:
            return self.sums(x) + bias
        alive = inputs["alive"] > 0
        out = np.zeros((len(x), *self.out_shape), np.int32)
        out[alive] = self.sums(x[alive][None])[0] + bias
        return out

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        rows = only_alive(inputs["x"], inputs)
        return {
            "spike_in": self.copies * nonzero(rows),
            "synop": self.copies * self.synops(rows),
            "spike_out": np.zeros(len(out), np.int64),
        }

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        x = total(only_alive(inputs["x"], inputs))[0]
        sums = [synapse.accumulate_conv(alu, x, self.weight, *self.geometry) for _ in range(self.copies)]
        return np.stack(sums), np.stack([self.sums(x[None])[0]] * self.copies)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def spikes(*shape: int) -> np.ndarray:
            return rng.integers(0, 2, shape).astype(np.int32)

        def make(out: int, per: int, k: int, **more: Any) -> Current:
            return cls(weight=rng.integers(-20, 20, (out, per, k, k)) * 2, bias=rng.integers(-30, 30, out), **more)

        yield make(5, 3, 3, grid=(5, 4), padding=1), [{"x": (spikes(2, 20, 3),)} for _ in range(3)]
        yield make(4, 3, 3, grid=(6, 6), stride=2, padding=1, copies=3), [{"x": (spikes(2, 36, 3),)} for _ in range(3)]
        credit = np.array([rng.permutation([0, 0, 5, 1, 9, 0, 2, 7, 3]) for _ in range(2)], np.int32)
        yield make(6, 4, 1, grid=(3, 3), copies=2), [{"x": (spikes(2, 9, 4),), "alive": credit * (k < 2)} for k in range(3)]
