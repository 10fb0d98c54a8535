"""What the memoryless gates share: maps of bits, dead tokens, and their event counts.

An OR or threshold gate of tau-2 neurons on integer counts (decayed input, reset to 0, threshold 1 or 2 counts) never
holds a residue that could make a later count fire: with v < 1 nothing arrived, and with v < 2 a single count is halved
before the next one. So the neuron is ``[n >= threshold]`` in every timestep, and has no state (tests/test_gates.py
proves it exhaustively for small counts).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikegate.graph.ir import Alu, Counts, Inputs, Op, Payloads, Problems, Shapes, Size, State, nonzero, per_sample


@dataclass(frozen=True, eq=False)
class Gating(Op):
    """Base of the gates: binary maps of equal shape in, one binary map out, no state.

    Slot ``alive`` takes the tokens' credit: a dead token (credit 0) is not looked at, sends nothing and is not updated.

    Attributes
    ----------
    tokens, channels : int
    """

    tokens: int
    channels: int

    @property
    def maps(self) -> list[str]:
        """Slots that carry maps of bits."""
        return [s for s in self.slots if not s.endswith("?")]

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.tokens, self.channels

    @property
    def counters(self) -> int:
        """Neurons that count or remember a coincidence within the timestep, besides the outputs."""
        return 0

    @property
    def size(self) -> Size:
        return Size(neurons=self.tokens * self.channels + self.counters, synapses=len(self.maps) * self.tokens * self.channels)

    @property
    def dense_ops(self) -> int:
        return 2 * self.tokens * self.channels

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Bits of one shape; credit of the same tokens."""
        for slot in self.maps:
            for shape in shapes.get(slot, []):
                if shape != self.out_shape:
                    yield f"{slot} has shape {shape}, needs {self.out_shape}", f"{', '.join(self.maps)} cover the same tokens and channels"
            if any(not p.binary for p in payloads.get(slot, [])):
                yield f"{slot} is not binary", "an AND or OR needs spikes of value 1; put neurons before it"
        if shapes.get("alive", [(self.tokens,)]) != [(self.tokens,)]:
            yield f"credit of shape {shapes['alive']} does not match {self.tokens} tokens", "gate and layer need the same tokens"

    def bits(self, inputs: Inputs) -> list[np.ndarray]:
        """The maps [batch, tokens, channels] with the rows of dead tokens zero, in the order of the slots."""
        if "alive" not in inputs:
            return [inputs[s] for s in self.maps]
        living = (inputs["alive"] > 0)[..., None]
        return [inputs[s] * living for s in self.maps]

    def gated(self, maps: list[np.ndarray]) -> np.ndarray:
        """The gate's output, bits [batch, tokens, channels], from `bits`."""
        raise TypeError(f"{type(self).__name__} has no gate")

    def gathered(self, maps: list[np.ndarray]) -> np.ndarray:
        """Accumulates that decide the gate, int64 [batch], from `bits`."""
        raise TypeError(f"{type(self).__name__} does not count its events")

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return self.gated(self.bits(inputs)).astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        maps = self.bits(inputs)
        living = (inputs["alive"] > 0).sum(1) if "alive" in inputs else np.full(len(out), self.tokens)
        return {
            "spike_in": nonzero(maps),
            "attention_ac": self.gathered(maps) + per_sample(out),
            "neuron_update": living * self.channels,
            "spike_out": per_sample(out),
        }

    def one(self, inputs: Inputs) -> list[np.ndarray]:
        """`bits` of the first sample, each [tokens, channels]."""
        return [m[0] for m in self.bits({s: v[:1] for s, v in inputs.items()})]

    def masked(self, alu: Alu, gate: np.ndarray, x: np.ndarray, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """Second half of every gate for one sample: out = gate AND x; returns (event by event, the kernel's)."""
        out = np.zeros(self.out_shape, np.int64)
        alu.add(out, np.nonzero(alu.coincide(gate.astype(np.int64), x.astype(np.int64))), 1)
        return out, self.step({}, {s: v[:1] for s, v in inputs.items()}, np.ones(1, np.int64))[0]


def examples_of(op: Gating, rng: np.random.Generator, rate: float) -> Iterator[list[Inputs]]:
    """Random bits for each map, then the same with tokens that die."""
    shape = (2, *op.out_shape)
    yield [{s: (rng.random(shape) < rate).astype(np.int32) for s in op.maps} for _ in range(3)]
    credit = rng.permuted(np.tile(np.arange(op.tokens) // 2, (2, 1)), axis=1).astype(np.int32)
    yield [{**{s: (rng.random(shape) < rate).astype(np.int32) for s in op.maps}, "alive": np.maximum(credit - t, 0)} for t in range(3)]
