"""Token halting whose sums need no result of a later block: blocks so far times timesteps so far."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Examples, Inputs, State, register
from spikegate.ops.base.scoring import ScoringGate


@register
class RectangleGate(ScoringGate):
    r"""Rectangle halting (token k, after block l at timestep t; h is the score as in `token_gate`).

    .. math::
        H_l(t) = \sum_{l' \le l} \sum_{t' \le t} h_{l'}(t'), \qquad
        A_l \leftarrow \min(A_l + h_l(t),\, \theta), \qquad
        \text{credit}_l(t) = \max(\text{credit}_{l-1}(t) - A_l,\; 0) = \max(\theta - H_l(t),\; 0)

    The token is alive for block l + 1 while this credit is positive. A is this gate's own sum over time and the chain
    brings the gates before, so the decision takes nothing from later blocks: a pipeline can start the next timestep
    before this one is through. Both terms only shrink the credit: a token that died stays dead. A grows for tokens
    that live at the gate's input.

    Gate 0, on the embedding, sums over time alone: that is a `token_gate` whose chain is its own credit of the timestep
    before. The order of accumulation is reconstructed (AT-SNN, arXiv 2408.12293: the text was not available).
    """

    kind: ClassVar[str] = "rectangle_gate"

    def state(self, batch: int) -> State:
        return {"spent": np.zeros((batch, self.tokens), np.int32)}

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        credit, spent = self.credit(inputs), state["spent"]
        spent += (self.score(inputs["x"]) * (credit > 0)).astype(np.int32)
        np.minimum(spent, self.theta, out=spent)
        left: np.ndarray = np.maximum(credit - spent, 0)
        return left.astype(np.int32)

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        scores, living = self.accumulate_scores(alu, inputs)
        return scores, self.score(tuple(x[:1] for x in inputs["x"]))[0] * living

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        for op, high in (
            (cls(tokens=5, table=np.array([2, 30, 160, 300, 500], np.int32), theta=1014), 2),
            (cls(tokens=5, table=np.arange(7, dtype=np.int32) * 40, theta=1014, channel=1, width=3), 1),
        ):
            chain = np.full((2, 5), op.theta, np.int32)
            steps: list[Inputs] = []
            for _ in range(4):
                steps.append({"x": tuple(rng.integers(0, high + 1, (2, 5, 4)).astype(np.int32) for _ in range(2)), "chain": chain})
                chain = np.maximum(chain - rng.integers(0, 400, chain.shape), 0).astype(np.int32)
            yield op, steps
