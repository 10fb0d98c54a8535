"""Token merging, the carrier: an absorbed token's events go on as events of its neighbour."""

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
    nonzero,
    per_sample,
    register,
    total,
)
from spikegate.kernels import gate_loops
from spikegate.ops.base.pairs import neighbours
from spikegate.ops.token_merge import ABSORBED


@register
class TokenMove(Op):
    r"""Another source of the residual stream.

    .. math:: y_a = [\text{credit}_b = -1][\text{credit}_a > 0] \sum_{\text{sources } x} x_b, \qquad y = 0 \text{ elsewhere}

    As :math:`W(x_a + x_b) = W x_a + W x_b`, what a merged token computes is exact, and accumulates only. It takes the
    embedding before anything masks it, so the absorbed token's events arrive for as long as its neighbour lives.
    Part of the reconstruction described in `token_merge`.

    Slot ``after`` brings `token_merge`'s credit of this timestep. An event that is passed on is one accumulate.

    Attributes
    ----------
    grid : (height, width) of the tokens
    channels : int
    high : largest sum of the sources
    """

    kind: ClassVar[str] = "token_move"
    slots: ClassVar[tuple[str, ...]] = ("x*", "after")
    arithmetic: ClassVar[tuple[str, ...]] = ("add",)
    halting: ClassVar[bool] = True

    grid: tuple[int, int]
    channels: int
    high: int

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.grid[0] * self.grid[1], self.channels

    @property
    def payload(self) -> Payload:
        return Payload(0, self.high)

    @property
    def size(self) -> Size:
        n = len(neighbours(self.grid)[0]) * self.channels
        return Size(neurons=n, synapses=n)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Shapes and ranges that fit."""
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, needs {self.out_shape}", "move the tokens of the embedding"
        for shape in shapes.get("after", []):
            if shape != self.out_shape[:1]:
                yield f"credit has shape {shape}, needs {self.out_shape[:1]}", "connect the token merge of the same grid"
        given = payloads.get("x", [])
        if any(p.low < 0 for p in given) or sum(p.high for p in given) > self.high:
            yield f"its sources' sum can leave [0, {self.high}]", "state the range that they really have"

    def carried(self, inputs: Inputs) -> np.ndarray:
        """Pairs whose kept token lives and has absorbed the other, bool [batch, pairs]."""
        kept, absorbed = neighbours(self.grid)
        carried: np.ndarray = (inputs["after"][:, absorbed] == ABSORBED) & (inputs["after"][:, kept] > 0)
        return carried

    def moved(self, inputs: Inputs) -> tuple[np.ndarray, ...]:
        """Each source's events that are passed on, where they arrive: int32 [batch, tokens, channels]."""
        kept, absorbed = neighbours(self.grid)
        goes, out = self.carried(inputs), []
        for x in inputs["x"]:
            y = np.zeros_like(x, np.int32)
            y[:, kept] = x[:, absorbed] * goes[..., None]
            out.append(y)
        return tuple(out)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return total(self.moved(inputs))

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        arrived = nonzero(self.moved(inputs))
        updates = self.carried(inputs).sum(1) * self.channels
        return {"spike_in": arrived, "synop": arrived, "neuron_update": updates, "spike_out": per_sample(out != 0)}

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        out = np.zeros((len(t), *self.out_shape), np.int32)
        pairs, arrived, sent = np.zeros((3, len(t)), np.int64)
        credit = np.ascontiguousarray(inputs["after"], np.int32)
        for x in inputs["x"]:
            x = np.ascontiguousarray(x, np.int32)
            gate_loops.carried(x, credit, *neighbours(self.grid), ABSORBED, out, pairs, arrived, sent)
        return out, {"spike_in": arrived, "synop": arrived, "neuron_update": pairs * self.channels, "spike_out": sent}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        acc = np.zeros(self.out_shape, np.int64)
        credit = inputs["after"][0]
        for a, b in zip(*neighbours(self.grid)):
            if credit[b] == ABSORBED and credit[a] > 0:
                for x in inputs["x"]:
                    where = np.flatnonzero(x[0, b])
                    alu.add(acc, (a, where), x[0, b, where])
        first = {s: tuple(x[:1] for x in v) if isinstance(v, tuple) else v[:1] for s, v in inputs.items()}
        return acc, self.step({}, first, np.array([t]))[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def x() -> np.ndarray:
            return rng.integers(0, 3, (2, 10, 3)).astype(np.int32)

        def credit() -> np.ndarray:
            return rng.choice(np.array([ABSORBED, 0, 7], np.int32), (2, 10))

        yield cls((2, 5), 3, 4), [{"x": (x(), x()), "after": credit()} for _ in range(3)]
