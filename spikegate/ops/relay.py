"""Passes a map on for living tokens only: what stands between an embedding that goes on spiking and the blocks."""

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
    credit_of,
    nonzero,
    only_alive,
    per_sample,
    register,
    total,
    updates,
)
from spikegate.graph.signals import NO_CREDIT
from spikegate.kernels import gate_loops
from spikegate.synapses.synapse import accumulate_each


@register
class Relay(Op):
    r"""Sum of its sources, silent for halted and absorbed tokens.

    .. math:: y_t = [\text{credit}_t > 0] \odot \sum_{\text{sources } x} x_t

    Convolutions of an embedding read across tokens and, unless they are gated, go on for dead ones; here their events end. It holds
    nothing (`inject` does). Its work is there because tokens halt, and it is removed with halting. Events: ``synop`` = events of
    living tokens that arrive, one accumulate each whatever the value, as for every current without a weight.

    Attributes
    ----------
    shape : (positions, channels)
    high : largest sum of the sources
    """

    kind: ClassVar[str] = "relay"
    slots: ClassVar[tuple[str, ...]] = ("x*", "alive?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add",)
    halting: ClassVar[bool] = True
    stand_in: ClassVar[str] = "x"

    shape: tuple[int, ...]
    high: int

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def payload(self) -> Payload:
        return Payload(0, self.high)

    @property
    def size(self) -> Size:
        n = int(np.prod(self.shape))
        return Size(neurons=n, synapses=n)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Shapes and ranges that fit."""
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, the relay {self.out_shape}", "it is fed one to one"
        if "alive" in shapes and shapes["alive"] != [self.out_shape[:1]]:
            yield f"credit of shape {shapes['alive']} does not match {self.out_shape[0]} tokens", "gate and relay need the same tokens"
        given = payloads.get("x", [])
        if any(p.low < 0 for p in given) or sum(p.high for p in given) > self.high:
            yield f"its sources' sum can leave [0, {self.high}]", "state the range that they really have"

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return total(only_alive(inputs["x"], inputs)).astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        arrived = nonzero(only_alive(inputs["x"], inputs))
        tokens = (inputs["alive"] > 0).sum(1) if "alive" in inputs else np.full(len(out), self.shape[0])
        return {
            "spike_in": arrived,
            "synop": arrived,
            "neuron_update": tokens * int(np.prod(self.shape[1:])),
            "spike_out": per_sample(out != 0),
        }

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        credit = credit_of(inputs)
        out = np.zeros((len(t), *self.out_shape), np.int32)
        maps = out.reshape(len(t), self.shape[0], -1)
        arrived, sent = np.zeros((2, len(t)), np.int64)
        for x in inputs["x"]:
            x = np.ascontiguousarray(x, np.int32).reshape(maps.shape)
            gate_loops.relayed(x, NO_CREDIT if credit is None else credit, maps, arrived, sent)
        neurons = updates(credit, len(t), self.shape[0], int(np.prod(self.shape[1:])))
        return out, {"spike_in": arrived, "synop": arrived, "neuron_update": neurons, "spike_out": sent}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        rows = only_alive(inputs["x"], inputs)
        return accumulate_each(alu, rows, self.out_shape), total(tuple(x[:1] for x in rows))[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def bits() -> np.ndarray:
            return rng.integers(0, 2, (2, 4, 3)).astype(np.int32)

        alive = [np.array([[9, 9, 9, -1]] * 2), np.array([[9, 0, 4, -1], [0, 0, 1, 1]]), np.zeros((2, 4))]
        yield cls((4, 3), 2), [{"x": (bits(), bits()), "alive": a.astype(np.int32)} for a in alive]
        yield cls((4, 3), 2), [{"x": (bits(), bits())} for _ in range(2)]
