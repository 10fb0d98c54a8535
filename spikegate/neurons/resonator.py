"""Resonators of NetX layers: RF, RF with Izhikevich's reset, and ADRF with a moving threshold. Their input is complex."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spikegate.neurons.base import Neuron, Per, neuron, scaled
from spikegate.neurons.cuba import MANT_SHIFT
from spikegate.neurons.leaky import adapt, clipped


def part(x: np.ndarray, factor: Per) -> np.ndarray:
    """``x * factor / 4096`` rounded towards zero, int64."""
    product = x.astype(np.int64) * factor
    scaled: np.ndarray = np.sign(product) * (np.abs(product) >> 12)
    return scaled


class _Resonator(Neuron):
    """State z turns by (cos, sin) in 1/4096 and takes the complex input."""

    complex: ClassVar[bool] = True
    names: ClassVar[tuple[str, ...]] = ("real", "imag")
    sin_decay: Per
    cos_decay: Per

    def turn(self, state: dict[str, np.ndarray], current: Any, fine: int) -> tuple[np.ndarray, np.ndarray]:
        real, imag = state["real"], state["imag"]
        a, b = (scaled(c, MANT_SHIFT - fine) for c in current)
        new_real = part(real, self.cos_decay) - part(imag, self.sin_decay) + a
        new_imag = part(real, self.sin_decay) + part(imag, self.cos_decay) + b
        return clipped(new_real, "real state"), clipped(new_imag, "imaginary state")


@neuron
class Rf(_Resonator):
    r"""Resonate and fire at phase 0.

    .. math:: z_t = (c + i s) z_{t-1} + 2^6 x_t, \quad s_t = [\Re z_t \ge 2^6 \vartheta]\,[\Im z_t \ge 0]\,[\Im z_{t-1} < 0]

    Source: lava-nc 0.10.0, ``proc/rf/models.py``; decays are the file's integers, which stock NetX turns into a period and back,
    at times one less.
    """

    kind: ClassVar[str] = "RF_PHASE"

    sin_decay: Per
    cos_decay: Per
    vth: int

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        real, imag = self.turn(state, current, fine)
        spikes = (real >= self.vth << MANT_SHIFT) & (imag >= 0) & (state["imag"] < 0)
        state["real"][...], state["imag"][...] = real, imag
        return spikes.astype(np.int32)


@neuron
class RfIz(_Resonator):
    r"""Resonate and fire with reset: :math:`s_t = [\Im z_t \ge 2^6 \vartheta]`, then ``z = i (2^6 theta - 1)``. Source as of `Rf`."""

    kind: ClassVar[str] = "RF_IZHIKEVICH"

    sin_decay: Per
    cos_decay: Per
    vth: int

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        real, imag = self.turn(state, current, fine)
        rest = self.vth << MANT_SHIFT
        spikes = imag >= rest
        state["real"][...], state["imag"][...] = np.where(spikes, 0, real), np.where(spikes, rest - 1, imag)
        return spikes.astype(np.int32)


@neuron
class Adrf(_Resonator):
    r"""Adaptive resonator at phase 0: `Rf` with the threshold and the refractory term of `Alif`.

    .. math:: s_t = [\Re z_t \ge \vartheta_t + r_t]\,[\Im z_t \ge 0]\,[\Im z_{t-1} < 0]

    Stock NetX runs it as RF, without adaptation; the source is SLAYER's own forward (lava-dl 0.6.0, ``slayer/neuron/adrf.py``).
    """

    kind: ClassVar[str] = "ADRF_PHASE"
    names: ClassVar[tuple[str, ...]] = ("real", "imag", "rise", "refractory")

    sin_decay: Per
    cos_decay: Per
    th_decay: Per
    ref_decay: Per
    vth: int
    th_step: int

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        real, imag = self.turn(state, current, fine)
        spikes = adapt(state, real, self, (imag >= 0) & (state["imag"] < 0))
        state["real"][...], state["imag"][...] = real, imag
        return spikes.astype(np.int32)
