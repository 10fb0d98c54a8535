"""Neurons that read a membrane shortcut: several branches' currents add up in their dendrites."""

from __future__ import annotations

from typing import ClassVar

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
    nonzero,
    only_alive,
    per_sample,
    register,
    total,
)
from spikegate.neurons.cuba import Cuba
from spikegate.synapses.synapse import accumulate_each


@register
class Membrane(Op):
    r"""LIF on the residual stream of a net with membrane shortcuts.

    .. math:: s_t = \mathrm{CUBA}\Big(\sum_{\text{branches } c} c_t + \sum_{\text{sources } x} x_t\Big)

    Slot ``current`` takes the branches (ops of kind ``current``); their accumulates into this dendrite are booked there,
    copy by copy. Slot ``x`` takes integers that the host sent (an ``inject``), one accumulate each.

    Attributes
    ----------
    shape : (positions, channels)
    """

    kind: ClassVar[str] = "membrane"
    slots: ClassVar[tuple[str, ...]] = ("current*", "x*?", "alive?", "open?")
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
        for slot in ("current", "x"):
            for shape in shapes.get(slot, []):
                if shape != self.out_shape:
                    yield f"{slot} has shape {shape}, the neurons {self.out_shape}", "every branch of a stream has the stream's shape"
        if "alive" in shapes and shapes["alive"] != [(self.shape[0],)]:
            yield f"credit of shape {shapes['alive']} does not match {self.shape[0]} tokens", "gate and layer need the same tokens"

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case currents of a sample."""
        bound = sum(max(abs(p.low), abs(p.high)) for slot in ("current", "x") for p in payloads.get(slot, []))
        if self.neuron.overflows(bound, timesteps):
            yield f"worst-case current {bound} overflows the 24-bit state", "lower the branches' weights and the threshold together"

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        drive = total((*inputs["current"], *inputs.get("x", ())))
        if "alive" not in inputs:
            return self.neuron.step(state, drive, 0, None, held(inputs))
        alive = inputs["alive"] > 0
        out = np.zeros((len(drive), *self.out_shape), np.int32)
        out[alive] = self.neuron.step(state, drive[alive], 0, alive, held(inputs))
        return out

    def arriving(self, inputs: Inputs) -> tuple[np.ndarray, ...]:
        """The host's integers for living tokens."""
        return only_alive(inputs.get("x", ()), inputs)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        rows = self.arriving(inputs)
        arrived = nonzero(rows) if rows else np.zeros(len(out), np.int64)
        tokens = (inputs["alive"] > 0).sum(1) if "alive" in inputs else np.full(len(out), self.shape[0])
        return {"spike_in": arrived, "synop": arrived, "neuron_update": tokens * self.shape[1], "spike_out": per_sample(out != 0)}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.arriving(inputs)
        return accumulate_each(alu, rows, self.out_shape), total(rows)[0] if rows else np.zeros(self.out_shape, np.int64)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def currents(low: int, high: int) -> np.ndarray:
            return rng.integers(low, high, (2, 6, 3)).astype(np.int32)

        op = cls(shape=(6, 3), neuron=Cuba(4096, 2048, 90))
        yield op, [{"current": (currents(-80, 120), currents(-50, 60))} for _ in range(5)]
        op = cls(shape=(6, 3), neuron=Cuba(4096, 2048, 60, "subtract", 70, 2))
        yield op, [{"current": (currents(-80, 120), currents(-50, 60))} for _ in range(5)]
        alive = np.array([[3, 0, 1, 1, 0, 2], [1, 1, 0, 0, 0, 7]], np.int32)
        yield op, [{"current": (currents(-80, 120),), "x": (currents(0, 40),), "alive": alive * (k < 3)} for k in range(4)]
