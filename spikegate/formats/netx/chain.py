"""A NetX file without our `graph/`: a chain of layers as SLAYER's blocks export them. docs/netx.md says what stock NetX makes of each."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import h5py
import numpy as np

from spikegate.formats.netx.input_map import MAPS, FirstMap, first_map, geometry
from spikegate.formats.netx.neurons import read_neuron
from spikegate.formats.netx.plain import plain
from spikegate.formats.netx.stock import kind_of, read_array
from spikegate.graph.ir import INPUT, DeployError, Graph, Op, Payload
from spikegate.neurons.base import GRADED, SPIKE, Neuron
from spikegate.neurons.leaky import Leaky
from spikegate.neurons.sigma_delta import Delta
from spikegate.ops.axon_delay import AxonDelay
from spikegate.ops.base.block import Block
from spikegate.ops.block_average import BlockAverage
from spikegate.ops.block_conv import BlockConv
from spikegate.ops.block_conv_t import BlockConvT
from spikegate.ops.block_dense import BlockDense
from spikegate.ops.block_input import BlockInput
from spikegate.ops.block_pool import BlockPool
from spikegate.ops.block_recurrent import BlockRecurrent
from spikegate.ops.block_unpool import BlockUnpool

DELAY_MAX = 62  # SLAYER and stock NetX clamp to it
NONE = np.zeros((0,), np.int32)
REASONS = {
    "concat": "no block of lava-dl 0.6.0 writes it and a chain does not say its sources",
    "dense_comp": "stock NetX cannot load it; complex weights stand under type dense",
}


class Chain:
    """Reads one layer after the other; knows the shape that the next one gets."""

    def __init__(self, where: str, spike_exp: int = 6, input_shape: tuple[int, ...] | None = None, payload: Payload = SPIKE,
                 plain_ops: bool = True, delay_shift: bool = False) -> None:
        self.where, self.spike_exp, self.plain_ops, self.delay_shift = where, spike_exp, plain_ops, delay_shift
        self.graph = Graph(timesteps=1, input_payload=payload)
        self.previous = INPUT
        self.grid: tuple[int, ...] = ()
        self.shape: tuple[int, ...] = ()
        self.flat = self.prompt = False  # a map that comes flattened; a sender whose events SLAYER never shifts
        self.layers: list[list[str]] = []  # names of the ops of each layer that computes
        self.readers: dict[str, Callable[[h5py.Group, str], Op | None]] = {
            "input": self.input, "flatten": self.flatten, "dense": self.dense, "dense_rec": self.recurrent, "recurrent": self.recurrent,
            "conv": self.conv, "convT": self.conv, "pool": self.pool, "unpool": self.pool, "average": self.average,
        }  # fmt: skip
        if input_shape is not None:
            self.place(tuple(int(v) for v in input_shape))

    def place(self, shape: tuple[int, ...]) -> None:
        """The next layer's input is a (channels, height, width) map, or a vector."""
        if len(shape) == 3:
            self.grid, self.shape = shape[1:], (shape[1] * shape[2], shape[0])
        else:
            self.grid, self.shape = (), (int(np.prod(shape)),)
        if not self.graph.ops:
            self.graph.input_shape = self.shape
            self.graph.meta["input_map"] = list(shape)

    def read(self, i: int, group: h5py.Group) -> None:
        """Append the ops of layer `i`."""
        here = f"{self.where}:layer/{i}"
        op = self.readers[kind_of(group)](group, here)
        if op is None:
            return
        if isinstance(op, Block) and len(op.out_shape) == 2 and not isinstance(op.neuron, Leaky):
            each = [f.name for f in dataclasses.fields(op.neuron) if np.ndim(getattr(op.neuron, f.name))]  # type: ignore[arg-type]
            if each:
                raise DeployError(here, f"has {', '.join(each)} per channel of a map", "SLAYER takes them for columns: use shared_param")
        if not self.shape:  # a vector: whatever takes a map has asked for it before
            self.place((op.in_shape[0] if isinstance(op, Block) else op.weight.shape[1],))  # type: ignore[attr-defined]
        name = f"layer{i}"
        late = {"x"} if self.delay_shift and self.previous != INPUT and not self.prompt else set()
        if isinstance(op, BlockRecurrent):
            self.graph.add(name, op, delayed={"s", *late}, x=self.previous, s=name)
        else:
            self.graph.add(name, op, delayed=late, x=self.previous)
        names, span = [name], (op.payload.low, op.payload.high)
        delay = self.delays(group, here, op.out_shape[-1])
        if delay is not None:
            names.append(self.graph.add(f"{name}.delay", AxonDelay(op.out_shape, delay, span), x=name))
        self.prompt = isinstance(op, BlockInput) and isinstance(op.neuron, Delta)
        self.previous, self.flat = names[-1], self.flat and isinstance(op, BlockInput)
        self.layers.append(names)
        if not isinstance(op, BlockInput):
            self.grid, self.shape = tuple(getattr(op, "out_grid", ())), op.out_shape

    def pass_over(self, group: h5py.Group, here: str) -> None:
        """A layer that is skipped only says what the next one gets: shape and, by its neurons, spikes or graded events."""
        kind, given = kind_of(group), read_array(group, "shape", here, optional=True)
        if given is not None and kind != "average":
            self.place(tuple(int(v) for v in given.ravel()) if kind in ("input", *MAPS) else (int(np.prod(given)),))
        if "neuron" in group:
            graded = kind_of(group["neuron"]) == "SDNN"
            self.graph.input_payload = GRADED if graded else SPIKE
            self.graph.meta["message_bits"] = 16 if graded else 0

    def delays(self, group: h5py.Group, here: str, channels: int) -> np.ndarray | None:
        """Delay of each output channel, int32 [channels], or None."""
        delay = read_array(group, "delay", here, optional=True)
        if delay is None or not delay.any():
            return None
        if delay.min() < 0:
            raise DeployError(f"{here}/delay", f"is negative ({delay.min()})", "delays are 0 to 62 timesteps")
        if delay.max() > DELAY_MAX:
            warnings.warn(f"{here}: delay {delay.max()} is clamped to {DELAY_MAX}, as SLAYER and stock NetX do", stacklevel=2)
        delay = np.minimum(delay, DELAY_MAX).ravel()
        delay = np.full(channels, delay[0], np.int32) if delay.size == 1 else delay
        if delay.size != channels:
            raise DeployError(
                f"{here}/delay", f"has {delay.size} values for {channels} outputs",
                "SLAYER delays outputs; put input delays into the layer before",
            )
        return delay

    def neuron(self, group: h5py.Group, here: str, first: bool = False) -> Neuron:
        return read_neuron(group, here, first=first, spike_exp=self.spike_exp)

    def weights(self, group: h5py.Group, here: str, ndim: int) -> tuple[np.ndarray, np.ndarray]:
        """Real and imaginary weights with trailing time axes dropped; the second is empty where they are real."""
        real = group["weight"] if isinstance(group.get("weight"), h5py.Group) else group
        if real is group:
            found = [read_array(group, "weight", here), NONE]
        else:
            found = [read_array(real, "real", here), read_array(real, "imag", here)]
        return tuple(w.reshape(w.shape[:ndim]) if w.size and w.ndim > ndim else w for w in found)  # type: ignore[return-value]

    def bias(self, group: h5py.Group, here: str, outputs: int) -> np.ndarray:
        bias = read_array(group, "bias", here, optional=True)
        return np.zeros(outputs, np.int32) if bias is None else bias.ravel()

    def input(self, group: h5py.Group, here: str) -> Op | None:
        given = read_array(group, "shape", here, optional=True)
        if given is None and "neuron" not in group:
            return None
        if given is None:
            raise DeployError(here, "has neurons but no shape", "the file is damaged; export it again")
        if self.graph.ops and np.prod(given) != np.prod(self.shape):
            raise DeployError(f"{here}/shape", f"is {given.tolist()}, the layer before sends {self.shape}", "the file is damaged")
        if not self.graph.ops:
            self.place(tuple(int(v) for v in given.ravel()))
        if "neuron" not in group:
            return None
        one, none = (read_array(group, key, here, optional=True) for key in ("weight", "bias"))
        weight = 64 if one is None else int(one.ravel()[0])
        if self.graph.ops:
            if not self.graph.payload_of(self.previous).binary:
                raise DeployError(here, "an input block behind graded events", "SLAYER rounds them to 1/32 there; put the block first")
            weight *= 64  # a spike is 1, a pixel 64 times 1/64
        else:
            self.graph.input_payload = Payload(-256, 254)
        return BlockInput(self.shape, weight, 0 if none is None else int(none.ravel()[0]), self.neuron(group, here, first=True))

    def flatten(self, group: h5py.Group, here: str) -> Op | None:
        self.flat = True
        return None

    def columns(self, weight: np.ndarray) -> np.ndarray:
        """Dense weights for a flattened map: the file numbers inputs channel first, our maps position first."""
        if weight.size and len(self.shape) == 2 and weight.shape[1] == int(np.prod(self.shape)):
            positions, channels = self.shape
            return weight.reshape(-1, channels, positions).transpose(0, 2, 1).reshape(len(weight), -1)
        return weight

    def dense(self, group: h5py.Group, here: str) -> Op:
        if isinstance(group.get("weight"), h5py.Dataset):
            plain = self.plain(group, here)
            if plain is not None:
                return plain
        real, imag = self.weights(group, here, 2)
        if 1 in (real.ndim, imag.ndim if imag.size else 2):
            outputs = int(np.prod(read_array(group, "shape", here)))
            real, imag = (w.reshape(outputs, -1) if w.size else w for w in (real, imag))
        if len(self.shape) == 2 and not self.flat and self.shape[0] > 1 and real.shape[1] == self.shape[1]:
            spread = [w[:, :, None, None] if w.size else w for w in (real, imag)]
            op: Op = BlockConv(spread[0], spread[1], self.bias(group, here, len(real)), self._map(here), neuron=self.neuron(group, here))
        else:
            bias = self.bias(group, here, len(real))
            op = BlockDense(self.columns(real), self.columns(imag), bias, self.neuron(group, here))
        return op

    def recurrent(self, group: h5py.Group, here: str) -> Op:
        real, imag = self.weights(group, here, 2)
        back = read_array(group, "recWeight" if "recWeight" in group else "weight_rec", here)
        n = int(np.prod(read_array(group, "shape", here)))
        real, back = real.reshape(n, -1), back.reshape(n, -1)
        return BlockRecurrent(self.columns(real), imag, back, self.bias(group, here, n), self.neuron(group, here))

    def _map(self, here: str) -> tuple[int, int]:
        if len(self.grid) != 2 and self.graph.ops:
            raise DeployError(here, "takes a map and gets a vector", "layers on maps come before flatten and dense, as in SLAYER")
        if len(self.grid) != 2:
            hint = "an array [samples, timesteps, channels, height, width] says it, or an input layer, or input_shape (in Python)"
            raise DeployError(here, "its input map is unknown: the file begins with this layer and several sizes fit", hint)
        return int(self.grid[0]), int(self.grid[1])

    def start(self, layers: list[h5py.Group], seen: tuple[int, ...] | None) -> None:
        """The input's shape where no input layer states it: from the first layer's own fields and the shape of the array that is given."""
        needs = first_map(layers, self.where) if not self.shape else None
        shape = needs.only() if isinstance(needs, FirstMap) else needs
        if shape is None and isinstance(needs, FirstMap) and seen is not None and len(seen) > 3:
            shape = tuple(seen[-3:])
            if not needs.fits(shape):
                stated = f"{needs.channels} channels that give {list(needs.out)}"
                raise DeployError(self.where, f"the input's maps are {list(shape)}, the first layer takes {stated}",
                                  "axes are samples, timesteps, channels, height, width")
        if shape is not None:
            self.place(shape)

    def plain(self, group: h5py.Group, here: str) -> Op | None:
        """The layer as one of our own ops, where it keeps all their rules."""
        if not self.plain_ops or not self.graph.payload_of(self.previous).binary:
            return None
        return plain(group, here, self.neuron(group, here), self.grid, self.shape, self.flat)

    def conv(self, group: h5py.Group, here: str) -> Op:
        turned = kind_of(group) == "convT"
        grid = self._map(here)
        if not turned and isinstance(group.get("weight"), h5py.Dataset):
            plain = self.plain(group, here)
            if plain is not None:
                return self.fits(plain, group, here)
        real, imag = self.weights(group, here, 4)
        groups = int(np.prod(read_array(group, "groups", here))) if "groups" in group else 1
        outputs = real.shape[1] * groups if turned else len(real)
        if groups < 1 or outputs % groups or (len(real) if turned else outputs) % groups:
            raise DeployError(here, f"{groups} groups do not divide the channels", "the file is damaged; export it again")
        cls = BlockConvT if turned else BlockConv
        bias = self.bias(group, here, outputs)
        op = cls(real, imag, bias, grid, groups=groups, neuron=self.neuron(group, here), **geometry(group, here))
        return self.fits(op, group, here)

    def fits(self, op: Op, group: h5py.Group, here: str) -> Op:
        """The op, if its map is the one that the file states."""
        stated = read_array(group, "shape", here, optional=True)
        is_ = (op.out_shape[-1], *op.out_grid)  # type: ignore[attr-defined]
        if min(is_) < 1 or (stated is not None and tuple(stated.ravel()) != is_):
            raise DeployError(f"{here}/shape", f"is {None if stated is None else stated.tolist()}, the geometry gives {list(is_)}",
                              "the file or the input's shape is wrong")
        return op

    def pool(self, group: h5py.Group, here: str) -> Op:
        real, imag = self.weights(group, here, 4)
        cls = BlockPool if kind_of(group) == "pool" else BlockUnpool
        channels = self.shape[-1] if self.shape else 0
        op = cls(real, imag, np.zeros(1, np.int32), self._map(here), channels, neuron=self.neuron(group, here), **geometry(group, here))
        return self.fits(op, group, here)

    def average(self, group: h5py.Group, here: str) -> Op:
        if not self.shape:
            raise DeployError(here, "is the first layer", "it averages the neurons of a layer before it")
        outputs = int(read_array(group, "shape", here).ravel()[0])
        high = self.graph.payload_of(self.previous).high
        return BlockAverage(self.shape, outputs, high)


def read_chain(f: h5py.File, where: str, *, skip: int = 0, count: int | None = None, spike_exp: int = 6,
               input_shape: tuple[int, ...] | None = None, payload: Payload = SPIKE, plain_ops: bool = True,
               seen: tuple[int, ...] | None = None, delay_shift: bool = False) -> tuple[Graph, list[list[str]]]:
    """The layers `skip` .. `count` of the file as a graph, and the ops of each; unsupported layers are listed all at once.

    `input_shape` is (channels, height, width) or (neurons,), for files whose first layer does not say it. `payload` is what the input
    may hold; an input block sets its own, and so do the neurons of a skipped layer. Without `plain_ops` every layer becomes a block op.
    `seen` is the shape of the array that will be fed. With `delay_shift` events reach the next layer one timestep later.
    """
    if not isinstance(f.get("layer"), h5py.Group):
        raise DeployError(where, "has no group 'layer'", "this is no NetX file")
    names = [str(i) for i in range(len(f["layer"]))]
    broken = [n for n in names if not isinstance(f["layer"].get(n), h5py.Group) or "type" not in f["layer"][n]]
    if broken:
        raise DeployError(f"{where}:layer/{broken[0]}", "is missing, or has no type", "the file is damaged; export it again")
    chain = Chain(where, spike_exp, input_shape, payload, plain_ops, delay_shift)
    layers = list(enumerate(f["layer"][n] for n in names[:count]))
    bad = [(i, kind_of(g)) for i, g in layers if kind_of(g) not in chain.readers]
    if bad:
        text = "; ".join(f"layer/{i}: type {kind!r}" + (f" ({REASONS[kind]})" if kind in REASONS else "") for i, kind in bad)
        raise DeployError(where, f"unsupported {text}", f"known types: {', '.join(chain.readers)}")
    averages = [i for i, g in layers[:-1] if kind_of(g) == "average"]
    if averages:
        raise DeployError(f"{where}:layer/{averages[0]}", "an average that is not the last layer sends fractions", "read out at the end")
    if not skip:
        chain.start([g for _, g in layers], seen)
    for i, group in layers:
        if i >= skip:
            chain.read(i, group)
        else:
            chain.pass_over(group, f"{where}:layer/{i}")
    if not chain.graph.ops:
        raise DeployError(where, "holds no layer that computes", "export the net's blocks")
    return chain.graph, chain.layers
