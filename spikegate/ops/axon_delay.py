"""Axonal delays of a NetX layer."""

from __future__ import annotations

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
    merged,
    nonzero,
    register,
    total,
)
from spikegate.kernels import neuron_loops


@register
class AxonDelay(Op):
    r"""Each channel's events leave some timesteps later.

    .. math:: y_{t,c} = x_{t - d_c,\, c}

    SLAYER delays what a layer sends. Stock NetX delays what its synapses deliver instead, which is the same for a dense layer without
    bias whose state is not reset, and nothing at all for a convolution.

    Attributes
    ----------
    shape : (positions, channels) or (neurons,)
    delay : int [channels], 0..62 timesteps
    span : (lowest, highest) value of its source
    """

    kind: ClassVar[str] = "axon_delay"
    arithmetic: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[Axes] = {"delay": ("channels",)}

    shape: tuple[int, ...]
    delay: np.ndarray
    span: tuple[int, ...] = (0, 1)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def payload(self) -> Payload:
        return Payload(*self.span)

    @property
    def size(self) -> Size:
        cells = int(self.delay.sum()) * (int(np.prod(self.shape)) // self.shape[-1])
        return Size(state_bits=cells * self.payload.bits)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """One delay for each channel, within the chip's range."""
        if self.delay.shape != (self.shape[-1],):
            yield f"delay has {self.delay.size} values for {self.shape[-1]} channels", "give one for each channel"
        elif self.delay.min() < 0 or self.delay.max() > 62:
            yield f"delays span [{self.delay.min()}, {self.delay.max()}]", "a chip holds 0 to 62"
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, the axons {self.out_shape}", "they are joined one to one"

    def state(self, batch: int) -> State:
        return {"ring": np.zeros((batch, int(self.delay.max(initial=0)) + 1, *self.shape), np.int32)}

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        ring = state["ring"]
        rows = np.arange(len(t))
        ring[rows, t % ring.shape[1]] = total(inputs["x"])
        late = (t[:, None] - self.delay) % ring.shape[1]  # [batch, channels]
        flat = ring.reshape(*ring.shape[:2], -1, self.shape[-1])
        places = np.arange(flat.shape[2])[None, :, None]
        out: np.ndarray = flat[rows[:, None, None], late[:, None], places, np.arange(self.shape[-1])]
        return out.reshape(len(t), *self.shape)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        return {"spike_in": nonzero(inputs["x"]), "spike_out": nonzero((out,))}

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        found = merged(inputs["x"])
        x, events = found.total, found.events
        out = np.empty((len(x), *self.shape), np.int32)
        channels, ring = self.shape[-1], state["ring"]
        flat = x.reshape(len(x), -1, channels), np.ascontiguousarray(self.delay, np.int64), t
        neuron_loops.delayed(*flat, ring.reshape(*ring.shape[:2], -1, channels), out.reshape(len(x), -1, channels))
        return out, {"spike_in": events.sum(1, dtype=np.int64), "spike_out": nonzero((out,))}

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        yield cls((4, 3), np.array([0, 2, 5])), [{"x": (rng.integers(0, 2, (2, 4, 3)).astype(np.int32),)} for _ in range(8)]
