"""Fully connected layer of a NetX file, any neuron."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from spikegate.graph.ir import Axes, Examples, register
from spikegate.neurons.base import Neuron
from spikegate.neurons.leaky import Leaky
from spikegate.neurons.resonator import Rf
from spikegate.neurons.sigma_delta import Passive, Sigma, SigmaDelta
from spikegate.ops.base.block import Block
from spikegate.synapses.taps import Taps

NONE = np.zeros((0,), np.int32)


@register
class BlockDense(Block):
    r"""NetX type ``dense``.

    .. math:: y_t = \mathrm{neuron}(W\,\mathrm{vec}(x_t), b)

    Attributes
    ----------
    weight, weight_imag : int [out, in]; the second is empty but for resonators
    bias : int [out]
    """

    kind: ClassVar[str] = "block_dense"
    axes: ClassVar[Axes] = {"weight": ("out", "in"), "weight_imag?": ("out", "in"), "bias": ("biases",)}

    weight: np.ndarray
    weight_imag: np.ndarray
    bias: np.ndarray
    neuron: Neuron = Leaky()

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (self.weight.shape[1],)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (len(self.weight),)

    def taps(self, weight: np.ndarray) -> Taps:
        return Taps(weight[:, :, None, None])

    @classmethod
    def examples(cls, rng: np.random.Generator) -> Examples:
        w, bias = rng.integers(-60, 61, (7, 12)), rng.integers(-9, 10, 7)
        spikes = [{"x": (rng.integers(0, 2, (3, 4, 3)).astype(np.int32),)} for _ in range(6)]
        graded = [{"x": (rng.integers(-3, 4, (2, 12)).astype(np.int32),)} for _ in range(4)]
        yield cls(w, NONE, bias, Leaky(rng.integers(0, 4097, 7), rng.integers(0, 4097, 7), 90)), spikes
        yield cls(w, NONE, bias, Leaky(3000, 100, 90, weight_exp=2)), spikes
        yield cls(w, NONE, bias, Leaky(4096, rng.integers(0, 4097, 7), 50, reset="subtract", v_step=80, levels=3)), spikes
        yield cls(w, NONE, bias, SigmaDelta(2)), graded
        yield cls(w, NONE, np.zeros(7, np.int32), Sigma()), graded
        yield cls(w, NONE, bias, Passive()), graded
        yield cls(w, rng.integers(-60, 61, (7, 12)), np.zeros(7, np.int32), Rf(rng.integers(900, 3000, 7), 2400, 20)), spikes
