"""Class accumulators: every spike of the residual stream adds one column of the head; halted tokens keep their value."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

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
    Sources,
    State,
    merged,
    nonzero,
    register,
    summed,
    total,
)
from spikegate.graph.signals import NO_CREDIT
from spikegate.kernels import counting, gate_loops
from spikegate.kernels.gather import BLOCK
from spikegate.kernels.instructions import READ
from spikegate.synapses.synapse import FLOAT_EXACT, accumulate_each, one_sided_bound, weight_problems
from spikegate.synapses.taps import Taps

REACH = (1 << 23) - 1


@register
class Readout(Op):
    r"""Linear head on every token, summed over tokens and timesteps (non-leaky, never-firing accumulators).

    .. math::
        z \leftarrow z + b + D + \sum_k W_k x_{k,t} + \sum_{\text{branches } c} c_t + \sum_{\text{host } h} h_t, \qquad
        D \leftarrow D + \sum_{k \text{ died at } t} W_k x_{k,t}

    *Last-alive*: a token that halts at timestep t keeps adding the contribution it had then, through D: one add per
    class and timestep instead of its events. When no token is left, the remaining timesteps would add D + b each time;
    that is added at once, so the sample can end without changing its logits. These adds exist because of halting and
    are booked as ``gate_update``.

    Slots: ``before`` and ``after`` bring the credit before the first and after the last gate of this timestep. ``current`` takes
    branches of a membrane stream whose synapses lead to the classes (ops of kind ``current`` with one output position; their
    accumulates are booked there), ``direct`` integers that the host sent, one accumulate each. Both need a net without halting.

    Attributes
    ----------
    weight : int [classes, tokens, channels], even
    bias : int [classes], added each timestep
    timesteps : int, T
    """

    kind: ClassVar[str] = "readout"
    slots: ClassVar[tuple[str, ...]] = ("x*", "current*?", "direct*?", "before?", "after?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add",)
    axes: ClassVar[Axes] = {"weight": ("classes", "tokens", "channels"), "bias": ("classes",)}

    weight: np.ndarray
    bias: np.ndarray
    timesteps: int

    @property
    def classes(self) -> int:
        return len(self.weight)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.classes,)

    @property
    def payload(self) -> Payload:
        return Payload(-REACH, REACH)

    @property
    def size(self) -> Size:
        return Size(self.classes, int(np.count_nonzero(self.weight)), 8 * self.weight.size + 13 * self.classes, 48 * self.classes)

    @property
    def dense_ops(self) -> int:
        return self.weight.size

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Loihi's ranges, exact sums, accumulators that hold T timesteps."""
        yield from weight_problems(self.weight, self.bias, self.classes)
        for shape in shapes.get("x", []):
            if shape != self.weight.shape[1:]:
                yield f"input has shape {shape}, the head {self.weight.shape[1:]}", "check tokens and channels"
        for slot in ("before", "after"):
            for shape in shapes.get(slot, []):
                if shape != self.weight.shape[1:2]:
                    what = f"credit of shape {shape} in slot {slot!r} does not match {self.weight.shape[1]} tokens"
                    yield what, "gates need the head's tokens"
        if ("before" in shapes) != ("after" in shapes):
            yield "only one of before and after is connected", "connect the credit before and after the gates, or neither"
        for slot in ("current", "direct"):
            for shape in shapes.get(slot, []):
                if shape != (1, self.classes):
                    yield f"{slot} has shape {shape}, needs (1, {self.classes})", "one value for each class"
            if slot in shapes and "after" in shapes:
                yield f"halted tokens would keep no value in slot {slot!r}", "leave out halting, or put neurons before the head"
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "an input can be negative", "a synapse takes spikes or graded spikes >= 0"

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case class sums of a sample."""
        bound = one_sided_bound(self.weight.reshape(self.classes, -1), sum(p.high for p in payloads.get("x", [])), self.bias)
        bound += sum(max(-p.low, p.high) for slot in ("current", "direct") for p in payloads.get(slot, []))
        if bound >= FLOAT_EXACT or bound * self.timesteps > REACH:
            yield f"worst-case logit {bound} x {self.timesteps} timesteps overflows 24 bits", "lower the head's weights"

    def state(self, batch: int) -> State:
        return {"z": np.zeros((batch, self.classes), np.int32), "held": np.zeros((batch, self.classes), np.int32)}

    @cached_property
    def fanout(self) -> np.ndarray:
        """Non-zero synapses that leave each input neuron, int64 [tokens * channels]."""
        fan: np.ndarray = np.count_nonzero(self.weight, axis=0).ravel()
        return fan

    @cached_property
    def columns(self) -> np.ndarray:
        return self.weight.reshape(self.classes, -1).T.astype(np.float32)

    def synops(self, x: np.ndarray) -> np.ndarray:
        """Accumulates that a map causes, int64 [batch]."""
        return counting.weighted(x.reshape(len(x), -1), self.fanout)

    def head(self, x: np.ndarray) -> np.ndarray:
        """Contribution of a map [batch, tokens, channels] to each class, int32 [batch, classes]."""
        sums: np.ndarray = (x.reshape(len(x), -1).astype(np.float32) @ self.columns).astype(np.int32)
        return sums

    @staticmethod
    def died(inputs: Inputs) -> np.ndarray:
        now: np.ndarray = (inputs["before"] > 0) & (inputs["after"] == 0)
        return now

    @staticmethod
    def arriving(inputs: Inputs) -> np.ndarray | int:
        """What comes without a weight, int32 [batch, classes]; 0 where nothing does."""
        found = (*inputs.get("current", ()), *inputs.get("direct", ()))
        return total(found)[:, 0] if found else 0

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        x = total(inputs["x"])
        state["z"] += state["held"] + self.head(x) + self.bias.astype(np.int32) + self.arriving(inputs)
        if "after" in inputs:
            died = self.died(inputs)
            if died.any():
                state["held"] += self.head(x * died[..., None])
            over = ~(inputs["after"] > 0).any(1)
            state["z"] += ((self.timesteps - t) * over)[:, None].astype(np.int32) * (state["held"] + self.bias.astype(np.int32))
        return state["z"].copy()

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        holding = np.zeros(len(out), np.int64)
        if "after" in inputs:
            dead_before = (inputs["before"] == 0).any(1)
            over = ~(inputs["after"] > 0).any(1)
            holding = self.synops(total(inputs["x"]) * self.died(inputs)[..., None])
            holding += self.classes * (dead_before.astype(np.int64) + over * (self.timesteps - t))
        from_host = nonzero(inputs["direct"]) if "direct" in inputs else 0
        return {
            "spike_in": nonzero(inputs["x"]) + from_host,
            "synop": summed(self.synops(x) for x in inputs["x"]) + from_host,
            "gate_update": holding,
            "neuron_update": np.full(len(out), self.classes),
            "spike_out": np.full(len(out), self.classes),
        }

    @cached_property
    def taps(self) -> Taps:
        """The head as the compiled kernels take it."""
        return Taps(self.weight.reshape(self.classes, -1, 1, 1))

    @cached_property
    def narrow_bias(self) -> np.ndarray:
        return self.bias.astype(np.int32)

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        found = merged(inputs["x"])
        sums, synops, arrived = self.taps.sums(found)
        now = sums[:, 0] + self.arriving(inputs)
        if "direct" in inputs:
            from_host = nonzero(inputs["direct"])
            synops, arrived = synops + from_host, arrived + from_host
        holding, more = np.zeros(len(t), np.int64), NO_CREDIT
        before = after = NO_CREDIT
        if "after" in inputs:
            before, after = (np.ascontiguousarray(inputs[s], np.int32) for s in ("before", "after"))
            died = np.empty(before.shape, np.bool_)
            if gate_loops.deaths(before, after, died):
                sums_of_dead, holding, _ = self.taps.sums(Sources((found.total * died[..., None],)).merged)
                more = sums_of_dead[:, 0]
        out = np.empty((len(t), self.classes), np.int32)
        gate_loops.class_sums(
            now, more, before, after, state["z"], state["held"], self.narrow_bias, self.timesteps, t, out, holding
        )
        each = np.full(len(t), self.classes)
        return out, {"spike_in": arrived, "synop": synops, "gate_update": holding, "neuron_update": each, "spike_out": each}

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        synapses = program.synapses(self.taps, sources["x"], flat=True)
        if synapses is None or not program.cap(synapses[0]) or {"current", "direct"} & sources.keys():
            return None
        ends = [program.place(sources[s][0]) if s in sources else -1 for s in ("before", "after")]
        inputs, cap = self.weight[0].size, program.cap(synapses[0])
        spare = program.room(inputs * cap + BLOCK) if "after" in sources else 0
        states = [program.kept(name, key) for key in ("z", "held")]
        return [READ, *synapses, *states, program.w32.put(self.narrow_bias), self.timesteps, *ends, self.weight.shape[2], spare]

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        x = total(inputs["x"])[:1]
        z = np.zeros(self.classes, np.int64)
        flat = self.weight.reshape(self.classes, -1)
        for j in np.flatnonzero(x):
            rows = np.flatnonzero(flat[:, j])
            for _ in range(int(x.flat[j])):
                alu.add(z, (rows,), flat[rows, j])
        own = self.head(x)[0]
        if "direct" not in inputs:
            return z, own
        sent = tuple(v[:1, 0] for v in inputs["direct"])
        return z + accumulate_each(alu, sent, (self.classes,)), own + total(sent)[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def bits() -> np.ndarray:
            return rng.integers(0, 2, (3, 4, 5)).astype(np.int32)

        op = cls(weight=rng.integers(-30, 30, (3, 4, 5)) * 2, bias=rng.integers(-9, 9, 3), timesteps=3)
        yield op, [{"x": (bits(), bits())} for _ in range(3)]
        signed = {s: tuple(rng.integers(-40, 40, (3, 1, 3)).astype(np.int32) for _ in range(2)) for s in ("current", "direct")}
        yield op, [{"x": (bits(),), **signed} for _ in range(3)]
        alive = [
            np.array(a, np.int32) for a in ([[9] * 4] * 3, [[9, 0, 3, 3], [0, 0, 0, 5], [9] * 4], [[0] * 4, [0, 0, 0, 1], [4, 0, 0, 0]])
        ]
        alive.append(np.zeros((3, 4), np.int32))
        yield op, [{"x": (bits() * (alive[k] > 0)[..., None],), "before": alive[k], "after": alive[k + 1]} for k in range(3)]
