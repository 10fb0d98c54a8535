"""What the token gates share: a halting score, read from a count of spikes through a table of integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Axes, Counts, Inputs, Op, Payload, Payloads, Problems, Shapes, Size, total


@dataclass(frozen=True, eq=False)
class ScoringGate(Op):
    """Score of each token, ``table[n]`` with n the sum over channels ``channel .. channel + width - 1``. Look up, no multiply.

    Events: ``gate_update`` = living tokens; ``synop`` = unit events added to their counts.

    Attributes
    ----------
    tokens : int
    table : int [largest n + 1], scores scaled by 2^bits
    theta : int, credit at the start
    channel, width : int, the first halting channel and how many there are
    """

    slots: ClassVar[tuple[str, ...]] = ("x*", "chain?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare")
    gates_tokens: ClassVar[bool] = True
    halting: ClassVar[bool] = True
    stand_in: ClassVar[str] = "chain"
    axes: ClassVar[Axes] = {"table": ("counts",)}

    tokens: int
    table: np.ndarray
    theta: int
    channel: int = 0
    width: int = 1

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.tokens,)

    @property
    def payload(self) -> Payload:
        return Payload(0, self.theta)

    @property
    def size(self) -> Size:
        return Size(neurons=self.tokens, weight_bits=16 * len(self.table), state_bits=16 * self.tokens)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """A table for every reachable score, non-negative so that dead stays dead."""
        last = self.channel + self.width - 1
        if self.channel < 0 or self.width < 1:
            yield f"channel {self.channel} and width {self.width} name no channels", "use a channel >= 0 and a width >= 1"
        for shape in shapes.get("x", []):
            if len(shape) != 2 or shape[0] != self.tokens or last >= shape[-1]:
                yield f"input has shape {shape}, needs {self.tokens} tokens and channel {last}", "check the residual stream"
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "the halting channel can be negative", "the score's table is indexed by counts; use a stream of spikes"
        high = self.width * sum(p.high for p in payloads.get("x", []))
        if len(self.table) <= high:
            yield f"table has {len(self.table)} entries, the score's count reaches {high}", f"export {high + 1} entries"
        if self.table.min(initial=0) < 0 or self.theta < 1:
            yield "negative scores or no credit", "scores and theta are non-negative integers"
        for shape in shapes.get("chain", []):
            if shape != (self.tokens,):
                yield f"chain has shape {shape}, needs ({self.tokens},)", "chain gates of the same token grid"

    def initial(self, batch: int) -> np.ndarray:
        return np.full((batch, self.tokens), self.theta, np.int32)

    def credit(self, inputs: Inputs) -> np.ndarray:
        """Credit from the gate before, int [batch, tokens]; in full where none is connected."""
        return inputs["chain"] if "chain" in inputs else self.initial(len(inputs["x"][0]))

    def halting_channels(self, x: np.ndarray) -> np.ndarray:
        """What the score reads of a map, [batch, tokens, width]."""
        return x[..., self.channel : self.channel + self.width]

    def score(self, sources: tuple[np.ndarray, ...]) -> np.ndarray:
        """int [batch, tokens], scaled by 2^bits."""
        scores: np.ndarray = self.table[total(tuple(self.halting_channels(x).sum(-1) for x in sources))]
        return scores

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        living = self.credit(inputs) > 0
        read = [self.halting_channels(x) * living[..., None] for x in inputs["x"]]
        return {
            "spike_in": sum((x != 0).sum((1, 2)) for x in read) + living.sum(1),
            "synop": sum(x.sum((1, 2), dtype=np.int64) for x in read),
            "gate_update": living.sum(1),
            "spike_out": (out > 0).sum(1),
        }

    def accumulate_scores(self, alu: Alu, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Scores of one sample's living tokens from unit events, and which tokens live."""
        living = alu.at_least(self.credit(inputs)[0], 1)
        n = np.zeros(self.tokens, np.int64)
        for x in inputs["x"]:
            for events in (self.halting_channels(x)[0] * living[:, None]).T:
                while (events > 0).any():
                    alu.add(n, (np.flatnonzero(events > 0),), 1)
                    events = events - (events > 0)
        return np.where(living, self.table[n], 0), living
