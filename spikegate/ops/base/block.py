"""What the layers of a NetX file have in common: linear synapses of some geometry, then a neuron.

Our own nets use `conv` and `dense`, which keep every design rule of the chip. Blocks run what lava-dl wrote, also where a rule is
broken: odd weights, graded events, registers that overflow. An event that is neither 0 nor 1 needs a multiplication on the synaptic
path; `Block.macs` counts them and the audit reports them, so such a net is never called accumulate-only.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Alu, Counts, Inputs, Op, Payload, Payloads, Problems, Shapes, Size, Sources, State, nonzero, total, updates
from spikegate.neurons.base import Neuron
from spikegate.neurons.cuba import MANT_SHIFT
from spikegate.synapses.taps import Taps

WEIGHT_RANGE = (-256, 254)
UNSIGNED = 255  # the most that a synapse without negative weights holds; lava-dl before 0.4 clamped to it


class Block(Op):
    """Base of the block ops. Subclasses are registered dataclasses with `weight`, `weight_imag` (empty where real), `bias`, `neuron`."""

    arithmetic: ClassVar[tuple[str, ...]] = ("add", "compare", "leak")

    weight: np.ndarray
    weight_imag: np.ndarray
    bias: np.ndarray
    neuron: Neuron

    def taps(self, weight: np.ndarray) -> Taps:
        """Geometry of the synapses with these weights."""
        raise TypeError(f"{type(self).__name__} does not say its geometry")

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one sample's input; a sample of as many values in another shape is reshaped."""
        raise TypeError(f"{type(self).__name__} does not say its input shape")

    def arrange(self, x: np.ndarray) -> np.ndarray:
        """Input [batch, *shape] as the synapses' [batch, in positions, in channels]."""
        return x.reshape(len(x), *self.synapses[0].inputs)

    def restore(self, sums: np.ndarray) -> np.ndarray:
        """Sums [batch, out positions, out channels] as [batch, *out_shape]."""
        return sums.reshape(len(sums), *self.out_shape)

    @cached_property
    def synapses(self) -> tuple[Taps, ...]:
        """One set of synapses, or the real and the imaginary one."""
        return tuple(self.taps(w) for w in (self.weight, self.weight_imag) if w.size)

    @property
    def payload(self) -> Payload:
        return self.neuron.payload

    @property
    def size(self) -> Size:
        neurons = int(np.prod(self.out_shape))
        weights = self.weight.size + self.weight_imag.size
        return Size(neurons, int(self.fanout.sum()), 8 * weights + 13 * self.bias.size, neurons * self.neuron.state_bits)

    @property
    def dense_ops(self) -> int:
        return sum(int(np.prod(t.outputs)) * int(np.prod(t.weight.shape[1:])) for t in self.synapses)

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Shapes that fit, ranges that the arithmetic covers."""
        groups = getattr(self, "groups", 1)
        if len(self.weight) % groups:
            yield f"weight has {len(self.weight)} rows, which do not split into {groups} groups", "choose groups that divide the channels"
            return
        for w in (self.weight, self.weight_imag):
            low, high = (WEIGHT_RANGE[0], UNSIGNED if w.size and w.min() >= 0 else WEIGHT_RANGE[1])
            if w.size and (w.min() < low or w.max() > high):
                hint = "export with quantised weights; 255 of lava-dl before 0.4: set it to 254, as stock NetX does without saying so"
                yield f"weights span [{w.min()}, {w.max()}], a synapse holds {[low, high]}", hint
        yield from self.neuron.problems(self.out_shape[-1])
        if self.neuron.complex != bool(self.weight_imag.size):
            yield f"neuron {self.neuron.kind} and {len(self.synapses)} set(s) of weights do not fit", "resonators take complex weights"
        if self.bias.size not in (1, self.out_shape[-1]):
            yield f"bias has {self.bias.size} values for {self.out_shape[-1]} channels", "give one for each output channel"
        shift = MANT_SHIFT + getattr(self.neuron, "spike_exp", 0)
        if int(np.abs(self.bias).max(initial=0)) << shift >= 1 << 31:
            yield f"a bias of {int(np.abs(self.bias).max())}, times 2^{shift}, leaves the registers", "lower the bias or rescale the layer"
        if self.neuron.complex and self.bias.any():
            yield "a resonator with a bias", "stock NetX and SLAYER's export have none; train without normalisation"
        for shape in shapes.get("x", []):
            if int(np.prod(shape)) != int(np.prod(self.in_shape)) or (len(shape) > 1 and len(self.in_shape) > 1 and shape != self.in_shape):
                yield f"input has shape {shape}, the layer takes {self.in_shape}", "check the layer's channels and the input's shape"

    def state(self, batch: int) -> State:
        return self.neuron.state((batch, *self.out_shape))

    def sums(self, x: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        """Weighted sums int64 [batch, *out_shape], a pair of them for complex weights."""
        placed = self.arrange(x)
        found = tuple(self.restore(t.current(placed)) for t in self.synapses)
        return found if self.neuron.complex else found[0]

    def step(self, state: State, inputs: Inputs, t: np.ndarray) -> np.ndarray:
        return self.neuron.step(state, self.sums(total(inputs["x"])), self.bias)

    @cached_property
    def fanout(self) -> np.ndarray:
        """Non-zero synapses that leave each input, int64 [inputs] in the input's own order."""
        n = int(np.prod(self.in_shape))
        place = self.arrange(np.arange(1, n + 1).reshape(1, *self.in_shape)).ravel()
        fan = np.zeros(n, np.int64)
        for t in self.synapses:
            fan[place[place > 0] - 1] += t.fanout.ravel()[place > 0]
        return fan

    def arrivals(self, inputs: Inputs) -> list[tuple[np.ndarray, np.ndarray]]:
        """(events [batch, inputs], fan-out of each input) of everything that reaches the synapses."""
        return [(x.reshape(len(x), -1).astype(np.int64), self.fanout) for x in inputs["x"]]

    def events(self, inputs: Inputs, out: np.ndarray, t: np.ndarray) -> Counts:
        return {
            "spike_in": nonzero([x for x, _ in self.arrivals(inputs)]),
            "synop": sum(np.abs(x) @ fan for x, fan in self.arrivals(inputs)),
            "neuron_update": np.full(len(out), int(np.prod(self.out_shape))),
            "spike_out": nonzero((out,)),
        }

    def advance(self, state: State, inputs: Inputs, t: np.ndarray, span: int = 1) -> tuple[np.ndarray, Counts]:
        if self.neuron.complex or len(inputs["x"]) > 1:
            return super().advance(state, inputs, t, span)
        x = np.ascontiguousarray(self.arrange(inputs["x"][0]), np.int32)
        sums, synops, arrived = self.synapses[0].sums(Sources((x,)).merged)
        out, fired = self.neuron.steps(state, self.restore(sums), self.bias, span)
        return out, {
            "spike_in": arrived, "synop": synops, "neuron_update": updates(None, len(out), 1, int(np.prod(self.out_shape))),
            "spike_out": fired,
        }

    def macs(self, inputs: Inputs) -> int:
        return sum(int(((x != 0) & (x != 1)).sum(0) @ fan) for x, fan in self.arrivals(inputs))

    def accumulate(self, alu: Alu, inputs: Inputs, t: int) -> tuple[np.ndarray, np.ndarray]:
        x = total(tuple(s[:1] for s in inputs["x"]))
        # each source by itself, as its events are counted: +1 and -1 to one place are two events
        apart = [[s.accumulate(alu, self.arrange(one[:1])[0]) for one in inputs["x"]] for s in self.synapses]
        slow = [self.restore(np.sum(sums, 0)[None])[0] for sums in apart]
        return np.stack(slow), np.stack([self.restore(s.current(self.arrange(x)))[0] for s in self.synapses])


def merged(x: np.ndarray, grid: tuple[int, int], extra: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Map [batch, positions, channels] as one channel [batch, channels * height * width, 1], `extra` zero rows and columns appended."""
    b, _, c = x.shape
    maps = x.reshape(b, *grid, c).transpose(0, 3, 1, 2)
    return np.pad(maps, ((0, 0), (0, 0), (0, extra[0]), (0, extra[1]))).reshape(b, -1, 1)


def split(sums: np.ndarray, channels: int, shape: tuple[int, ...]) -> np.ndarray:
    """Back from one channel [batch, channels * positions, 1] to [batch, *shape] = [batch, positions, channels]."""
    return sums.reshape(len(sums), channels, -1).transpose(0, 2, 1).reshape(len(sums), *shape)


class TallBlock(Block):
    """Base of blocks with one kernel for all channels, whose maps SLAYER stacks to one tall map."""

    grid: tuple[int, int]
    channels: int

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.grid[0] * self.grid[1], self.channels

    @property
    def out_grid(self) -> tuple[int, int]:
        height, width = self.synapses[0].out_grid
        return height // self.channels, width

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.out_grid[0] * self.out_grid[1], self.channels

    def problems(self, shapes: Shapes, payloads: Payloads) -> Problems:
        """Those of a block, and rows that do not split into channels."""
        yield from super().problems(shapes, payloads)
        rows = self.synapses[0].out_grid[0]
        if rows % self.channels:
            yield f"{rows} rows do not split into {self.channels} channels", "SLAYER cannot run this either"

    def restore(self, sums: np.ndarray) -> np.ndarray:
        return split(sums, self.channels, self.out_shape)
