"""CUBA neurons whose biases the host sets once for each sample: direct coding without a replay of the image."""

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
    held,
    merged,
    nonzero,
    per_sample,
    register,
    total,
    updates,
)
from spikegate.kernels.instructions import BIASED
from spikegate.neurons.cuba import DECAY_ONE, Cuba
from spikegate.ops.base.patches import patch_problems, spread
from spikegate.synapses.synapse import accumulate_each


@register
class Biased(Op):
    r"""Neurons with a bias of their own, written at the first timestep.

    .. math:: b = \sum_{\text{sources } x} x_1, \qquad s_t = \mathrm{CUBA}(0, b)

    The same spikes as `inject` followed by `lif`, without the events between them: a chip keeps a bias with its neuron and adds it when it
    updates the neuron. Writing it is one event and one accumulate for each value that is not 0, also where a timestep mask skips t = 1.

    Attributes
    ----------
    shape : (positions, channels)
    low, high : range of the biases, in mantissa units
    """

    kind: ClassVar[str] = "biased"
    slots: ClassVar[tuple[str, ...]] = ("x*", "alive?", "open?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare", "leak")

    shape: tuple[int, ...]
    low: int
    high: int
    neuron: Cuba = Cuba()
    grid: tuple[int, int] = (1, 1)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def out_grid(self) -> tuple[int, int] | None:
        """The map's grid; None where it is not stated."""
        return None if tuple(self.grid) == (1, 1) else self.grid

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        n = int(np.prod(self.shape))
        return Size(n, n, 0, n * (self.neuron.state_bits + Payload(self.low, self.high).bits))

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Register ranges, and shapes and ranges that fit."""
        yield from self.neuron.problems()
        if self.neuron.i_decay != DECAY_ONE:
            hint = "a bias goes to the voltage: use i_decay 4096, or inject and lif"
            yield f"neurons keep a current (i_decay {self.neuron.i_decay})", hint
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, the neurons {self.out_shape}", "they are fed one to one"
        if not self.out_grid and shapes.get("alive", [self.shape[:1]]) != [tuple(self.shape[:1])]:
            yield f"credit of shape {shapes['alive']} does not match {self.shape[0]} positions", "state the map's grid"
        elif self.out_grid and self.grid[0] * self.grid[1] != self.shape[0]:
            yield f"a map of {self.grid[0]} x {self.grid[1]} has no {self.shape[0]} positions", "state the map's height and width"
        else:
            yield from patch_problems(shapes, self.out_grid or (1, self.shape[0]))
        given = payloads.get("x", [])
        if given and (sum(p.low for p in given) < self.low or sum(p.high for p in given) > self.high):
            yield f"its sources' sum can leave [{self.low}, {self.high}]", "state the range that they really have"

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case bias in every timestep of a sample."""
        bound = max(abs(self.low), abs(self.high))
        if self.neuron.overflows(bound, timesteps):
            yield f"worst-case bias {bound} overflows the 24-bit state", "clip the host's integers to a smaller range"

    def state(self, batch: int) -> State:
        return {"bias": np.zeros((batch, *self.out_shape), np.int32), **self.neuron.state((batch, *self.out_shape))}

    def credit(self, inputs: Inputs) -> np.ndarray | None:
        """Credit of each position; None where no gate is connected."""
        return spread(inputs, self.out_grid or (1, self.shape[0]))

    def latch(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> Counts:
        first = np.flatnonzero(t == 1)
        arrived = np.zeros(len(t), np.int64)
        if len(first):
            found = merged(inputs["x"])
            state["bias"][first // span] = found.total[first].reshape(len(first), *self.out_shape)
            arrived[first] = found.events[first].sum(1)
        return {"spike_in": arrived, "synop": arrived}

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        first = t == 1
        if first.any():
            state["bias"][first] = total(inputs["x"])[first]
        credit = self.credit(inputs)
        if credit is None:
            return self.neuron.step(_neurons(state), state["bias"], 0, None, held(inputs))
        alive, out = credit > 0, np.zeros(state["bias"].shape, np.int32)
        out[alive] = self.neuron.step(_neurons(state), state["bias"][alive], 0, alive, held(inputs))
        return out

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        arrived = nonzero(inputs["x"]) * (t == 1)
        n = updates(self.credit(inputs), len(out), self.shape[0], int(np.prod(self.shape[1:])))
        return {"spike_in": arrived, "synop": arrived, "neuron_update": n, "spike_out": per_sample(out != 0)}

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        written = self.latch(state, inputs, t, span)
        current = state["bias"] if span == 1 else np.repeat(state["bias"], span, 0)
        credit = self.credit(inputs)
        out, fired = self.neuron.steps(_neurons(state), current, 0, credit, held(inputs), span)
        n = updates(credit, len(out), self.shape[0], int(np.prod(self.shape[1:])))
        return out, {**written, "neuron_update": n, "spike_out": fired}

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        if len(self.shape) != 2 or sources.get("alive"):
            return None
        room = program.room(int(np.prod(self.shape)))
        columns = program.neurons(name, self.neuron, self.no_bias)
        return [BIASED, program.merge(sources["x"]), *self.shape, program.kept(name, "bias"), room, *columns]

    @cached_property
    def no_bias(self) -> np.ndarray:
        return np.zeros(self.shape[-1], np.int32)

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        return accumulate_each(alu, tuple(x * (t == 1) for x in inputs["x"]), self.out_shape), total(inputs["x"])[0] * (t == 1)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def later(first: np.ndarray) -> list[Inputs]:
            return [{"x": (first if k == 0 else np.zeros_like(first),)} for k in range(5)]

        yield cls((6, 3), -80, 119, Cuba(4096, 2048, 90)), later(rng.integers(-80, 120, (2, 6, 3)).astype(np.int32))
        both = [tuple(rng.integers(0, 90, (2, 4, 2)).astype(np.int32) for _ in range(2)) for _ in range(4)]
        yield cls((4, 2), 0, 178, Cuba(4096, 256, 150)), [{"x": x} for x in both]
        credit = np.array([[7, 0, 2, 5], [1, 9, 3, 0]], np.int32)
        fine = rng.integers(-80, 120, (2, 16, 3)).astype(np.int32)
        gated = [{**x, "alive": credit * (k < 4)} for k, x in enumerate(later(fine))]
        yield cls((16, 3), -80, 119, Cuba(4096, 2048, 90), grid=(4, 4)), gated
        yield cls((4, 2), 0, 178, Cuba(4096, 256, 150)), [{"x": x, "alive": credit} for x in both]


def _neurons(state: State) -> State:
    return {n: a for n, a in state.items() if n != "bias"}
