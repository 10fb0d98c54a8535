"""What a script may read and change of a layer while it runs: state and parameters of its neurons, in stock NetX's names and axes."""

from __future__ import annotations

import dataclasses

import numpy as np

from spikegate.formats.netx.layers import from_lava, to_lava
from spikegate.formats.netx.pipeline import Layer
from spikegate.neurons.leaky import SPIKES, Alif, Leaky
from spikegate.neurons.resonator import Adrf, Rf
from spikegate.neurons.sigma_delta import Delta, SigmaDelta
from spikegate.reading.numbers import int32

CUBA = {"vth": ("vth", 0), "du": ("i_decay", 1), "dv": ("v_decay", 0)}  # Var: field of our neuron, what stock takes off
ONLY_VTH = {"vth": ("vth", 0)}


class OpenState:
    """The Vars of one layer: `initial` values by name, as a script sees them; `bind` lets them act."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        neuron = layer.neuron
        self.fields: dict[str, tuple[str, int]] = {}
        if isinstance(neuron, Leaky) and neuron.output == SPIKES:
            self.fields = CUBA
        elif isinstance(neuron, (SigmaDelta, Delta, Rf, Adrf, Alif)):
            self.fields = ONLY_VTH
        self.bias = {Leaky: "bias_mant", Alif: "bias_mant", SigmaDelta: "bias", Delta: "bias"}.get(type(neuron), "")

    def initial(self) -> dict[str, np.ndarray]:
        """Values before the first step."""
        layer, found = self.layer, {}
        for name, array in layer.state.items():
            found[name] = to_lava(array[0], layer.op).copy()
        for name, (field, less) in self.fields.items():
            found[name] = np.atleast_1d(np.asarray(getattr(layer.neuron, field), np.int32)) - less
        if self.bias:
            bias = np.broadcast_to(np.asarray(layer.bias, np.int32), layer.op.out_shape)
            found[self.bias] = to_lava(np.ascontiguousarray(bias), layer.op).copy()
        return found

    def bound(self, name: str, value: np.ndarray) -> np.ndarray:
        """The array that stands for the Var `name` from now on: the state itself for state, so that reads and writes act on it."""
        if name not in self.layer.state:
            self.take(name, value)
            return value
        view = to_lava(self.layer.state[name][0], self.layer.op)
        view[...] = np.asarray(value).reshape(view.shape)
        return view

    def take(self, name: str, value: np.ndarray) -> None:
        """Let a parameter act from the next step on."""
        layer = self.layer
        if name == self.bias:
            layer.bias = np.ascontiguousarray(from_lava(np.asarray(value, np.int64), layer.op)).reshape(layer.op.out_shape)
            return
        field, less = self.fields[name]
        new = np.asarray(value, np.int64) + less
        kept = int(new.ravel()[0]) if new.size == 1 else int32(new, f"{layer.name}.{name}").ravel()
        if not np.array_equal(kept, getattr(layer.neuron, field)):
            layer.neuron = dataclasses.replace(layer.neuron, **{field: kept})  # type: ignore[type-var]
