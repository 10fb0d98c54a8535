"""Population read-out of a NetX file: the neurons of each class, summed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Counts, Examples, Inputs, Op, Payload, Payloads, Problems, Shapes, Size, State, nonzero, register, total


@register
class BlockAverage(Op):
    r"""NetX type ``average``: group k of neurons in channel-major order.

    .. math:: y_{t,k} = \sum_{i \in \text{group } k} x_{t,i}

    SLAYER's mean is this sum divided by the group's size; the sum is kept, it is an integer. Stock NetX refuses the type. Only the
    last layer can be one.

    Attributes
    ----------
    shape : of the input, (positions, channels) or (neurons,)
    outputs : int, groups
    high : int, largest absolute value of an input
    """

    kind: ClassVar[str] = "block_average"
    arithmetic: ClassVar[tuple[str, ...]] = ("add",)

    shape: tuple[int, ...]
    outputs: int
    high: int = 1

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.outputs,)

    @property
    def payload(self) -> Payload:
        most = self.high * (int(np.prod(self.shape)) // self.outputs)
        return Payload(0 if self.high == 1 else -most, most)

    @property
    def size(self) -> Size:
        return Size(self.outputs, int(np.prod(self.shape)))

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Groups of equal size, a source of that shape."""
        if int(np.prod(self.shape)) % self.outputs:
            yield f"{int(np.prod(self.shape))} neurons do not split into {self.outputs} groups", "give equal groups"
        for shape in shapes.get("x", []):
            if shape != tuple(self.shape):
                yield f"input has shape {shape}, the groups are made of {tuple(self.shape)}", "check the sizes"

    def groups(self, x: np.ndarray) -> np.ndarray:
        """Input [batch, *shape] as [batch, groups, members]."""
        return np.moveaxis(x, -1, 1).reshape(len(x), self.outputs, -1)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        sums: np.ndarray = self.groups(total(inputs["x"])).sum(2)
        return sums.astype(np.int32)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        arrived = nonzero(inputs["x"])
        return {"spike_in": arrived, "synop": arrived, "neuron_update": np.full(len(out), self.outputs), "spike_out": nonzero((out,))}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        acc = np.zeros(self.out_shape, np.int64)
        for x in inputs["x"]:
            for k, members in enumerate(self.groups(x[:1])[0]):
                for value in members[members != 0]:
                    alu.add(acc, (np.array([k]),), value)
        return acc, self.step({}, {"x": tuple(x[:1] for x in inputs["x"])}, np.ones(1))[0].astype(np.int64)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        yield cls((4, 3), 2), [{"x": (rng.integers(0, 2, (2, 4, 3)).astype(np.int32),)} for _ in range(3)]
