"""Timestep halting: decides after each timestep whether the sample is done."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

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
    credit_of,
    register,
)
from spikegate.graph.signals import NO_CREDIT
from spikegate.kernels import gate_loops
from spikegate.kernels.instructions import EXIT

NEVER = (1 << 23) - 1  # a margin that no 24-bit accumulator pair reaches
NO_MARGIN = np.zeros(0, np.int64)
POLICIES = ("fixed_window", "threshold_then_argmax")


@register
class ExitGate(Op):
    r"""Ends a sample at its last timestep, when no token lives, or when the leading class is far enough ahead.

    .. math:: \text{done}_t = [t = T] \lor [\textstyle\sum_k \text{credit}_k = 0] \lor [z_{(1)} - z_{(2)} \ge m_t]

    Policy ``fixed_window`` has no margin; ``threshold_then_argmax`` has one per timestep, calibrated on validation
    data. The integer margin stands for the confidence threshold of DT-SNN and SEENN (arXiv 2304.01230): no
    softmax, only compares. The decision is sent before the next timestep is injected, so no timestep is wasted.

    Output [done, predicted class].

    Attributes
    ----------
    classes, timesteps : int
    margin : int [timesteps], `NEVER` where the margin is not used
    policy : one of `POLICIES`
    """

    kind: ClassVar[str] = "exit_gate"
    slots: ClassVar[tuple[str, ...]] = ("logits", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare")
    axes: ClassVar[Axes] = {"margin": ("timesteps",)}

    classes: int
    timesteps: int
    margin: np.ndarray
    policy: str = "fixed_window"

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (2,)

    @property
    def payload(self) -> Payload:
        return Payload(0, max(1, self.classes - 1))

    @property
    def size(self) -> Size:
        return Size(neurons=1, weight_bits=24 * self.timesteps, state_bits=24)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """A known policy, logits of the classes."""
        if self.policy not in POLICIES:
            yield f"policy {self.policy!r} is unknown", f"use one of {', '.join(POLICIES)}"
        for shape in shapes.get("logits", []):
            if shape != (self.classes,):
                yield f"logits have shape {shape}, needs ({self.classes},)", "connect the readout"
        for shape in shapes.get("alive", []):
            if len(shape) != 1:
                yield f"credit has shape {shape}, needs one number for each token", "connect the last gate"

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        z = inputs["logits"]
        best = z.argmax(1)
        done = t >= self.timesteps
        if "alive" in inputs:
            done = done | ~(inputs["alive"] > 0).any(1)
        if self.policy != "fixed_window" and self.classes > 1:
            top = np.partition(z, self.classes - 2, axis=1)
            done = done | (top[:, -1] - top[:, -2] >= self.margin[np.minimum(t, self.timesteps) - 1])
        return np.stack([done, best], 1).astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        one = np.ones(len(out), np.int64)
        return {"spike_in": one * self.classes, "gate_update": one, "spike_out": one}

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        out = np.empty((len(t), 2), np.int32)
        credit = credit_of(inputs)
        margin = NO_MARGIN if self.policy == "fixed_window" or self.classes < 2 else self.margin
        z = np.ascontiguousarray(inputs["logits"], np.int32)
        gate_loops.leading(z, NO_CREDIT if credit is None else credit, margin, t, self.timesteps, out)
        return out, self.events(inputs, out, t)

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        margin = self.margins if self.policy != "fixed_window" and self.classes > 1 else NO_MARGIN
        return [EXIT, program.place(sources["logits"][0]), self.classes, self.timesteps, program.w64.put(margin), len(margin)]

    @cached_property
    def margins(self) -> np.ndarray:
        return self.margin.astype(np.int64)

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        z = inputs["logits"][0].astype(np.int64)
        best = 0
        for c in range(1, self.classes):
            if alu.at_least(z[c], z[best] + 1):
                best = c
        return np.array(best), self.step({}, {k: v[:1] for k, v in inputs.items()}, np.array([t]))[0, 1]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def z() -> np.ndarray:
            return rng.integers(-99, 99, (4, 3)).astype(np.int32)

        yield cls(3, 3, np.full(3, NEVER)), [{"logits": z()} for _ in range(3)]
        yield cls(3, 3, np.array([90, 60, 0]), "threshold_then_argmax"), [{"logits": z()} for _ in range(3)]
        alive = [np.array([[1, 2], [0, 1], [0, 0], [3, 3]], np.int32), np.zeros((4, 2), np.int32)]
        yield cls(3, 3, np.full(3, NEVER)), [{"logits": z(), "alive": a} for a in alive]
