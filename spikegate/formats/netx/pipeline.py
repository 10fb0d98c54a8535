"""A NetX chain step by step in stock NetX's own timing: what `netx.hdf5.Network` shows at every layer and Lava step.

Stock NetX delivers a layer's sums one step after their events, so layer k is k steps behind (k + 1 without an input block), integrates its
bias meanwhile, and is reset at its own phase. `engine.run` has none of that: there a sample starts at once in all layers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikegate.formats.netx.chain import read_chain
from spikegate.graph.ir import Graph, Payload, Sources
from spikegate.neurons.base import GRADED, Neuron
from spikegate.ops.axon_delay import AxonDelay
from spikegate.ops.base.block import Block
from spikegate.ops.block_dense import BlockDense
from spikegate.ops.block_input import BlockInput
from spikegate.ops.block_recurrent import BlockRecurrent
from spikegate.reading import hdf5
from spikegate.reading.numbers import int32


class Layer:
    """One layer: its op, its state and the sums that its synapses deliver in the next steps."""

    def __init__(self, graph: Graph, names: list[str], reset: tuple[int, int] | None) -> None:
        self.name, self.op = names[0], graph.ops[names[0]]
        self.reset = reset
        self.neuron: Neuron | None = getattr(self.op, "neuron", None)
        self.state = self.op.state(1)
        late = graph.ops[names[1]] if len(names) > 1 else None
        rows = isinstance(self.op, BlockDense) and not self.op.neuron.complex  # where stock delays; elsewhere it drops the delays
        self.axon = late if isinstance(late, AxonDelay) and not rows else None
        self.axon_state = self.axon.state(1) if self.axon else {}
        self.delay = late.delay if isinstance(late, AxonDelay) and self.axon is None else None  # stock's: of what the synapses deliver
        self.neurons = np.arange(self.op.out_shape[-1])
        depth = 1 if self.delay is None else int(self.delay.max()) + 1
        parts = 2 if self.neuron is not None and self.neuron.complex else 1
        self.pending = np.zeros((depth, parts, 1, *self.op.out_shape), np.int64)
        self.now = 0  # the row of `pending` that is due
        # what a script writes into an input block comes after its affine transform
        self.bias: np.ndarray | int = 0 if isinstance(self.op, BlockInput) else getattr(self.op, "bias", 0)
        self.feedback = self.op.feedback if isinstance(self.op, BlockRecurrent) else None
        self.shifts = {"synapse": 0, "synapse_rec": 0}  # powers of two that a script adds to the weights' exponents

    def fire(self, step: int, x: np.ndarray | None = None) -> np.ndarray:
        """Output of step `step` (from 1), int32 [*out_shape]; an input block takes its activation `x` at once."""
        if self.reset is not None and step % self.reset[0] == self.reset[1] % self.reset[0]:
            for name in self.neuron.reset_names if self.neuron is not None else ():
                self.state[name][...] = 0
        due = self.pending[self.now]
        if isinstance(self.op, BlockInput):
            assert x is not None
            due = x.reshape(1, 1, *self.op.out_shape)
        if self.neuron is None:
            out = int32(due[0], f"{self.name}'s sums")
        elif self.neuron.complex:
            out = self.neuron.step(self.state, due, self.bias)
        else:
            out = self.neuron.steps(self.state, due[0], self.bias, 1)[0]
        if not isinstance(self.op, BlockInput):
            due[...] = 0
            self.now = (self.now + 1) % len(self.pending)
        if self.axon is not None:
            out = self.axon.step(self.axon_state, {"x": (out,)}, np.array([step]))
        first: np.ndarray = out[0]
        return first

    def absorb(self, x: np.ndarray, own: np.ndarray) -> None:
        """Take this step's events `x`, and the layer's `own` where it is recurrent; they act in the next step."""
        op = self.op
        if not isinstance(op, Block):
            self.pending[self.now, 0] += op.step({}, {"x": (x.reshape(1, *op.shape),)}, np.ones(1))  # type: ignore[attr-defined]
            return
        x = x.reshape(1, *op.in_shape) if x.size == np.prod(op.in_shape) else x[None]
        if op.neuron.complex:
            sums = np.stack(op.sums(x))  # type: ignore[arg-type]
        else:
            placed = np.ascontiguousarray(op.arrange(x), np.int32)
            sums = op.restore(op.synapses[0].sums(Sources((placed,)).merged)[0])[None]
        sums = shifted(sums, self.shifts["synapse"])
        if self.feedback is not None:
            back = self.feedback.sums(Sources((own.reshape(1, 1, -1),)).merged)[0]
            sums = sums + shifted(back.reshape(sums.shape), self.shifts["synapse_rec"])
        if self.delay is None:
            self.pending[self.now] += sums
        else:
            self.pending[(self.now + self.delay) % len(self.pending), 0, 0, self.neurons] += sums.ravel()


def shifted(sums: np.ndarray, exponent: int) -> np.ndarray:
    """Sums times ``2^exponent``, rounded down, as stock's synapses take their exponent."""
    if exponent == 0:
        return sums
    return sums.astype(np.int64) << exponent if exponent > 0 else sums.astype(np.int64) >> -exponent


class Pipeline:
    """The layers of a file that `netx.hdf5.Network` would make with the same arguments.

    Raises
    ------
    DeployError
        For a file that cannot be read or a layer that cannot be run exactly.
    """

    def __init__(self, path: str | Path, num_layers: int | None = None, skip_layers: int | None = 0, input_message_bits: int = 0,
                 input_shape: tuple[int, ...] | None = None, reset_interval: int | None = None, reset_offset: int = 0,
                 spike_exp: int = 6) -> None:
        shape = None if input_shape is None else tuple(int(v) for v in input_shape)[::-1]
        payload = GRADED if input_message_bits else Payload(0, 1)
        with hdf5.opened(Path(path), "NetX HDF5 file", "check that the download is complete") as f:
            self.graph, names = read_chain(f, str(path), skip=skip_layers or 0, count=num_layers, spike_exp=spike_exp,
                                           input_shape=shape, payload=payload, plain_ops=False)
            self.graph.check()
        resets = [None if reset_interval is None else (reset_interval, reset_offset + 1 + i) for i in range(len(names))]
        self.layers = [Layer(self.graph, n, r) for n, r in zip(names, resets)]
        self.message_bits = self.graph.meta.get("message_bits", input_message_bits)  # a skipped layer knows what it would have sent
        self.unary = not self.message_bits and not isinstance(self.layers[0].op, BlockInput)
        self.time = 0
        self.outs: list[np.ndarray] = []

    @property
    def immediate(self) -> bool:
        """Whether the first layer answers to an input in the same step."""
        return isinstance(self.layers[0].op, BlockInput)

    def fire(self, x: np.ndarray | None = None) -> list[np.ndarray]:
        """Outputs of all layers in the next step, int32 [*out_shape] each; `x` is needed where the net is `immediate`."""
        self.time += 1
        self.outs = [layer.fire(self.time, x if k == 0 else None) for k, layer in enumerate(self.layers)]
        return self.outs

    def absorb(self, x: np.ndarray) -> None:
        """Take the input of the step that just fired."""
        before = [np.where(x != 0, 1, 0) if self.unary else x, *self.outs]
        for k, layer in enumerate(self.layers):
            if not isinstance(layer.op, BlockInput):
                layer.absorb(int32(before[k], f"the input of {layer.name}"), self.outs[k])

    def step(self, x: np.ndarray) -> list[np.ndarray]:
        """One Lava step: outputs of all layers."""
        outs = self.fire(x)
        self.absorb(x)
        return outs
