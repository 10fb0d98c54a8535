"""Convolution synapses with CUBA neurons; with a 1x1 kernel it is a token-wise linear layer with shared weights."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spikegate.graph.ir import (
    Alu,
    Axes,
    Counts,
    Examples,
    Inputs,
    Payload,
    Payloads,
    Problems,
    Shapes,
    Size,
    State,
    held,
    merged,
    nonzero,
    only_alive,
    per_sample,
    register,
    total,
    updates,
)
from spikegate.kernels.instructions import FIRE
from spikegate.neurons.cuba import Cuba
from spikegate.ops.base.maps import MapOp
from spikegate.ops.base.patches import patch_problems, spread
from spikegate.synapses import synapse


@register
class Conv(MapOp):
    r"""Spiking convolution.

    .. math:: s_t = \mathrm{CUBA}\Big(\sum_{\text{sources } x} W * x_t,\; b\Big)

    Halted tokens (credit 0) are neither integrated nor sent, their bias included. With a kernel of stride 1 that is 1x1 a dead token's
    input is its own and does not arrive. A larger kernel reads across tokens: what arrives has been sent to living neighbours, too, and all
    its synapses count. There the map may be finer than the tokens; each has a patch of it (`ops.base.patches`).
    Events: ``synop`` = input value x non-zero synapses that really exist (a value n is n accumulates),
    ``neuron_update`` = living neurons. Stock NetX type ``conv``.

    Attributes
    ----------
    weight : int [out, in / groups, kh, kw], even, -256..254
    bias : int [out], 13-bit mantissa, added every timestep
    grid : (height, width) of the input map
    padding : int, or (rows, columns)
    """

    kind: ClassVar[str] = "conv"
    slots: ClassVar[tuple[str, ...]] = ("x*", "alive?", "open?")
    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare", "leak")
    axes: ClassVar[Axes] = {"weight": ("out", "in / groups", "kh", "kw"), "bias": ("out",)}

    weight: np.ndarray
    bias: np.ndarray
    grid: tuple[int, int]
    stride: int = 1
    padding: synapse.Padding = 0
    groups: int = 1
    neuron: Cuba = Cuba()

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        neurons = int(np.prod(self.out_shape))
        synapses, bits = synapse.memory(self.weight, *self.geometry)
        return Size(neurons, synapses, bits + 13 * len(self.bias), neurons * self.neuron.state_bits)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Loihi's ranges, exactness of the sums, shapes that fit."""
        yield from self.neuron.problems()
        yield from synapse.weight_problems(self.weight, self.bias, len(self.weight))
        yield from self.input_problems(shapes)
        if any(p.low < 0 for p in payloads.get("x", [])):
            yield "an input can be negative", "a synapse takes spikes or graded spikes >= 0; put an lif op before it"
        if len(self.weight) % self.groups:
            yield f"{len(self.weight)} channels do not split into {self.groups} groups", "choose groups that divide the channels"
        if "alive" in shapes and self.pointwise:
            yield from self.gating_problems(shapes)
        else:
            yield from patch_problems(shapes, self.out_grid)

    def overflows(self, payloads: Payloads, timesteps: int) -> Problems:
        """Worst-case sums of a sample."""
        high = sum(p.high for p in payloads.get("x", []))
        bound = synapse.exact_bound(self.weight.reshape(len(self.weight), -1), high, self.bias)
        if self.neuron.overflows(bound, timesteps):
            yield (
                f"worst-case input {bound} x gain {self.neuron.gain(timesteps):g} overflows the 24-bit state",
                "lower weights and threshold together, or the number of residual sources",
            )

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    def current(self, x: np.ndarray) -> np.ndarray:
        return synapse.conv_current(x, self.weight, *self.geometry)

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        x, credit = total(inputs["x"]), spread(inputs, self.out_grid)
        if credit is None:
            return self.neuron.step(state, self.current(x), self.bias, None, held(inputs))
        alive = credit > 0
        current = self.current(x[alive][None])[0] if self.pointwise else self.current(x)[alive]
        out = np.zeros((len(x), *self.out_shape), np.int32)
        out[alive] = self.neuron.step(state, current, self.bias, alive, held(inputs))
        return out

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        rows = self.arriving(inputs)
        credit = spread(inputs, self.out_grid)
        return {
            "spike_in": nonzero(rows),
            "synop": self.synops(rows),
            "neuron_update": updates(credit, len(out), *self.out_shape),
            "spike_out": per_sample(out != 0),
        }

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        credit, found = spread(inputs, self.out_grid), merged(inputs["x"])
        if credit is not None and not self.pointwise:
            current, synops, arrived = self.taps.sums(found)
            out, fired = self.neuron.steps(state, current, self.bias32, credit, held(inputs), span)
            lives = updates(credit, len(out), *self.out_shape)
            return out, {"spike_in": arrived, "synop": synops, "neuron_update": lives, "spike_out": fired}
        at_once = self.neuron.spike(self.taps, found, state, self.bias32, credit, held(inputs), span)
        if at_once is not None:
            out, (synops, arrived, fired, lives) = at_once
            return out, {"spike_in": arrived, "synop": synops, "neuron_update": lives * out.shape[2], "spike_out": fired}
        current, synops, arrived = self.taps.sums(found, credit)
        out, fired = self.neuron.steps(state, current, self.bias32, credit, held(inputs), span)
        return out, {
            "spike_in": arrived, "synop": synops, "neuron_update": updates(credit, len(out), *self.out_shape), "spike_out": fired
        }

    def arriving(self, inputs: Inputs) -> tuple[np.ndarray, ...]:
        """The sources' maps without what a dead token would send to itself."""
        return only_alive(inputs["x"], inputs) if self.pointwise else inputs["x"]

    def instruction(self, program: Any, name: str, sources: dict[str, list[str]]) -> list[int] | None:
        if sources.get("alive") and not self.pointwise:
            return None
        synapses = program.synapses(self.taps, sources["x"])
        return None if synapses is None else [FIRE, *synapses, *program.neurons(name, self.neuron, self.bias32)]

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        x = total(self.arriving(inputs))[0]
        return synapse.accumulate_conv(alu, x, self.weight, *self.geometry), self.current(x[None])[0]

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        def spikes(*shape: int, high: int = 1) -> np.ndarray:
            return rng.integers(0, high + 1, shape).astype(np.int32)

        def make(out: int, per: int, k: int, **more: Any) -> Conv:
            weight = rng.integers(-20, 20, (out, per, k, k)) * 2
            return cls(weight=weight, bias=rng.integers(-30, 30, out), neuron=Cuba(4096, 2048, 60), **more)

        yield make(5, 3, 3, grid=(5, 4), padding=1), [{"x": (spikes(2, 20, 3),)} for _ in range(4)]
        yield make(4, 1, 3, grid=(6, 6), stride=2, padding=1, groups=2), [{"x": (spikes(2, 36, 2, high=3),)} for _ in range(3)]
        along = cls(weight=rng.integers(-20, 20, (4, 3, 1, 3)) * 2, bias=rng.integers(-9, 9, 4), grid=(1, 7), padding=(0, 1))
        yield along, [{"x": (spikes(2, 7, 3),)} for _ in range(3)]
        slow = make(6, 4, 1, grid=(3, 3))
        yield (
            cls(weight=slow.weight, bias=slow.bias, grid=(3, 3), neuron=Cuba(1024, 300, 90)),
            [{"x": (spikes(2, 9, 4), spikes(2, 9, 4))} for _ in range(5)],
        )
        several = cls(slow.weight, slow.bias, (3, 3), neuron=Cuba(4096, 2048, 30, "subtract", levels=4))
        yield several, [{"x": (spikes(2, 9, 4, high=3),)} for _ in range(4)]
        credit = np.array([rng.permutation([0, 0, 5, 1, 9, 0, 2, 7, 3]) for _ in range(2)], np.int32)
        soft = cls(slow.weight, slow.bias, (3, 3), neuron=Cuba(4096, 0, 30, "subtract", v_step=45))
        yield soft, [{"x": (spikes(2, 9, 4),), "alive": credit * (k < 3)} for k in range(5)]
        yield make(6, 4, 1, grid=(3, 3)), [{"x": (spikes(2, 9, 4),), "alive": credit * (k < 3)} for k in range(4)]
        across = make(4, 3, 3, grid=(5, 6), padding=1)  # 3 x 3 tokens with patches of 2 x 2, the last row's cut off
        yield across, [{"x": (spikes(2, 30, 3),), "alive": credit * (k < 4)} for k in range(5)]
        yield make(4, 3, 3, grid=(6, 6), stride=2, padding=1), [{"x": (spikes(2, 36, 3),), "alive": credit} for _ in range(3)]
