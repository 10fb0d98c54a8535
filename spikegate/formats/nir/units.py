"""A layer in its own units: gain, thresholds and reset folded into weights and biases, so that one threshold stands for all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.linear import Each, LinearMap, Matrix, Window, scaled, size_of
from spikegate.formats.nir.plan import Head, Layer, Source, Term
from spikegate.neurons.cuba import DECAY_ONE
from spikegate.synapses.rounding import rounded

WHOLE = 1e-9  # how far a decay in 1/4096 may be from a whole number and still be one


@dataclass
class Units:
    """What is to be rounded. Arrays are flat, or one number for all.

    Attributes
    ----------
    terms : with the gain folded in; their biases are 0
    biases : float [size] for each term, the drive that comes with it in every timestep; through the synaptic current if there is one
    bias : float [size], what the neurons themselves add to the voltage
    theta : threshold above the voltage after a spike; None for integrators
    i_decay, v_decay : in 1/4096, not rounded
    notes : what is another computation already
    step : what a spike takes from the voltage; None: it is reset
    levels : most spikes of a timestep
    """

    name: str
    terms: list[Term]
    biases: list[np.ndarray]
    bias: np.ndarray
    theta: float | None
    i_decay: np.ndarray
    v_decay: np.ndarray
    notes: list[str] = field(default_factory=list)
    step: float | None = None
    levels: int = 1

    @property
    def weights(self) -> list[np.ndarray]:
        return [values(t.map) for t in self.terms]

    @property
    def slow(self) -> bool:
        """Whether there is a synaptic current with a memory."""
        return bool((self.i_decay < DECAY_ONE).any())

    @property
    def shared(self) -> bool:
        """Whether all neurons have the same decays."""
        return self.i_decay.size == self.v_decay.size == 1


def values(m: LinearMap) -> np.ndarray:
    """Every weight of a map, once."""
    return np.atleast_1d(np.asarray(m.factor, float)) if isinstance(m, Each) else m.weight


def row_sums(m: LinearMap) -> float:
    """Largest sum of magnitudes that reaches one output."""
    w = np.abs(values(m))
    return float(w.max() if isinstance(m, Each) else w.reshape(len(w), -1).sum(1).max())


def of_layer(layer: Layer) -> Units:
    """The layer in units of its first neuron's threshold."""
    size = size_of(layer.shape)
    notes = []
    theta: float | None = None
    rows = np.ones(1)
    if layer.threshold is not None:
        above = layer.threshold - layer.reset
        theta = float(above.flat[0])
        if above.size > 1:
            rows = theta / above if theta and above.all() else np.ones(1)
        if np.any(layer.reset):
            notes.append("starts at its reset voltage, not at 0")
    gain, bias = layer.gain * rows, (layer.bias - layer.reset * (1 - layer.keep_v)) * rows
    terms, drives = folded(layer.name, layer.terms, gain, size)
    step = None
    if layer.step is not None:
        steps = layer.step * rows
        if np.ptp(steps) > 1e-9 * np.abs(steps).max():
            raise DeployError(layer.name, "subtracts another share of its threshold in each neuron", "train one decay for the layer")
        step = float(steps.flat[0])
    decays = [same_or_all(DECAY_ONE * (1 - k)) for k in (layer.keep_u, layer.keep_v)]
    return Units(layer.name, terms, drives, np.broadcast_to(bias, (size,)), theta, decays[0], decays[1], notes, step, layer.levels)


def folded(name: str, terms: list[Term], gain: np.ndarray, size: int) -> tuple[list[Term], list[np.ndarray]]:
    """Terms without biases, and the biases, both times the gain."""
    maps = [replace(t, map=scaled(t.map, gain, name), bias=0.0) for t in terms]
    return maps, [np.broadcast_to(np.asarray(t.bias, float) * gain, (size,)) for t in terms]


def of_head(head: Head) -> Units:
    """Class scores as a layer without leak and threshold."""
    size = size_of(head.shape)
    terms, drives = folded(head.name, head.terms, np.asarray(head.gain, float), size)
    return Units(head.name, terms, drives, np.zeros(size), None, np.full(1, float(DECAY_ONE)), np.zeros(1))


def same_or_all(decay: np.ndarray) -> np.ndarray:
    """Decays, as whole numbers where they are within rounding of one."""
    near = np.where(np.abs(decay - np.round(decay)) <= WHOLE, np.round(decay), decay)
    return near[:1] if (near == near[0]).all() else near


def times(m: LinearMap, scale: float, round_to: bool) -> LinearMap:
    """The map in the chip's integers, as floats: even weights, one-to-one factors of 1 left as they are."""
    def whole(w: np.ndarray) -> np.ndarray:
        return rounded(w * scale).astype(float) if round_to else w * scale

    if isinstance(m, Each):
        f = np.asarray(m.factor, float) * scale
        return Each(m.in_shape, m.out_shape, 1.0 if np.all(f == 1.0) else whole(np.asarray(m.factor, float)))
    if isinstance(m, Window):
        return replace(m, weight=whole(m.weight))
    return Matrix(m.in_shape, m.out_shape, whole(m.weight))


def reach(sources: tuple[Source, ...], highs: dict[str, int]) -> int:
    """Largest sum of what the sources send."""
    return sum(highs.get(s.name, 1) for s in sources)
