"""Passes a map on in some timesteps only: class scores that were trained on the last timestep alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import (
    Alu,
    Axes,
    Counts,
    Examples,
    Inputs,
    Op,
    Payload,
    Payloads,
    Problems,
    Shapes,
    Size,
    State,
    nonzero,
    per_sample,
    register,
    total,
)
from spikegate.synapses.synapse import accumulate_each


@register
class StepWindow(Op):
    r"""Sum of its sources in the timesteps of a mask, silent in the others.

    .. math:: y_t = m_t \sum_{\text{sources } x} x_t

    It belongs to the net, not to halting: without it the readout would add up other scores. What arrives in a timestep of the others
    was sent all the same, so it is received and accumulated there, too. Events: ``synop`` = events that arrive, one accumulate each
    whatever the value.

    Attributes
    ----------
    shape : (positions, channels)
    mask : int [T] of 0 and 1
    high : largest sum of the sources
    """

    kind: ClassVar[str] = "step_window"
    slots: ClassVar[tuple[str, ...]] = ("x*",)
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare")
    axes: ClassVar[Axes] = {"mask": ("timesteps",)}

    shape: tuple[int, ...]
    mask: np.ndarray
    high: int = 1

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def payload(self) -> Payload:
        return Payload(0, self.high)

    @property
    def size(self) -> Size:
        n = int(np.prod(self.shape))
        return Size(neurons=n, synapses=n, weight_bits=len(self.mask))

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """A mask of bits, shapes and ranges that fit."""
        if self.mask.ndim != 1 or not np.isin(self.mask, (0, 1)).all():
            yield "the mask is not a word of bits", "give one 0 or 1 for each timestep"
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, the window {self.out_shape}", "it is fed one to one"
        given = payloads.get("x", [])
        if any(p.low < 0 for p in given) or sum(p.high for p in given) > self.high:
            yield f"its sources' sum can leave [0, {self.high}]", "state the range that they really have"

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        x = total(inputs["x"])
        out: np.ndarray = x * self.mask[t - 1].astype(np.int32).reshape(-1, *[1] * (x.ndim - 1))
        return out.astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        arrived = nonzero(inputs["x"])
        updates = np.full(len(out), int(np.prod(self.shape)))
        return {"spike_in": arrived, "synop": arrived, "neuron_update": updates, "spike_out": per_sample(out != 0)}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        return accumulate_each(alu, inputs["x"], self.out_shape), total(tuple(x[:1] for x in inputs["x"]))[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def bits() -> np.ndarray:
            return rng.integers(0, 2, (2, 4, 3)).astype(np.int32)

        yield cls((4, 3), np.array([0, 0, 1], np.int32)), [{"x": (bits(),)} for _ in range(3)]
        yield cls((4, 3), np.array([1, 0, 1, 1], np.int32), 2), [{"x": (bits(), bits())} for _ in range(4)]
