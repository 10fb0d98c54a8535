"""Fully connected layer with feedback, of a NetX file."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Axes, Counts, Examples, Inputs, Op, Payloads, Problems, Shapes, State, register, total
from spikegate.neurons.base import Neuron
from spikegate.neurons.leaky import Leaky
from spikegate.ops.base.block import Block
from spikegate.synapses.taps import Taps


@register
class BlockRecurrent(Block):
    r"""NetX type ``dense_rec``. Slot ``s`` is the layer's own output of the timestep before, a delayed edge from itself.

    .. math:: y_t = \mathrm{neuron}(W\,\mathrm{vec}(x_t) + R\,y_{t-1}, b)

    Attributes
    ----------
    weight : int [out, in]
    weight_rec : int [out, out]
    bias : int [out]
    """

    kind: ClassVar[str] = "block_recurrent"
    slots: ClassVar[tuple[str, ...]] = ("x*", "s")
    axes: ClassVar[Axes] = {"weight": ("out", "in"), "weight_imag?": ("out", "in"), "weight_rec": ("out", "out"), "bias": ("biases",)}

    weight: np.ndarray
    weight_imag: np.ndarray
    weight_rec: np.ndarray
    bias: np.ndarray
    neuron: Neuron = Leaky()

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (self.weight.shape[1],)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (len(self.weight),)

    def taps(self, weight: np.ndarray) -> Taps:
        return Taps(weight[:, :, None, None])

    @property
    def feedback(self) -> Taps:
        return self.taps(self.weight_rec)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        yield from super().problems(shapes, payloads)
        n = len(self.weight)
        if shapes.get("s", [(n,)]) != [(n,)]:
            yield f"feedback of shape {shapes['s']} does not match {n} neurons", "connect the layer's own output, delayed"

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        back = self.feedback.current(inputs["s"][:, None])[:, 0]
        return self.neuron.step(state, self.sums(total(inputs["x"])) + back, self.bias)

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        return Op.advance(self, state, inputs, t, span)

    def arrivals(self, inputs: Inputs) -> list[tuple[np.ndarray, np.ndarray]]:
        own = np.count_nonzero(self.weight_rec, axis=0)
        return [*super().arrivals(inputs), (inputs["s"].astype(np.int64), own)]

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        x, back = total(tuple(s[:1] for s in inputs["x"])), inputs["s"][:1]
        apart = [self.synapses[0].accumulate(alu, self.arrange(one[:1])[0])[0] for one in inputs["x"]]
        slow = np.sum(apart, 0) + self.feedback.accumulate(alu, back)[0]
        return slow, (self.sums(x) + self.feedback.current(back[:, None])[:, 0])[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def spikes(*shape: int) -> np.ndarray:
            return rng.integers(0, 2, shape).astype(np.int32)

        none = np.zeros((0,), np.int32)
        op = cls(rng.integers(-60, 61, (5, 8)), none, rng.integers(-60, 61, (5, 5)), rng.integers(-9, 10, 5), Leaky(2000, 300, 80))
        yield op, [{"x": (spikes(2, 8),), "s": spikes(2, 5)} for _ in range(5)]
