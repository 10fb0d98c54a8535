"""Takes some channels out of a map and lays them on the token grid."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Counts, Examples, Inputs, Op, Payload, Payloads, Problems, Shapes, State, register, total


@register
class Route(Op):
    r"""Wiring of the host's output; nothing is computed.

    .. math:: y_{k,\, \text{at} + (dy\, f + dx)\, n + c} = x_{(Yf + dy)\, w + (Xf + dx),\; \text{first} + c}, \qquad k = Y w / f + X

    `count` channels from `first` on; with ``fold`` f, the f x f positions under a token become its channels (space to
    depth). The other ones of the `channels` are 0.

    Attributes
    ----------
    grid : (height, width) of the map; low, high : range of its values
    """

    kind: ClassVar[str] = "route"

    grid: tuple[int, int]
    first: int
    count: int
    channels: int
    low: int
    high: int
    fold: int = 1
    at: int = 0

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.grid[0] // self.fold) * (self.grid[1] // self.fold), self.channels

    @property
    def payload(self) -> Payload:
        return Payload(self.low, self.high)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Whole folds, channels that exist, the host's range."""
        if self.grid[0] % self.fold or self.grid[1] % self.fold:
            yield f"a map of {self.grid} does not fold by {self.fold}", "choose a stride that divides the image"
        if self.at + self.count * self.fold**2 > self.channels:
            what = f"{self.count} channels fold to {self.count * self.fold**2} from {self.at} on, more than {self.channels}"
            yield what, "take fewer channels"
        for shape in shapes.get("x", []):
            if len(shape) != 2 or shape[0] != self.grid[0] * self.grid[1] or self.first + self.count > shape[-1]:
                yield f"input has shape {shape}, needs {self.grid} positions and {self.first + self.count} channels", "check the stem"
        for p in payloads.get("x", []):
            if p.low < self.low or p.high > self.high:
                yield f"values span [{p.low}, {p.high}], the edge carries [{self.low}, {self.high}]", "state the range that they have"

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        x = total(inputs["x"])[..., self.first : self.first + self.count]
        (h, w), f = self.grid, self.fold
        x = x.reshape(len(x), h // f, f, w // f, f, self.count).transpose(0, 1, 3, 2, 4, 5).reshape(len(x), -1, f * f * self.count)
        out = np.zeros((len(x), *self.out_shape), np.int32)
        out[..., self.at : self.at + x.shape[-1]] = x
        return out

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        return {"spike_out": np.zeros(len(out), np.int64)}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        out = self.step({}, {"x": tuple(x[:1] for x in inputs["x"])}, np.array([t]))
        return out, out

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def x() -> np.ndarray:
            return rng.integers(-9, 10, (2, 24, 5)).astype(np.int32)

        yield cls((4, 6), 1, 2, 10, -9, 9, fold=2), [{"x": (x(),)} for _ in range(2)]
        yield cls((4, 6), 0, 4, 4, -9, 9), [{"x": (x(),)}]
        yield cls((4, 6), 1, 2, 12, -9, 9, fold=2, at=3), [{"x": (x(),)}]
