"""Holds a sample's integers and replays them every timestep while their tokens live."""

from __future__ import annotations

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
    credit_of,
    merged,
    nonzero,
    per_sample,
    register,
    total,
    updates,
)
from spikegate.graph.signals import NO_CREDIT
from spikegate.kernels import gate_loops
from spikegate.kernels.instructions import REPLAY
from spikegate.synapses.synapse import accumulate_each


@register
class Inject(Op):
    r"""Sample-and-hold relay.

    .. math:: U = \sum_{\text{sources } x} x_1, \qquad y_t = U \odot [\text{credit}_t > 0]

    The host sends once (t = 1); the replay stops for a token as soon as its credit is 0.

    Attributes
    ----------
    shape : (positions, channels)
    low, high : range of the held sum
    """

    kind: ClassVar[str] = "inject"
    slots: ClassVar[tuple[str, ...]] = ("x*", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add",)

    shape: tuple[int, ...]
    low: int
    high: int

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def payload(self) -> Payload:
        return Payload(self.low, self.high)

    @property
    def size(self) -> Size:
        n = int(np.prod(self.shape))
        return Size(neurons=n, synapses=n, state_bits=n * self.payload.bits)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Shapes and ranges that fit."""
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, the relay {self.out_shape}", "it is fed one to one"
        if shapes.get("alive", [self.out_shape[:1]]) != [self.out_shape[:1]]:
            yield f"credit of shape {shapes['alive']} does not match {self.out_shape[0]} tokens", "gate and relay need the same tokens"
        given = payloads.get("x", [])
        if given and (sum(p.low for p in given) < self.low or sum(p.high for p in given) > self.high):
            yield f"its sources' sum can leave [{self.low}, {self.high}]", "state the range that they really have"

    def state(self, batch: int) -> State:
        return {"held": np.zeros((batch, *self.out_shape), np.int32)}

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        first = t == 1
        if first.any():
            state["held"][first] = total(inputs["x"])[first]
        if "alive" not in inputs:
            return state["held"].copy()
        living: np.ndarray = state["held"] * (inputs["alive"] > 0)[..., None]
        return living

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        arrived = nonzero(inputs["x"]) * (t == 1)
        living = (inputs["alive"] > 0).sum(1) if "alive" in inputs else np.full(len(out), self.shape[0])
        return {
            "spike_in": arrived,
            "synop": arrived,
            "neuron_update": living * int(np.prod(self.shape[1:])),
            "spike_out": per_sample(out != 0),
        }

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        out = np.empty((len(t), *self.out_shape), np.int32)
        held, arrived, sent = state["held"], np.zeros(len(t), np.int64), np.empty(len(t), np.int64)
        first = np.flatnonzero(t == 1)
        if len(first):
            found = merged(inputs["x"])
            x, events = found.total, found.events
            held[first // span] = x[first].reshape(len(first), *self.out_shape)
            arrived[first] = events[first].sum(1)
        credit = credit_of(inputs)
        maps = (a.reshape(len(a), self.shape[0], -1) for a in (held, out))
        gate_loops.replayed(next(maps), span, NO_CREDIT if credit is None else credit, next(maps), sent)
        return out, {
            "spike_in": arrived, "synop": arrived, "neuron_update": updates(credit, len(out), self.shape[0], int(np.prod(self.shape[1:]))),
            "spike_out": sent,
        }

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        shape = self.shape[0], int(np.prod(self.shape[1:]))
        return [REPLAY, program.merge(sources["x"]), *shape, program.kept(name, "held")] if len(self.shape) == 2 else None

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        return accumulate_each(alu, tuple(x * (t == 1) for x in inputs["x"]), self.out_shape), total(inputs["x"])[0] * (t == 1)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def u() -> np.ndarray:
            return rng.integers(0, 3, (2, 4, 3)).astype(np.int32)

        quiet = np.zeros((2, 4, 3), np.int32)
        alive = [np.array([[9, 9, 9, 9]] * 2), np.array([[9, 0, 4, 9], [0, 0, 1, 1]]), np.array([[0, 0, 4, 0], [0, 0, 0, 0]])]
        yield cls((4, 3), 0, 4), [{"x": (u(), u()) if k == 0 else (quiet, quiet), "alive": a.astype(np.int32)} for k, a in enumerate(alive)]
        signed = rng.integers(-50, 50, (2, 4, 3)).astype(np.int32)
        yield cls((4, 3), -50, 50), [{"x": (signed if k == 0 else quiet,)} for k in range(3)]
