"""All-to-all synapses with CUBA neurons."""

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
    State,
    merged,
    nonzero,
    per_sample,
    register,
    summed,
    total,
    updates,
)
from spikegate.kernels import counting
from spikegate.kernels.instructions import FIRE
from spikegate.neurons.cuba import Cuba
from spikegate.synapses import synapse
from spikegate.synapses.taps import Taps


@register
class Dense(Op):
    r"""Fully connected spiking layer on the flattened input.

    .. math:: s_t = \mathrm{CUBA}\Big(\sum_{\text{sources } x} W\,\mathrm{vec}(x_t),\; b\Big)

    Input neurons are numbered as the source map is: position first, then channel. Stock NetX types ``dense`` and
    ``flatten`` + ``dense`` (whose channel-first order the reader and the writer permute).

    Attributes
    ----------
    weight : int [out, in], even, -256..254
    bias : int [out]
    """

    kind: ClassVar[str] = "dense"
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare", "leak")
    axes: ClassVar[Axes] = {"weight": ("out", "in"), "bias": ("out",)}

    weight: np.ndarray
    bias: np.ndarray
    neuron: Cuba = Cuba()

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (len(self.weight),)

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        n = len(self.weight)
        return Size(n, int(np.count_nonzero(self.weight)), 8 * self.weight.size + 13 * n, n * self.neuron.state_bits)

    @property
    def dense_ops(self) -> int:
        return self.weight.size

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Loihi's ranges, exactness of the sums, shapes that fit."""
        yield from self.neuron.problems()
        yield from synapse.weight_problems(self.weight, self.bias, len(self.weight))
        for shape in shapes.get("x", []):
            if int(np.prod(shape)) != self.weight.shape[1]:
                yield f"input has {int(np.prod(shape))} neurons {shape}, the weights need {self.weight.shape[1]}", "check the sizes"
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "an input can be negative", "a synapse takes spikes or graded spikes >= 0; put an lif op before it"

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case sums of a sample."""
        bound = synapse.exact_bound(self.weight, sum(p.high for p in payloads.get("x", [])), self.bias)
        if self.neuron.overflows(bound, timesteps):
            yield (
                f"worst-case input {bound} x gain {self.neuron.gain(timesteps):g} overflows the 24-bit state",
                "lower weights and threshold together",
            )

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    @cached_property
    def fanout(self) -> np.ndarray:
        """Non-zero synapses that leave each input neuron, int64 [inputs]."""
        fan: np.ndarray = np.count_nonzero(self.weight, axis=0)
        return fan

    def current(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1).astype(np.float32) @ self.weight.T.astype(np.float32)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return self.neuron.step(state, self.current(total(inputs["x"])), self.bias, None)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        return {
            "spike_in": nonzero(inputs["x"]),
            "synop": summed(counting.weighted(x.reshape(len(x), -1), self.fanout) for x in inputs["x"]),
            "neuron_update": np.full(len(out), len(self.weight)),
            "spike_out": per_sample(out != 0),
        }

    @cached_property
    def taps(self) -> Taps:
        """The synapses as the compiled kernels take them."""
        return Taps(self.weight[:, :, None, None])

    @cached_property
    def bias32(self) -> np.ndarray:
        return self.bias.astype(np.int32)

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        found, n = merged(inputs["x"]), updates(None, len(t), 1, len(self.weight))
        at_once = self.neuron.spike(self.taps, found, state, self.bias32, None, None, span)
        if at_once is not None:
            out, (synops, arrived, fired, _) = at_once
            return out[:, 0], {"spike_in": arrived, "synop": synops, "neuron_update": n, "spike_out": fired}
        current, synops, arrived = self.taps.sums(found)
        out, fired = self.neuron.steps(state, current[:, 0], self.bias32, span=span)
        return out, {"spike_in": arrived, "synop": synops, "neuron_update": n, "spike_out": fired}

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        synapses = program.synapses(self.taps, sources["x"], flat=True)
        return None if synapses is None else [FIRE, *synapses, *program.neurons(name, self.neuron, self.bias32)]

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        x = total(inputs["x"])[:1]
        acc = np.zeros(len(self.weight), np.int64)
        for j in np.flatnonzero(x):
            rows = np.flatnonzero(self.weight[:, j])
            for _ in range(int(x.flat[j])):
                alu.add(acc, (rows,), self.weight[rows, j])
        return acc, self.current(x)[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        soft, several = Cuba(4096, 2048, 90, "subtract"), Cuba(1024, 300, 40, "subtract", v_step=70, levels=3)
        for neuron in (Cuba(4096, 2048, 100), Cuba(1024, 128, 300), soft, several):
            op = cls(weight=rng.integers(-60, 60, (7, 24)) * 2, bias=rng.integers(-20, 20, 7), neuron=neuron)
            yield op, [{"x": (rng.integers(0, 2, (3, 6, 4)).astype(np.int32),)} for _ in range(6)]
