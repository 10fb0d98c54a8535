"""Token pruning without training: a token that looks like its neighbours, and like itself before, is dropped."""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Counts, Examples, Inputs, Op, Payload, Payloads, Problems, Shapes, Size, State, register, total
from spikegate.synapses.synapse import FLOAT_EXACT

SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))


@cache
def beside(grid: tuple[int, int]) -> np.ndarray:
    """Token numbers [4, tokens] of the neighbours above, below, left and right; at the border, if there is one, that on the other side."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    found = []
    for dy, dx in SIDES:
        y, x = rows + dy, columns + dx
        y = np.clip(np.where((y < 0) | (y >= grid[0]), rows - dy, y), 0, grid[0] - 1)
        x = np.clip(np.where((x < 0) | (x >= grid[1]), columns - dx, x), 0, grid[1] - 1)
        found.append(y * grid[1] + x)
    out = np.stack(found)
    out.flags.writeable = False
    return out


@register
class ContrastGate(Op):
    r"""Halting of tokens that carry little information, by contrast in space and time (token k, timestep t).

    .. math::
        n_k = \sum_{j \in \text{4 neighbours}} \sum_c |x_{k,c} - x_{j,c}|
        + 2^{\text{shift}}\, \Big|\sum_c x_{k,c,t} - \sum_c x_{k,c,t-1}\Big|, \qquad
        \text{credit}_k \leftarrow \text{credit}_k - [n_k < \text{cut}]

    The credit starts at ``theta``: a token is dropped for the rest of the sample after so many quiet timesteps. Slot ``chain``
    brings the gate's own credit of the timestep before. At t = 1 there is no change in time. A token at the border is compared with
    the neighbour on its other side twice. Nothing is trained: ``cut`` is calibrated (`spikegate.convert.prune`).

    In the manner of TP-Spikformer (arXiv 2603.00527), which scores tokens by dissimilarity from their neighbourhood and by change in
    time, both normalised by a softmax, and keeps the highest share of them. A softmax, a cosine and a sort are no work for a chip, so
    that differences of spike counts and a fixed cut stand here in their place: a reconstruction. As there, a dropped token keeps its
    value.

    Attributes
    ----------
    grid : (height, width) of the tokens
    channels : int
    cut : int, score below which a token is quiet
    theta : int, quiet timesteps until it is dropped
    shift : int, weight of the change in time
    """

    kind: ClassVar[str] = "contrast_gate"
    slots: ClassVar[tuple[str, ...]] = ("x*", "chain?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "shift", "compare")
    gates_tokens: ClassVar[bool] = True
    halting: ClassVar[bool] = True
    stand_in: ClassVar[str] = "chain"

    grid: tuple[int, int]
    channels: int
    cut: int
    theta: int = 1
    shift: int = 2

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.tokens,)

    @property
    def payload(self) -> Payload:
        return Payload(0, self.theta)

    @property
    def size(self) -> Size:
        return Size(neurons=self.tokens, weight_bits=24, state_bits=self.tokens * (24 + self.payload.bits))

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Spikes of this grid, scores that fit the registers."""
        for shape in shapes.get("x", []):
            if shape != (self.tokens, self.channels):
                yield f"input has shape {shape}, needs {(self.tokens, self.channels)}", "score the tokens that enter the blocks"
        for shape in shapes.get("chain", []):
            if shape != (self.tokens,):
                yield f"chain has shape {shape}, needs ({self.tokens},)", "feed it with its own credit"
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "an input can be negative", "tokens are compared by their spikes"
        if self.theta < 1 or self.cut < 0 or not 0 <= self.shift <= 8:
            yield f"theta {self.theta}, cut {self.cut}, shift {self.shift}", "theta is 1 or more, cut 0 or more, shift 0 to 8"
        high = sum(p.high for p in payloads.get("x", []))
        if self.channels * high * (len(SIDES) + (1 << max(0, min(self.shift, 8)))) >= FLOAT_EXACT >> 1:
            yield "the score can leave 24 bits", "use a smaller shift"

    def initial(self, batch: int) -> np.ndarray:
        return np.full((batch, self.tokens), self.theta, np.int32)

    def state(self, batch: int) -> State:
        return {"last": np.zeros((batch, self.tokens), np.int32)}

    def credit(self, inputs: Inputs) -> np.ndarray:
        return inputs["chain"] if "chain" in inputs else self.initial(len(inputs["x"][0]))

    def space(self, x: np.ndarray) -> np.ndarray:
        """Difference from the four neighbours, int64 [batch, tokens], of a map [batch, tokens, channels]."""
        wide = x.astype(np.int64)
        different: np.ndarray = sum(np.abs(wide - wide[:, side]).sum(-1) for side in beside(self.grid))
        return different

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        x, credit = total(inputs["x"]), self.credit(inputs)
        now = x.sum(-1, dtype=np.int64)
        change = np.where((t > 1)[:, None], np.abs(now - state["last"]), 0)
        state["last"][...] = now
        quiet = self.space(x) + (change << self.shift) < self.cut
        return np.where(credit > 0, credit - quiet, 0).astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        """An event of a living token goes to its four differences and its sum, one of a neighbour to one difference; then each difference
        that is not 0 is added to the score."""
        living = self.credit(inputs) > 0
        x = total(inputs["x"]).astype(np.int64)
        value, sides = x.sum(-1), beside(self.grid)
        heard = (len(SIDES) + 1) * value + sum(value[:, side] + (x != x[:, side]).sum(-1) for side in sides)
        arrived = sum((one != 0).sum(-1) for one in inputs["x"])
        return {
            "spike_in": (arrived * living).sum(1) + living.sum(1), "synop": (heard * living).sum(1),
            "gate_update": living.sum(1), "spike_out": (out > 0).sum(1),
        }

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        living = alu.at_least(self.credit(inputs)[0], 1)
        apart, score = np.zeros((len(SIDES), self.tokens, self.channels), np.int64), np.zeros(self.tokens, np.int64)
        sums = np.zeros(self.tokens, np.int64)
        for x in inputs["x"]:
            events = x[0].astype(np.int64)
            while events.any():  # graded events as so many unit events
                unit = (events > 0) & living[:, None]
                alu.add(sums, (np.nonzero(unit)[0],), 1)
                for k, side in enumerate(beside(self.grid)):
                    alu.add(apart[k], np.nonzero(unit), 1)
                    alu.add(apart[k], np.nonzero((events[side] > 0) & living[:, None]), -1)
                events = events - (events > 0)
        for one in apart:
            tokens, channels = np.nonzero(one)
            values = one[tokens, channels]
            alu.add(score, (tokens,), np.where(alu.at_least(values, 0), values, -values))
        x = total(tuple(x[:1] for x in inputs["x"]))
        return np.stack([score, sums]), np.stack([self.space(x)[0], x[0].sum(-1, dtype=np.int64)]) * living

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        for grid, cut, theta, shift in (((3, 4), 9, 1, 2), ((1, 5), 6, 2, 0), ((2, 2), 40, 3, 8), ((1, 1), 5, 1, 1)):
            op = cls(grid, 3, cut, theta, shift)
            credit, steps = op.initial(2), list[Inputs]()
            state = op.state(2)
            for t in range(1, 5):
                maps = tuple(rng.integers(0, 3, (2, op.tokens, 3)).astype(np.int32) for _ in range(2))
                steps.append({"x": maps, "chain": credit})
                credit = op.step(state, steps[-1], np.full(2, t))
            yield op, steps
        yield cls((2, 3), 2, 7), [{"x": (rng.integers(0, 4, (2, 6, 2)).astype(np.int32),)} for _ in range(3)]
