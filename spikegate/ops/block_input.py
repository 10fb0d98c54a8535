"""Input block of a NetX file: affine transform of an image, then neurons."""

from __future__ import annotations

from typing import ClassVar

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
    nonzero,
    register,
    summed,
    total,
    updates,
)
from spikegate.kernels import counting
from spikegate.neurons.base import Neuron
from spikegate.neurons.cuba import MANT_SHIFT
from spikegate.neurons.leaky import Leaky
from spikegate.neurons.sigma_delta import Delta

DRIVE = 1 << 48  # what neurons shift up by spike_exp stays below 2^63

@register
class BlockInput(Op):
    r"""NetX type ``input`` with neurons.

    .. math:: y_t = \mathrm{neuron}\big(2^{-6} (w x_t + 2^6 b)\big)

    The six bits of fraction are kept, as SLAYER's forward keeps them. ``x`` is the image in 1/64 (SLAYER's float times 64). With ``w`` = 64
    and ``b`` = 0 it is what scripts write into stock NetX's ``neuron.bias_mant`` or ``neuron.a_in``. Scaling by ``w`` needs a
    multiplication for each input value (`macs`).

    Attributes
    ----------
    shape : of the map, (positions, channels) or (neurons,)
    weight, bias : int, of the transform, weight units
    """

    kind: ClassVar[str] = "block_input"
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare", "leak")

    shape: tuple[int, ...]
    weight: int = 64
    bias: int = 0
    neuron: Neuron = Leaky()

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        n = int(np.prod(self.shape))
        return Size(n, n, 8 + 13, n * self.neuron.state_bits)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Shapes that fit, a neuron that takes a real input."""
        yield from self.neuron.problems(self.out_shape[-1])
        if self.neuron.complex:
            yield "resonators as input neurons", "SLAYER cannot run this either: their input is complex"
        reach = max((max(abs(p.low), abs(p.high)) for p in payloads.get("x", [])), default=0)
        if abs(self.weight) * reach + (abs(self.bias) << MANT_SHIFT) >= DRIVE:
            yield f"weight {self.weight} and bias {self.bias} for inputs up to {reach}", "scale the transform or the input down"
        for shape in shapes.get("x", []):
            if shape != self.out_shape:
                yield f"input has shape {shape}, the neurons {self.out_shape}", "they are fed one to one"

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    def drive(self, inputs: Inputs) -> np.ndarray:
        return total(inputs["x"]).astype(np.int64) * self.weight

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return self.neuron.step(state, self.drive(inputs) + (self.bias << MANT_SHIFT), 0, MANT_SHIFT)

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        n = int(np.prod(self.shape))
        synop = sum(np.abs(x.reshape(len(x), -1).astype(np.int64)).sum(1) for x in inputs["x"]) * (self.weight != 0)
        return {"spike_in": nonzero(inputs["x"]), "synop": synop, "neuron_update": np.full(len(out), n), "spike_out": nonzero((out,))}

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        out, fired = self.neuron.steps(state, self.drive(inputs) + (self.bias << MANT_SHIFT), 0, span, MANT_SHIFT)
        synop = summed(counting.magnitudes(x.reshape(len(x), -1)) for x in inputs["x"]) * (self.weight != 0)
        n = updates(None, len(out), 1, int(np.prod(self.out_shape)))
        return out, {"spike_in": nonzero(inputs["x"]), "synop": synop, "neuron_update": n, "spike_out": fired}

    def macs(self, inputs: Inputs) -> int:
        return sum(int(((x != 0) & (x != 1)).sum()) for x in inputs["x"]) * (self.weight not in (0, 1))

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        acc = np.zeros(self.out_shape, np.int64)
        for x in inputs["x"]:
            for place in zip(*np.nonzero(x[0])):
                for _ in range(abs(int(x[0][place])) * (self.weight != 0)):
                    alu.add(acc, tuple(np.array([k]) for k in place), self.weight if x[0][place] > 0 else -self.weight)
        return acc, self.drive({"x": tuple(x[:1] for x in inputs["x"])})[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def image(low: int, high: int) -> np.ndarray:
            return rng.integers(low, high, (2, 6, 3)).astype(np.int32)

        yield cls((6, 3), 36, 34, Leaky(4096, 1024, 25)), [{"x": (image(0, 65),)} for _ in range(4)]
        yield cls((6, 3), 50, -7, Delta(3)), [{"x": (image(-64, 65),)} for _ in range(4)]
