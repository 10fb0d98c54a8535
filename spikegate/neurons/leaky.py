"""Leaky integrators of NetX layers: CUBA with a decay for each channel, and ALIF with its moving threshold."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spikegate.graph.ir import Payload, Problems
from spikegate.kernels import neuron_loops
from spikegate.neurons import resets
from spikegate.neurons.base import GRADED, Neuron, Per, channels_last, each_channel, each_place, neuron, scaled
from spikegate.neurons.cuba import LIMIT, MANT_SHIFT, _overflow, decay
from spikegate.neurons.resets import ZERO

SPIKES, VOLTAGE = "spikes", "voltage"


def shifted(x: np.ndarray, exponent: int) -> np.ndarray:
    """``x / 2^exponent`` rounded towards zero, int64."""
    return np.sign(x) * (np.abs(x) >> exponent) if exponent > 0 else x << -exponent


def clipped(x: np.ndarray, what: str) -> np.ndarray:
    """A voltage register: clips at 24 bits."""
    if (np.abs(x) >= LIMIT).any():
        _overflow(what)
        x = np.clip(x, -LIMIT + 1, LIMIT - 1)
    return x


@neuron
class Leaky(Neuron):
    r"""CUBA neuron as lava's bit-accurate LIF runs it, each decay one number or one for each channel.

    .. math::
        u_t = \mathrm{wrap}(\mathrm{dec}(u_{t-1}, i) + 2^6 x_t), \quad
        v_t = \mathrm{clip}(\mathrm{dec}(v_{t-1}, d) + (u_t + 2^6 b) 2^{-e}), \quad s_t = [v_t > 2^6 \vartheta]

    ``e`` (`weight_exp`) is SLAYER's WgtScaleBatchNorm, which stock NetX ignores. `output` "voltage" sends v (SLAYER's Affine) and
    never resets. `reset`, `v_step` and `levels` as of `spikegate.neurons.cuba.Cuba`. Source: lava-nc 0.10.0,
    ``proc/lif/models.py``; lava-dl 0.6.0, ``slayer/neuron/cuba.py``.
    """

    kind: ClassVar[str] = "CUBA"
    names: ClassVar[tuple[str, ...]] = ("u", "v")
    reset_names: ClassVar[tuple[str, ...]] = ("u", "v")

    i_decay: Per = 4096
    v_decay: Per = 2048
    vth: int = 64
    weight_exp: int = 0
    output: str = SPIKES
    reset: str = ZERO
    v_step: int = 0
    levels: int = 1

    @property
    def payload(self) -> Payload:
        return resets.payload(self) if self.output == SPIKES else GRADED

    def problems(self, channels: int) -> Problems:
        yield from super().problems(channels)
        yield from resets.problems(self)

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        u = decay(state["u"], self.i_decay) + scaled(current, MANT_SHIFT - fine)
        if (np.abs(u) >= LIMIT).any():
            _overflow("current u")
            u = (u + LIMIT - 1) % (2 * LIMIT) - LIMIT + 1
        drive = shifted(u + (np.asarray(bias, np.int64) << MANT_SHIFT), self.weight_exp)
        v = clipped(decay(state["v"], self.v_decay) + drive, "voltage v")
        state["u"][...] = u
        if self.output == VOLTAGE:
            state["v"][...] = v
            return v.astype(np.int32)
        theta, step, levels = resets.rule(self, MANT_SHIFT)
        spikes = np.zeros(v.shape, np.int32)
        for _ in range(levels):
            fires = v > theta
            spikes += fires
            v = np.where(fires, v - step if step else 0, v)
        state["v"][...] = v
        return spikes

    def steps(self, state: dict[str, np.ndarray], current: Any, bias: Any, span: int, fine: int = 0) -> tuple[np.ndarray, np.ndarray]:
        x, u, v = channels_last(current), channels_last(state["u"]), channels_last(state["v"])
        n = x.shape[2]
        out, fired = np.empty(x.shape, np.int32), np.empty(len(x), np.int64)
        flags = neuron_loops.leaky(
            x, u, v, span, each_place(bias, n), each_channel(self.i_decay, n), each_channel(self.v_decay, n), resets.rule(self, MANT_SHIFT),
            self.weight_exp, MANT_SHIFT - fine, LIMIT, self.output == SPIKES, out, fired,
        )  # fmt: skip
        if flags & 1:
            _overflow("current u")
        if flags & 2:
            _overflow("voltage v")
        return out.reshape(current.shape), fired


@neuron
class Alif(Neuron):
    r"""Adaptive LIF: the threshold rises with every spike, a refractory term adds to it, the voltage is not reset.

    .. math::
        u_t &= \mathrm{dec}(u_{t-1}, i) + 2^6 (x_t + b) 2^{-e}, \quad v_t = \mathrm{dec}(v_{t-1}, d) + u_t \\
        \vartheta_t &= \vartheta_0 + \mathrm{dec}(a_{t-1}, \delta), \quad r_t = \mathrm{dec}(r_{t-1}, \rho), \quad
        s_t = [v_t \ge \vartheta_t + r_t] \\
        a_t &= \vartheta_t - \vartheta_0 + s_t \Delta, \quad r_t \leftarrow r_t + 2 s_t \vartheta_t

    Stock NetX refuses it; the source is SLAYER's own forward (lava-dl 0.6.0, ``slayer/neuron/alif.py``).
    """

    kind: ClassVar[str] = "ALIF"
    names: ClassVar[tuple[str, ...]] = ("u", "v", "rise", "refractory")
    reset_names: ClassVar[tuple[str, ...]] = names

    i_decay: Per
    v_decay: Per
    th_decay: Per
    ref_decay: Per
    vth: int
    th_step: int
    weight_exp: int = 0

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        drive = shifted(scaled(current, MANT_SHIFT - fine) + (np.asarray(bias, np.int64) << MANT_SHIFT), self.weight_exp)
        u = clipped(decay(state["u"], self.i_decay) + drive, "current u")
        v = clipped(decay(state["v"], self.v_decay) + u, "voltage v")
        state["u"][...], state["v"][...] = u, v
        return adapt(state, v, self).astype(np.int32)


def adapt(state: dict[str, np.ndarray], v: np.ndarray, n: Any, allowed: np.ndarray | bool = True) -> np.ndarray:
    """Moving threshold and refractory term of ALIF and ADRF; spikes where ``v`` reaches their sum and `allowed`."""
    rest = n.vth << MANT_SHIFT
    rise, refractory = decay(state["rise"], n.th_decay), decay(state["refractory"], n.ref_decay)
    spikes: np.ndarray = (v >= rise + rest + refractory) & allowed
    state["rise"][...] = rise + (n.th_step << MANT_SHIFT) * spikes
    state["refractory"][...] = refractory + 2 * (rise + rest) * spikes
    return spikes
