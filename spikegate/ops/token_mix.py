"""Mixing across tokens with one static matrix per head, with CUBA neurons."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from spikegate.graph.ir import (
    Alu,
    Axes,
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
    held,
    nonzero,
    per_sample,
    register,
    total,
)
from spikegate.neurons.cuba import Cuba
from spikegate.synapses import synapse


@register
class TokenMix(Op):
    r"""Spatial mixing of STMixer (NeurIPS 2024): all channels of a head share its matrix; no bias.

    .. math:: s_t = \mathrm{CUBA}(y_t), \qquad y_{n'c} = \sum_{\text{sources } x} \sum_n M_{h(c)\, n'n}\, x_{nc}

    Static synapses only: no two spikes have to meet. A dead token (credit 0) is neither integrated nor sent, and its
    neurons are not updated.

    Events: ``synop`` = input value x non-zero synapses to living tokens.

    Attributes
    ----------
    weight : int [heads, target token, source token], even, -256..254
    channels : int, channel c belongs to head ``c * heads // channels``
    """

    kind: ClassVar[str] = "token_mix"
    slots: ClassVar[tuple[str, ...]] = ("x*", "alive?", "open?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare", "leak")
    axes: ClassVar[Axes] = {"weight": ("heads", "tokens", "tokens")}

    weight: np.ndarray
    channels: int
    neuron: Cuba = Cuba()

    @property
    def heads(self) -> int:
        return len(self.weight)

    @property
    def tokens(self) -> int:
        tokens: int = self.weight.shape[1]
        return tokens

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.tokens, self.channels

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        n = self.tokens * self.channels
        synapses = int(np.count_nonzero(self.weight)) * (self.channels // self.heads)
        return Size(n, synapses, 8 * self.weight.size, n * self.neuron.state_bits)

    @property
    def dense_ops(self) -> int:
        return self.tokens * self.tokens * self.channels

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Loihi's ranges, exactness of the sums, shapes that fit."""
        yield from self.neuron.problems()
        yield from synapse.weight_problems(self.weight, np.zeros(self.heads, np.int64), self.heads)
        if self.channels % self.heads:
            yield f"{self.channels} channels do not split into {self.heads} heads", "choose heads that divide the channels"
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, needs {self.out_shape}", "check tokens and channels"
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "an input can be negative", "a synapse takes spikes or graded spikes >= 0; put an lif op before it"
        if shapes.get("alive", [(self.tokens,)]) != [(self.tokens,)]:
            yield f"credit of shape {shapes['alive']} does not match {self.tokens} tokens", "gate and layer need the same tokens"

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case sums of a sample."""
        bound = synapse.exact_bound(self.weight.reshape(-1, self.tokens), sum(p.high for p in payloads.get("x", [])))
        if self.neuron.overflows(bound, timesteps):
            yield (
                f"worst-case input {bound} x gain {self.neuron.gain(timesteps):g} overflows the 24-bit state",
                "lower weights and threshold together, or the number of residual sources",
            )

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    @cached_property
    def synapses(self) -> np.ndarray:
        """Which synapses exist, int64 [heads, target, source]."""
        exist: np.ndarray = (self.weight != 0).astype(np.int64)
        return exist

    def current(self, x: np.ndarray) -> np.ndarray:
        """Weighted sums [batch, tokens, channels], float32 holding integers."""
        split = x.astype(np.float32).reshape(len(x), self.tokens, self.heads, -1).transpose(0, 2, 1, 3)
        return (self.weight.astype(np.float32) @ split).transpose(0, 2, 1, 3).reshape(x.shape)

    @staticmethod
    def alive_inputs(inputs: Inputs) -> tuple[np.ndarray, ...]:
        """The sources with the rows of dead tokens zero."""
        given: tuple[np.ndarray, ...] = inputs["x"]
        if "alive" not in inputs:
            return given
        living = (inputs["alive"] > 0)[..., None]
        return tuple(x * living for x in given)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        current = self.current(total(self.alive_inputs(inputs)))
        if "alive" not in inputs:
            return self.neuron.step(state, current, 0, None, held(inputs))
        alive = inputs["alive"] > 0
        out = np.zeros(current.shape, np.int32)
        out[alive] = self.neuron.step(state, current[alive], 0, alive, held(inputs))
        return out

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        rows = self.alive_inputs(inputs)
        alive = inputs["alive"] > 0 if "alive" in inputs else np.ones((len(out), self.tokens), bool)
        fanout = np.einsum("bm,hmn->bnh", alive, self.synapses)
        arrived = sum(x.reshape(len(x), self.tokens, self.heads, -1).sum(3, dtype=np.int64) for x in rows)
        return {
            "spike_in": nonzero(rows),
            "synop": (arrived * fanout).sum((1, 2)),
            "neuron_update": alive.sum(1) * self.channels,
            "spike_out": per_sample(out != 0),
        }

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        one = {s: tuple(x[:1] for x in v) if s == "x" else v[:1] for s, v in inputs.items()}
        x = total(self.alive_inputs(one))
        alive = one["alive"][0] > 0 if "alive" in one else np.ones(self.tokens, bool)
        acc = np.zeros(self.out_shape, np.int64)
        for n, c in zip(*np.nonzero(x[0])):
            column = self.weight[c * self.heads // self.channels, :, n]
            targets = np.flatnonzero((column != 0) & alive)
            for _ in range(int(x[0, n, c])):
                alu.add(acc, (targets, c), column[targets])
        return acc, self.current(x)[0] * alive[:, None]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        weight = rng.integers(-30, 34, (2, 5, 5)) * 2 * (rng.random((2, 5, 5)) < 0.8)
        op = cls(weight=weight, channels=6, neuron=Cuba(4096, 2048, 40))

        def spikes(high: int) -> np.ndarray:
            return rng.integers(0, high + 1, (2, 5, 6)).astype(np.int32)

        yield op, [{"x": (spikes(1),)} for _ in range(4)]
        slow = cls(weight=weight, channels=6, neuron=Cuba(1024, 300, 90))
        yield slow, [{"x": (spikes(1), spikes(2))} for _ in range(4)]
        credit = np.array([[3, 0, 1, 2, 9], [1, 4, 0, 0, 2]], np.int32)
        yield op, [{"x": (spikes(1),), "alive": np.maximum(credit - t, 0)} for t in range(4)]
