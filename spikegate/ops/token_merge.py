"""Token merging, the decision: which tokens are so alike that one can stand for both."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Counts, Examples, Inputs, Op, Payload, Payloads, Problems, Shapes, Size, State, merged, register, total
from spikegate.kernels import counting, gate_loops
from spikegate.ops.base.pairs import neighbours

ABSORBED = -1  # credit of a token that its neighbour carries


@register
class TokenMerge(Op):
    r"""One decision per pair of horizontal neighbours (a, b), at the first timestep, kept for the sample.

    .. math::
        m = \big[\, 2\,|x_a \wedge x_b| \ge |x_a| + |x_b| - \delta \,\big], \qquad
        \text{credit}_a \leftarrow \min(\text{credit}_a, \text{credit}_b), \quad \text{credit}_b \leftarrow -1
        \quad \text{where } m

    x are the embedding's spikes (any value >= 1 counts as one), :math:`|\cdot|` counts them: Dice's similarity without
    its division, the factor 2 a shift. The smaller credit is the larger score of the two. An absorbed token has the credit
    -1: below 0, so no layer computes it, and not 0, so it is not taken for one that halted; `token_move` brings its
    events to a. AT-SNN (arXiv 2408.12293) says that tokens are merged by similarity; everything else here is our
    reconstruction after ToMe (arXiv 2210.09461): fixed pairs instead of a sort, bits instead of cosines.

    Slot ``chain`` brings the credit that the timestep starts from; without it every token has ``theta``.
    Events: at t = 1 ``synop`` = spikes counted, ``attention_ac`` = coincidences; ``gate_update`` = credits handled.

    Attributes
    ----------
    grid : (height, width) of the tokens
    channels : int
    delta : int, spikes in which two tokens may differ and still merge; -1: never
    theta : int, credit of a token that nothing has halted yet
    """

    kind: ClassVar[str] = "token_merge"
    slots: ClassVar[tuple[str, ...]] = ("x*", "chain?")
    arithmetic: ClassVar[tuple[str, ...]] = ("and", "add", "shift", "compare")
    gates_tokens: ClassVar[bool] = True
    halting: ClassVar[bool] = True
    stand_in: ClassVar[str] = "chain"

    grid: tuple[int, int]
    channels: int
    delta: int
    theta: int

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.tokens,)

    @property
    def payload(self) -> Payload:
        return Payload(ABSORBED, self.theta)

    @property
    def size(self) -> Size:
        return Size(neurons=self.tokens, state_bits=len(neighbours(self.grid)[0]))

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Spikes of this grid, a credit for each token."""
        for shape in shapes.get("x", []):
            if shape != (self.tokens, self.channels):
                yield f"input has shape {shape}, needs {(self.tokens, self.channels)}", "merge the tokens of the embedding"
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "an input can be negative", "tokens are compared by their spikes"
        for shape in shapes.get("chain", []):
            if shape != (self.tokens,):
                yield f"chain has shape {shape}, needs ({self.tokens},)", "chain gates of the same token grid"
        if self.theta < 1:
            yield f"theta {self.theta} is no credit", "give at least 1"
        if self.delta < -1:
            yield f"delta {self.delta} is below -1", "-1 never merges"

    def initial(self, batch: int) -> np.ndarray:
        return np.full((batch, self.tokens), self.theta, np.int32)

    def state(self, batch: int) -> State:
        return {"merged": np.zeros((batch, len(neighbours(self.grid)[0])), bool)}

    def credit(self, inputs: Inputs, batch: int) -> np.ndarray:
        return inputs["chain"] if "chain" in inputs else self.initial(batch)

    def spikes(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Bits of the kept and of the absorbed tokens, int [batch, pairs, channels]."""
        bits = (total(inputs["x"]) > 0).astype(np.int64)
        kept, absorbed = neighbours(self.grid)
        return bits[:, kept], bits[:, absorbed]

    def alike(self, inputs: Inputs) -> np.ndarray:
        """bool [batch, pairs]."""
        a, b = self.spikes(inputs)
        close: np.ndarray = 2 * (a & b).sum(2) >= (a + b).sum(2) - self.delta
        return close

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        credit = self.credit(inputs, len(t)).copy()
        kept, absorbed = neighbours(self.grid)
        first = t == 1
        if first.any():
            both = (credit[:, kept] > 0) & (credit[:, absorbed] > 0)
            state["merged"][first] = (self.alike(inputs) & both)[first]
            now = state["merged"] & first[:, None]
            credit[:, kept] = np.where(now, np.minimum(credit[:, kept], credit[:, absorbed]), credit[:, kept])
        credit[:, absorbed] = np.where(state["merged"], ABSORBED, credit[:, absorbed])
        return credit

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        a, b = self.spikes(inputs)
        first = t == 1
        arrived = sum((x[:, side] != 0).sum((1, 2)) for x in inputs["x"] for side in neighbours(self.grid))
        living = (out > 0).sum(1)
        return {
            "spike_in": arrived * first + ((inputs["chain"] > 0).sum(1) if "chain" in inputs else 0),
            "synop": (a + b).sum((1, 2)) * first,
            "attention_ac": (a & b).sum((1, 2)) * first,
            "gate_update": np.where(first, self.tokens, living),
            "spike_out": living,
        }

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        credit = np.ascontiguousarray(self.credit(inputs, len(t)), np.int32)
        x = merged(inputs["x"])
        out = np.empty_like(credit)
        came, synops, met, lives = np.empty((4, len(t)), np.int64)
        pairs = neighbours(self.grid)
        gate_loops.merging(x.total, x.events, credit, t, *pairs, self.delta, ABSORBED, state["merged"], out, came, synops, met, lives)
        if "chain" in inputs:
            came += counting.alive_tokens(credit)
        handled = np.where(t == 1, self.tokens, lives)
        return out, {"spike_in": came, "synop": synops, "attention_ac": met, "gate_update": handled, "spike_out": lives}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        if t > 1:
            return np.zeros(0), np.zeros(0)
        kept, absorbed = neighbours(self.grid)
        bits = np.zeros((self.tokens, self.channels), np.int64)
        for x in inputs["x"]:
            bits[alu.at_least(x[0], 1)] = 1  # an event sets its bit, whoever sent it
        met, count = np.zeros(len(kept), np.int64), np.zeros(len(kept), np.int64)
        alu.add(met, np.nonzero(alu.coincide(bits[kept], bits[absorbed]))[:1], 1)
        for side in (kept, absorbed):
            alu.add(count, np.nonzero(bits[side])[:1], 1)
        alike = alu.at_least(alu.shift(met, 1) - count, -self.delta)
        return alike, self.alike({"x": tuple(x[:1] for x in inputs["x"])})[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def spikes() -> np.ndarray:
            return (rng.random((3, 15, 4)) < 0.3).astype(np.int32) * rng.integers(1, 3, (3, 15, 4)).astype(np.int32)

        for delta in (-1, 0, 1, 9):
            yield cls((3, 5), 4, delta, 1014), [{"x": (spikes(), spikes())} for _ in range(3)]
        credit = rng.integers(0, 900, (3, 15)).astype(np.int32)
        chain = [np.full((3, 15), 1014, np.int32), credit, credit // 2]
        yield cls((3, 5), 4, 2, 1014), [{"x": (spikes(),), "chain": c} for c in chain]
