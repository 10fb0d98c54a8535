"""Token halting: a credit per token that its halting score uses up; at zero the token is dead for the sample."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Counts, Examples, Inputs, State, register
from spikegate.kernels import gate_loops
from spikegate.kernels.instructions import GATE
from spikegate.ops.base.scoring import ScoringGate


@register
class TokenGate(ScoringGate):
    r"""Serial halting over blocks and timesteps (token k, after block l at timestep t).

    .. math::
        n = \sum_{c < \text{width}} x_{k,\text{channel}+c}, \qquad h = \text{table}[n], \qquad
        \text{credit}_k \leftarrow \max(\text{credit}_k - h,\; 0), \qquad \text{alive} = [\text{credit}_k > 0]

    The credit starts at ``theta = ceil((1 - 0.01) 2^{bits})`` and passes from gate to gate and, from the last gate, to
    the next timestep: sum of scores >= 1 - eps, the ACT rule. The score reads one channel of the residual stream, a
    small integer (or several channels of binary spikes), so the sigmoid is this table, exactly. Subtract, look up,
    compare: nothing is multiplied. Score and order of accumulation are reconstructed: A-ViT's halting element
    (arXiv 2112.07658) and STAS's serial check (arXiv 2508.14138, from its public reviews).

    Slot ``chain`` brings the credit from the gate before. A dead token sends nothing and is not looked at. Fed with its
    own credit of the timestep before, the gate sums over time alone: gate 0 of the rectangle order. Without a source, each
    timestep starts with full credit.
    """

    kind: ClassVar[str] = "token_gate"

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        credit = self.credit(inputs)
        spent = np.maximum(credit - self.score(inputs["x"]), 0)
        return np.where(credit > 0, spent, 0).astype(np.int32)

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        credit = np.ascontiguousarray(self.credit(inputs), np.int32)
        n, out = np.zeros(credit.shape, np.int64), np.empty(credit.shape, np.int32)
        seen, synops, before, after = (np.zeros(len(credit), np.int64) for _ in range(4))
        for x in inputs["x"]:
            gate_loops.halting(x, credit, self.channel, self.width, n, seen, synops)
        gate_loops.spent(credit, n, self.table, out, before, after)
        return out, {"spike_in": seen + before, "synop": synops, "gate_update": before, "spike_out": after}

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        if "chain" not in sources:
            return None
        channels = program.shape(sources["x"][0])[-1]
        table = [program.w32.put(self.table), len(self.table)]
        return [GATE, program.link(sources["x"]), len(sources["x"]), channels, self.channel, self.width, *table]

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        scores, living = self.accumulate_scores(alu, inputs)
        left = np.where(living, self.credit(inputs)[0] - scores, 0)
        left[~alu.at_least(left, 0)] = 0
        return left, self.step({}, {"chain": self.credit(inputs)[:1], "x": tuple(x[:1] for x in inputs["x"])}, np.array([t]))[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        op = cls(tokens=5, table=np.array([2, 30, 160, 500, 900], np.int32), theta=1014)
        wide = cls(tokens=5, table=np.arange(7, dtype=np.int32) * 70, theta=1014, channel=1, width=3)
        for gate, high in ((op, 2), (wide, 1)):
            credit = gate.initial(2)
            steps: list[Inputs] = []
            for _ in range(4):
                steps.append({"x": tuple(rng.integers(0, high + 1, (2, 5, 4)).astype(np.int32) for _ in range(2)), "chain": credit})
                credit = gate.step({}, steps[-1], np.array([1, 1]))
            yield gate, steps
        yield op, [{"x": (rng.integers(0, 5, (2, 5, 4)).astype(np.int32),)} for _ in range(2)]
