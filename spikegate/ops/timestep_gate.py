"""Timestep mask of a layer: a T-bit word says in which timesteps its neurons run."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import (
    HOLD,
    MUTE,
    OPEN,
    SKIP,
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
    register,
)

RULES = {"mute": MUTE, "hold": HOLD, "skip": SKIP}


@register
class TimestepGate(Op):
    r"""Learned, input-independent timestep mask (Dynamic Time Steps ViT, arXiv 2311.16456).

    .. math:: o_t = \begin{cases} \text{open} & m_t = 1 \\ \text{rule} & m_t = 0 \end{cases}

    The word goes to slot ``open`` of every layer that shares the mask. Rules for a masked timestep: ``mute``, neurons
    integrate, fire and reset as ever but their spikes are dropped (the literal reading of "filters the spikes");
    ``hold``, they integrate and neither fire nor reset; ``skip``, they are frozen and their synapses do no work. That the
    mask is one scalar for each layer and timestep is verified, the rule is a reconstruction (the paper's text was not
    available). Events: one ``gate_update`` and, where something changes for the layer, one word sent.

    Attributes
    ----------
    mask : int [T] of 0 and 1
    rule : one of `RULES`
    """

    kind: ClassVar[str] = "timestep_gate"
    slots: ClassVar[tuple[str, ...]] = ()
    halting: ClassVar[bool] = True
    arithmetic: ClassVar[tuple[str, ...]] = ("compare",)
    axes: ClassVar[Axes] = {"mask": ("timesteps",)}

    mask: np.ndarray
    rule: str = "skip"

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (1,)

    @property
    def payload(self) -> Payload:
        return Payload(0, max(OPEN, MUTE, HOLD))

    @property
    def size(self) -> Size:
        return Size(neurons=1, weight_bits=len(self.mask))

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """A known rule, a mask of bits."""
        if self.rule not in RULES:
            yield f"rule {self.rule!r} is unknown", f"use one of {', '.join(RULES)}"
        if not np.isin(self.mask, (0, 1)).all():
            yield "the mask is not a word of bits", "give one 0 or 1 for each timestep"

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return np.where(self.mask[t - 1] == 1, OPEN, RULES[self.rule]).astype(np.int32)[:, None]

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        one = np.ones(len(t), np.int64)
        before = np.where(t > 1, self.mask[np.maximum(t - 2, 0)], 1)
        return {"gate_update": one, "spike_out": (before != self.mask[t - 1]).astype(np.int64)}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        word = OPEN if alu.at_least(self.mask[t - 1], 1) else RULES[self.rule]
        return np.array([word]), self.step({}, {}, np.array([t]))[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        for rule in RULES:
            yield cls(np.array([1, 0, 1, 1], np.int32), rule), [{} for _ in range(4)]
