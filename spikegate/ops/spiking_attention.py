"""Spiking self-attention: three binary maps, AND and accumulate, the scale folded into the threshold."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

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
    held,
    nonzero,
    per_sample,
    register,
    updates,
)
from spikegate.graph.signals import NO_CREDIT
from spikegate.kernels import coincidences
from spikegate.kernels.instructions import ATTEND, NARROW
from spikegate.neurons.cuba import Cuba
from spikegate.synapses.synapse import FLOAT_EXACT


@register
class SpikingAttention(Op):
    r"""SSA (Zhou et al., ICLR 2023, arXiv 2209.15425, eq. 4-5) in integers, per head.

    .. math::
        y_{ie} = \sum_j \sum_c q_{ic}\, k_{jc}\, v_{je}, \qquad s_t = \mathrm{CUBA}(2^{e}\, y)

    All of q, k, v are bits, so the products are ANDs and y is a count of coincidences. SSA's scale and threshold
    (0.125 and 0.5 in Spikformer, tau 2) become one threshold on the count: ``vth = 2^e * counts - 1`` with the strict
    comparison of the chip. There is no softmax, so halted tokens need no renormalisation: their q, k, v are zero, since the ops that
    send them take the same credit (a design rule, ``spikegate.graph.silence``).

    Order ``qk``: a = AND-count of q and k, then each v spike adds a column of a. Order ``kv``: K^T V first (less work
    when there are more tokens than channels per head), then each q spike adds a row of it.

    Events: ``attention_ac`` = coincidences accumulated + non-zero entries added, in the op's own order.

    Attributes
    ----------
    tokens, channels, heads : int
    exponent : int, e above: a shift to the left
    """

    kind: ClassVar[str] = "spiking_attention"
    slots: ClassVar[tuple[str, ...]] = ("q", "k", "v", "alive?", "open?")
    arithmetic: ClassVar[tuple[str, ...]] = ("and", "add", "shift", "compare", "leak")

    tokens: int
    channels: int
    heads: int
    exponent: int = 3
    neuron: Cuba = Cuba(4096, 2048, 63)
    order: str = "kv"

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.tokens, self.channels

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        n = self.tokens * self.channels
        width = self.channels // self.heads
        scratch = self.heads * width * width if self.order == "kv" else self.heads * self.tokens * self.tokens
        return Size(n, 0, 0, n * self.neuron.state_bits + 24 * scratch)

    @property
    def dense_ops(self) -> int:
        return 2 * self.tokens * self.tokens * self.channels

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Binary inputs, whole heads, sums that stay exact."""
        yield from self.neuron.problems()
        if self.channels % self.heads:
            yield f"{self.channels} channels do not split into {self.heads} heads", "choose heads that divide the channels"
        if shapes.get("alive", [(self.tokens,)]) != [(self.tokens,)]:
            yield f"credit of shape {shapes['alive']} does not match {self.tokens} tokens", "gate and layer need the same tokens"
        if self.order not in ("qk", "kv"):
            yield f"order {self.order!r} is unknown", "use 'qk' or 'kv'"
        for slot in "qkv":
            for shape in shapes.get(slot, []):
                if shape != self.out_shape:
                    yield f"{slot} has shape {shape}, needs {self.out_shape}", "q, k, v cover the same tokens and channels"
            if any(not p.binary for p in payloads.get(slot, [])):
                yield f"{slot} is not binary", "an AND needs spikes of value 1; put neurons before it"

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case counts of a sample."""
        peak = self.tokens * (self.channels // max(1, self.heads))
        if peak >= FLOAT_EXACT or self.neuron.overflows(peak << self.exponent, timesteps):
            yield f"worst-case count {peak} << {self.exponent} overflows the 24-bit state", "lower the exponent"

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    def split(self, x: np.ndarray) -> np.ndarray:
        """[batch, tokens, channels] to float32 [batch, heads, tokens, width]."""
        return x.reshape(len(x), self.tokens, self.heads, -1).transpose(0, 2, 1, 3).astype(np.float32)

    def inner(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The first product: K^T V [.., width, width] or Q K^T [.., tokens, tokens]."""
        met: np.ndarray = k.transpose(0, 1, 3, 2) @ v if self.order == "kv" else q @ k.transpose(0, 1, 3, 2)
        return met

    def count(self, inputs: Inputs) -> np.ndarray:
        q, k, v = (self.split(inputs[s]) for s in "qkv")
        inner = self.inner(q, k, v)
        y: np.ndarray = q @ inner if self.order == "kv" else inner @ v
        return y.transpose(0, 2, 1, 3).reshape(len(y), *self.out_shape)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        drive = self.count(inputs).astype(np.int64) << self.exponent
        if "alive" not in inputs:
            return self.neuron.step(state, drive, 0, None, held(inputs))
        alive = inputs["alive"] > 0
        out = np.zeros((len(drive), *self.out_shape), np.int32)
        out[alive] = self.neuron.step(state, drive[alive], 0, alive, held(inputs))
        return out

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        q, k, v = (self.split(inputs[s]) for s in "qkv")
        filled = (self.inner(q, k, v) != 0).astype(np.float32)
        if self.order == "kv":
            meet = (k.sum(3) * v.sum(3)).sum((1, 2))
            add = (q.sum(2) * filled.sum(3)).sum((1, 2))
        else:
            meet = (q.sum(2) * k.sum(2)).sum((1, 2))
            add = (filled.sum(2) * v.sum(3)).sum((1, 2))
        living = (inputs["alive"] > 0).sum(1) if "alive" in inputs else np.full(len(out), self.tokens)
        return {
            "spike_in": nonzero(inputs[s] for s in "qkv"),
            "attention_ac": (meet + add).astype(np.int64),
            "neuron_update": living * self.channels,
            "spike_out": per_sample(out != 0),
        }

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        q, k, v = [np.ascontiguousarray(inputs[s], np.int32) for s in "qkv"]
        credit = credit_of(inputs)
        y = np.empty_like(q)
        work, arrived = np.empty(len(y), np.int64), np.empty(len(y), np.int64)
        coincidences.attention(q, k, v, NO_CREDIT if credit is None else credit, self.heads, self.order == "kv", y, work, arrived)
        y <<= self.exponent
        out, fired = self.neuron.steps(state, y, 0, credit, held(inputs), span)
        return out, {
            "spike_in": arrived, "attention_ac": work, "neuron_update": updates(credit, len(out), *self.out_shape), "spike_out": fired
        }

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        if (self.tokens * self.channels // self.heads) << self.exponent >= NARROW:
            return None
        maps = [program.place(sources[s][0]) for s in "qkv"]
        shape = [self.tokens, self.channels, self.heads, int(self.order == "kv"), self.exponent]
        return [ATTEND, *maps, program.room(self.tokens * self.channels), *shape, *program.neurons(name, self.neuron, self.no_bias)]

    @cached_property
    def no_bias(self) -> np.ndarray:
        return np.zeros(self.channels, np.int32)

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        q, k, v = (self.split(inputs[s][:1])[0].astype(np.int64) for s in "qkv")
        y = np.zeros((self.heads, self.tokens, self.channels // self.heads), np.int64)
        for h in range(self.heads):
            if self.order == "kv":
                inner = np.zeros((k.shape[2], v.shape[2]), np.int64)
                for j in range(self.tokens):
                    alu.add(inner, np.nonzero(alu.coincide(k[h, j][:, None], v[h, j][None])), 1)
                for i, c in zip(*np.nonzero(q[h])):
                    live = np.flatnonzero(inner[c])
                    alu.add(y[h], (i, live), inner[c, live])
            else:
                inner = np.zeros((self.tokens, self.tokens), np.int64)
                for c in range(q.shape[2]):
                    alu.add(inner, np.nonzero(alu.coincide(q[h, :, c][:, None], k[h, :, c][None])), 1)
                for j, e in zip(*np.nonzero(v[h])):
                    live = np.flatnonzero(inner[:, j])
                    alu.add(y[h], (live, e), inner[live, j])
        return alu.shift(y.transpose(1, 0, 2).reshape(self.out_shape), self.exponent), self.count(inputs)[0].astype(
            np.int64
        ) << self.exponent

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        for order in ("kv", "qk"):

            def bits() -> np.ndarray:
                return (rng.random((2, 6, 8)) < 0.4).astype(np.int32)

            op = cls(6, 8, 2, order=order, neuron=Cuba(4096, 2048, 31))
            yield op, [{s: bits() for s in "qkv"} for _ in range(4)]
            alive = np.array([[3, 0, 1, 1, 0, 2], [1, 1, 0, 0, 0, 7]], np.int32)
            living = (alive > 0)[..., None]
            yield op, [{**{s: bits() * living for s in "qkv"}, "alive": alive} for _ in range(4)]
