"""Sigma-delta neurons of NetX layers: they send changes, as graded events of either sign."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from spikegate.graph.ir import DeployError, Payload
from spikegate.kernels import neuron_loops
from spikegate.neurons.base import GRADED, Neuron, channels_last, each_place, neuron, scaled

STATE_EXP = 6  # state bits below an event's lowest bit
WORD = 1 << 31


def held(value: np.ndarray) -> np.ndarray:
    """The values, if each fits a register of 32 bits; else a DeployError."""
    if value.size and (value.max() >= WORD or value.min() < -WORD):
        too_large()
    return value


def too_large() -> None:
    """The one error of sums and changes that leave 32 bits: nothing is cut."""
    raise DeployError("sigma-delta neurons", "a sum of changes leaves its 32 bits", "scale the input, the weights or spike_exp down")


class _Delta(Neuron):
    """Encoding that both senders share: act, residue and an event where the change reaches the threshold.

    Registers have 32 bits, as lava's. What leaves them is a DeployError.
    """

    vth: int
    spike_exp: int

    @property
    def payload(self) -> Payload:
        return GRADED

    def encode(self, state: dict[str, np.ndarray], act: np.ndarray) -> np.ndarray:
        delta = act - state["act"] + state["residue"]
        sent = np.where(np.abs(delta) >= self.vth << (self.spike_exp + STATE_EXP), delta, 0)
        state["residue"][...] = held(delta - sent)
        state["act"][...] = held(act)
        return held(sent >> STATE_EXP).astype(np.int32)

    def encoded(self, state: dict[str, np.ndarray], act: np.ndarray, span: int) -> tuple[np.ndarray, np.ndarray]:
        """`encode` over timesteps: outputs like `act` [samples * span, positions, n] and how many are not 0 in each row."""
        out, fired = np.empty(act.shape, np.int32), np.empty(len(act), np.int64)
        last, residue = channels_last(state["act"]), channels_last(state["residue"])
        if neuron_loops.delta(act, last, residue, span, self.vth << (self.spike_exp + STATE_EXP), STATE_EXP, out, fired):
            too_large()
        return out, fired


@neuron
class Delta(_Delta):
    r"""Input encoder.

    .. math:: d_t = a_t - a_{t-1} + r_{t-1}, \quad y_t = d_t [|d_t| \ge \vartheta], \quad r_t = d_t - y_t

    with ``a = x 2^{spike_exp + 6}``; what is sent is ``y >> 6``. Source: lava-nc 0.10.0, ``proc/sdn/models.py``.
    """

    kind: ClassVar[str] = "DELTA"
    names: ClassVar[tuple[str, ...]] = ("act", "residue")

    vth: int = 0
    spike_exp: int = 6

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        shift = self.spike_exp + STATE_EXP
        total = scaled(current, shift - fine) if shift >= fine else current >> (fine - shift)
        return self.encode(state, total + (np.asarray(bias, np.int64) << shift))

    def steps(self, state: dict[str, np.ndarray], current: Any, bias: Any, span: int, fine: int = 0) -> tuple[np.ndarray, np.ndarray]:
        shift = self.spike_exp + STATE_EXP
        total = scaled(current, shift - fine) if shift >= fine else current >> (fine - shift)
        out, fired = self.encoded(state, channels_last(total + (np.asarray(bias, np.int64) << shift)), span)
        return out.reshape(current.shape), fired


@neuron
class SigmaDelta(_Delta):
    r"""Sums the changes, rectifies, sends its own changes.

    .. math:: \sigma_t = \sigma_{t-1} + x_t, \quad a_t = \max(0, \sigma_t + b\,2^{spike\_exp + 6}), \quad y = \Delta(a)

    Stock NetX knows no other activation than this one. Source: lava-nc 0.10.0, ``proc/sdn/models.py``.
    """

    kind: ClassVar[str] = "SDNN"
    names: ClassVar[tuple[str, ...]] = ("sigma", "act", "residue")

    vth: int = 0
    spike_exp: int = 6

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        state["sigma"][...] = sigma = held(state["sigma"] + scaled(current, 0))
        return self.encode(state, np.maximum(sigma + (np.asarray(bias, np.int64) << (self.spike_exp + STATE_EXP)), 0))

    def steps(self, state: dict[str, np.ndarray], current: Any, bias: Any, span: int, fine: int = 0) -> tuple[np.ndarray, np.ndarray]:
        x, sigma = channels_last(current), channels_last(state["sigma"])
        act = np.empty(x.shape, np.int64)
        if neuron_loops.rectified(x, sigma, span, each_place(bias, x.shape[2]) << (self.spike_exp + STATE_EXP), act):
            too_large()
        out, fired = self.encoded(state, act, span)
        return out.reshape(current.shape), fired


@neuron
class Sigma(Neuron):
    r"""Decoder of the last layer: the sum of all changes, :math:`y_t = \sigma_t = \sigma_{t-1} + x_t`; takes no bias."""

    kind: ClassVar[str] = "SIGMA"
    names: ClassVar[tuple[str, ...]] = ("sigma",)

    @property
    def payload(self) -> Payload:
        return Payload(-(1 << 31), (1 << 31) - 1)

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        state["sigma"][...] = held(state["sigma"] + scaled(current, 0))
        return state["sigma"].copy()


@neuron
class Passive(Neuron):
    r"""No neuron: sends the weighted sum itself, :math:`y_t = x_t + b` (SLAYER's Affine without dynamics)."""

    kind: ClassVar[str] = "NONE"

    @property
    def payload(self) -> Payload:
        return Payload(-(1 << 31), (1 << 31) - 1)

    def step(self, state: dict[str, np.ndarray], current: Any, bias: Any, fine: int = 0) -> np.ndarray:
        return held(scaled(current, 0) + np.asarray(bias, np.int64)).astype(np.int32)
