"""Token halting: a credit per token that its halting score uses up; at zero the token is dead for the sample."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from convert.ir import Inputs, Op, Payload, Size, register, total


@register
class TokenGate(Op):
    r"""Serial halting over blocks and timesteps (token k, after block l at timestep t).

    .. math::
        n = x_{k,\text{channel}}, \qquad h = \text{table}[n], \qquad
        \text{credit}_k \leftarrow \max(\text{credit}_k - h,\; 0), \qquad \text{alive} = [\text{credit}_k > 0]

    The credit starts at ``theta = ceil((1 - 0.01) 2^{bits})`` and passes from gate to gate and, from the last gate, to
    the next timestep: sum of scores >= 1 - eps, the ACT rule. The score reads one channel of the residual stream, a
    small integer, so the sigmoid is this table, exactly. Subtract, look up, compare: nothing is multiplied.
    Score and order of accumulation are reconstructed: A-ViT's halting element (arXiv 2112.07658) and STAS's serial check
    (arXiv 2508.14138, from its public reviews).

    Slot ``chain`` brings the credit from the gate before. A dead token sends nothing and is not looked at.
    Events: ``gate_update`` = living tokens; ``synop`` = unit events added to the score.

    Attributes
    ----------
    tokens : int
    table : int [largest n + 1], scores scaled by 2^bits
    theta : int, credit at the start
    channel : int, the halting channel
    """

    kind: ClassVar[str] = "token_gate"
    slots: ClassVar[tuple[str, ...]] = ("x*", "chain")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare")

    tokens: int
    table: np.ndarray
    theta: int
    channel: int = 0

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.tokens,)

    @property
    def payload(self) -> Payload:
        return Payload(0, self.theta)

    @property
    def size(self) -> Size:
        return Size(neurons=self.tokens, weight_bits=16 * len(self.table), state_bits=16 * self.tokens)

    def problems(self, shapes, payloads):
        """A table for every reachable score, non-negative so that dead stays dead."""
        for shape in shapes.get("x", []):
            if shape[0] != self.tokens or self.channel >= shape[1]:
                yield f"input has shape {shape}, needs {self.tokens} tokens and channel {self.channel}", "check the residual stream"
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "the halting channel can be negative", "the score's table is indexed by counts; use a stream of spikes"
        high = sum(p.high for p in payloads.get("x", []))
        if len(self.table) <= high:
            yield f"table has {len(self.table)} entries, the score's count reaches {high}", f"export {high + 1} entries"
        if self.table.min() < 0 or self.theta < 1:
            yield "negative scores or no credit", "scores and theta are non-negative integers"
        for shape in shapes.get("chain", []):
            if shape != (self.tokens,):
                yield f"chain has shape {shape}, needs ({self.tokens},)", "chain gates of the same token grid"

    def initial(self, batch: int) -> np.ndarray:
        return np.full((batch, self.tokens), self.theta, np.int32)

    def score(self, sources: tuple[np.ndarray, ...]) -> np.ndarray:
        return total(tuple(x[..., self.channel] for x in sources))

    def step(self, state, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        credit = inputs["chain"]
        spent = np.maximum(credit - self.table[self.score(inputs["x"])], 0)
        return np.where(credit > 0, spent, 0).astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray):
        living = inputs["chain"] > 0
        return {
            "spike_in": sum(((x[..., self.channel] != 0) & living).sum(1) for x in inputs["x"]) + living.sum(1),
            "synop": (self.score(inputs["x"]) * living).sum(1),
            "gate_update": living.sum(1),
            "spike_out": (out > 0).sum(1),
        }

    def accumulate(self, alu, inputs: Inputs, t: int):
        credit = inputs["chain"][0].astype(np.int64)
        n = np.zeros(self.tokens, np.int64)
        for x in inputs["x"]:
            events = np.where(credit > 0, x[0][:, self.channel], 0)
            for _ in range(int(events.max(initial=0))):
                alu.add(n, (np.flatnonzero(events > 0),), 1)
                events = events - (events > 0)
        living = np.flatnonzero(alu.at_least(credit, 1))
        left = np.zeros(self.tokens, np.int64)
        left[living] = credit[living] - self.table[n[living]]
        left[~alu.at_least(left, 0)] = 0
        return left, self.step({}, {**inputs, "chain": inputs["chain"][:1], "x": tuple(x[:1] for x in inputs["x"])}, np.array([t]))[0]

    @classmethod
    def examples(cls, rng: np.random.Generator):
        op = cls(tokens=5, table=np.array([2, 30, 160, 500, 900], np.int32), theta=1014)
        credit = op.initial(2)
        steps: list[Inputs] = []
        for _ in range(4):
            steps.append({"x": tuple(rng.integers(0, 3, (2, 5, 3)).astype(np.int32) for _ in range(2)), "chain": credit})
            credit = op.step({}, steps[-1], np.array([1, 1]))
        yield op, steps
