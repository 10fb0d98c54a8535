"""CUBA neurons driven by graded currents without a weight: encodes the host's integers into spikes."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from spikegate.graph.ir import (
    Alu,
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
    held,
    merged,
    nonzero,
    per_sample,
    register,
    total,
)
from spikegate.kernels.instructions import LIF
from spikegate.neurons.cuba import Cuba
from spikegate.synapses.synapse import accumulate_each


@register
class Lif(Op):
    r"""Neurons fed one to one.

    .. math:: s_t = \mathrm{CUBA}\Big(\sum_{\text{sources } x} x_t\Big)

    A graded value is the current itself and costs one accumulate, whatever its size: it is a payload, not a weight.

    Attributes
    ----------
    shape : (positions, channels)
    """

    kind: ClassVar[str] = "lif"
    slots: ClassVar[tuple[str, ...]] = ("x*", "open?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare", "leak")

    shape: tuple[int, ...]
    neuron: Cuba = Cuba()

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        n = int(np.prod(self.shape))
        return Size(n, n, 0, n * self.neuron.state_bits)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Register ranges and shapes that fit."""
        yield from self.neuron.problems()
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, the neurons {self.out_shape}", "they are fed one to one"

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case currents of a sample."""
        bound = sum(max(abs(p.low), abs(p.high)) for p in payloads.get("x", []))
        if self.neuron.overflows(bound, timesteps):
            yield f"worst-case current {bound} overflows the 24-bit state", "clip the host's integers to a smaller range"

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return self.neuron.step(state, total(inputs["x"]), 0, None, held(inputs))

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        arrived = nonzero(inputs["x"])
        n = int(np.prod(self.shape))
        return {"spike_in": arrived, "synop": arrived, "neuron_update": np.full(len(out), n), "spike_out": per_sample(out != 0)}

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        found = merged(inputs["x"])
        x, events = found.total, found.events
        out, fired = self.neuron.steps(state, x.reshape(len(x), *self.out_shape), 0, None, held(inputs), span)
        arrived = events.sum(1, dtype=np.int64)
        n = np.full(len(out), int(np.prod(self.shape)))
        return out, {"spike_in": arrived, "synop": arrived, "neuron_update": n, "spike_out": fired}

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        return [LIF, program.merge(sources["x"]), *program.neurons(name, self.neuron, self.no_bias)] if len(self.shape) == 2 else None

    @cached_property
    def no_bias(self) -> np.ndarray:
        return np.zeros(self.shape[-1], np.int32)

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        return accumulate_each(alu, inputs["x"], self.out_shape), total(inputs["x"])[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        op = cls(shape=(6, 3), neuron=Cuba(4096, 2048, 90))
        yield op, [{"x": (rng.integers(-80, 120, (2, 6, 3)).astype(np.int32),)} for _ in range(5)]
        op = cls(shape=(6, 3), neuron=Cuba(4096, 1000, 20, "subtract", levels=5))
        yield op, [{"x": (rng.integers(-80, 120, (2, 6, 3)).astype(np.int32),)} for _ in range(5)]
        op = cls(shape=(4, 2), neuron=Cuba(2048, 256, 150))
        yield op, [{"x": tuple(rng.integers(0, 90, (2, 4, 2)).astype(np.int32) for _ in range(2))} for _ in range(5)]
