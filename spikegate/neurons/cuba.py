"""Loihi's CUBA leaky integrate-and-fire neuron in its fixed-point arithmetic, as lava's bit-accurate LIF computes it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikegate.graph.ir import Payload, Problems, State
from spikegate.graph.signals import NO_CREDIT, Merged
from spikegate.kernels import cuba_loops, gather
from spikegate.neurons import resets
from spikegate.neurons.resets import ZERO
from spikegate.synapses.taps import Taps

STATE_BITS = 24  # current and voltage registers, Loihi
LIMIT = 1 << (STATE_BITS - 1)
DECAY_ONE = 4096
MANT_SHIFT = 6  # weights, biases and thresholds are mantissas that the chip shifts by 6
VTH_MANT_MAX = 4095  # SLAYER's epsilon for the strict threshold is lost in float32 from 4096 up
SHIFTS = {DECAY_ONE - (DECAY_ONE >> k): k for k in range(13)}  # decays that are shifts
WIDE = 4  # a kernel in 32 bits did nothing, a sum is too large for it
NO_STATE, NO_HOLD = np.zeros((0, 0, 0), np.int32), np.zeros(0, np.bool_)


class Strict:
    """Whether an overflow of a 24-bit register raises (tests) or warns (users)."""

    raises = False


class RegisterOverflow(ArithmeticError):
    """A 24-bit register of the chip overflowed."""


def decay(x: np.ndarray, d: int | np.ndarray) -> np.ndarray:
    """``x * (4096 - d) / 4096`` rounded towards zero, int64."""
    scaled = x.astype(np.int64) * (DECAY_ONE - d)
    decayed: np.ndarray = np.sign(scaled) * (np.abs(scaled) >> 12)
    return decayed


def _overflow(what: str) -> None:
    message = f"{what} leaves its 24 bits; Loihi wraps the current and clips the voltage"
    if Strict.raises:
        raise RegisterOverflow(message)
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def report(flags: int) -> None:
    """What a kernel says of its registers."""
    if flags & 1:
        _overflow("current u")
    if flags & 2:
        _overflow("voltage v")


@dataclass(frozen=True)
class Cuba:
    r"""Current-based LIF: all states are integers, decays in 1/4096.

    .. math::
        u_t &= \mathrm{dec}(u_{t-1}, i) + 2^6 x_t, \qquad
        v_t = \mathrm{dec}(v_{t-1}, d) + u_t + 2^6 b \\
        s_t &= [v_t > 2^6 \vartheta], \qquad v_t \leftarrow 0 \text{ where } s_t = 1

    ``dec(x, d) = sign(x) * (|x| (4096 - d) >> 12)``; u wraps and v clips at 24 bits. Source: lava-nc 0.10.0,
    ``proc/lif/models.py`` (PyLifModelBitAcc); Davies et al. 2018.

    With `reset` "subtract" (soft reset) a spike takes ``2^6 v_step`` (0: the threshold's) from the voltage instead, and up to `levels`
    spikes leave in a timestep, as one event of that value: as many as it takes for the voltage to fall to the threshold.
    """

    i_decay: int = 4096
    v_decay: int = 2048
    vth: int = 64
    reset: str = ZERO
    v_step: int = 0
    levels: int = 1

    def problems(self) -> Problems:
        """Design rules: (what is wrong, what to do)."""
        for name, value in (("i_decay", self.i_decay), ("v_decay", self.v_decay)):
            if not 0 <= value <= DECAY_ONE:
                yield f"{name} {value} is outside [0, 4096]", "decays are 12-bit fractions"
        if not 0 < self.vth <= VTH_MANT_MAX:
            yield f"threshold mantissa {self.vth} is outside [1, {VTH_MANT_MAX}]", "rescale weights, bias and threshold together"
        yield from resets.problems(self)

    @cached_property
    def rule(self) -> tuple[int, int, int]:
        """What the kernels take: threshold, what a spike takes from the voltage (0: all of it), most spikes of a timestep."""
        return resets.rule(self, MANT_SHIFT)

    @property
    def payload(self) -> Payload:
        return resets.payload(self)

    def gain(self, timesteps: int) -> float:
        """Largest |v| that inputs bounded by 1 add up to within so many timesteps."""

        def total(d: int) -> float:
            keep = 1 - d / DECAY_ONE
            return (1 - keep**timesteps) / (1 - keep) if d else float(timesteps)

        return total(self.i_decay) * total(self.v_decay)

    def overflows(self, bound: int, timesteps: int) -> bool:
        """Whether inputs up to `bound` (mantissa units, bias included) can leave the 24-bit registers."""
        return bound * self.gain(timesteps) * (1 << MANT_SHIFT) + self.rule[1] >= LIMIT

    def step(
        self,
        state: dict[str, np.ndarray],
        current: np.ndarray,
        bias: np.ndarray | int,
        rows: np.ndarray | None,
        hold: np.ndarray | None = None,
    ) -> np.ndarray:
        """Integrate `current` (mantissa units, int) and fire. `rows` selects the updated part of the state, None is all.

        `hold` bool [batch] marks samples whose neurons integrate but neither fire nor reset in this timestep.
        Returns spikes of `current`'s shape, int32. Rows not selected are not computed at all.
        """
        kept = {n: (a if rows is None else a[rows]) for n, a in state.items()}
        n = current.shape[-1]
        waits = NO_HOLD
        if hold is not None and hold.any():
            each = np.broadcast_to(hold.reshape(-1, *[1] * (state["v"].ndim - 2)), state["v"].shape[:-1])
            waits = np.ascontiguousarray(each if rows is None else each[rows]).ravel()
        flat = {name: value.reshape(-1, 1, n) for name, value in kept.items()}
        spikes, _ = self._run(flat, np.ascontiguousarray(current).reshape(-1, 1, n), bias, NO_CREDIT, waits, 1)
        if rows is not None:
            for name, value in kept.items():
                state[name][rows] = value
        return spikes.reshape(current.shape)

    def steps(
        self,
        state: dict[str, np.ndarray],
        current: np.ndarray,
        bias: np.ndarray | int,
        credit: np.ndarray | None = None,
        hold: np.ndarray | None = None,
        span: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`step` over `span` timesteps of each sample, compiled: spikes like `current` [samples * span, ..., n], how many fire by row.

        `credit` [samples * span, positions]: where it is not above 0 nothing is computed and nothing sent. `hold` bool [samples * span].
        """
        n = current.shape[-1]
        flat = {name: value.reshape(len(value), -1, n) for name, value in state.items()}
        waits = NO_HOLD if hold is None else hold
        spikes, fired = self._run(flat, current.reshape(len(current), -1, n), bias, NO_CREDIT if credit is None else credit, waits, span)
        return spikes.reshape(current.shape), fired

    @cached_property
    def keeps(self) -> tuple[int, int]:
        """What `neuron_lanes.update_voltages` takes for the decays: 4096 less each; for a voltage that is shifted, 4096 and the shift."""
        shift = SHIFTS.get(self.v_decay)
        return DECAY_ONE - self.i_decay, DECAY_ONE - self.v_decay if shift is None else DECAY_ONE + shift

    def spike(
        self, taps: Taps, merged: Merged, state: dict[str, np.ndarray], bias: np.ndarray,
        credit: np.ndarray | None, hold: np.ndarray | None, span: int,
    ) -> tuple[np.ndarray, np.ndarray] | None:  # fmt: skip
        """Synapses and neurons in one compiled call, the frequent case; None where it does not apply and nothing was done.

        `bias` int32 [n]. Returns spikes [rows, positions, n] and the tally of `gather.spiking`.
        """
        if taps.bound * merged.peak >= LIMIT >> MANT_SHIFT or not taps.event_driven(merged):
            return None
        given = taps.arguments(merged, NO_CREDIT if credit is None else credit)
        if given is None:
            return None
        rows, v = len(merged.total), state["v"].reshape(len(state["v"]), -1)
        u = state["u"].reshape(v.shape) if "u" in state else NO_CREDIT
        out, tally = np.empty((rows, v.shape[1]), np.int32), np.empty((4, rows), np.int64)
        report(gather.spiking(  # type: ignore[call-arg]
            *given, u, v, span, bias, *self.keeps, self.rule, NO_HOLD if hold is None else hold, out, tally,
        ))  # fmt: skip
        return out.reshape(rows, *taps.outputs), tally

    def _run(
        self, state: State, current: np.ndarray, bias: np.ndarray | int, credit: np.ndarray, waits: np.ndarray, span: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The compiled neurons on arrays [samples, positions, n]."""
        n = current.shape[2]
        if not isinstance(bias, np.ndarray) or bias.dtype != np.int32 or bias.shape != (n,):
            bias = np.array(np.broadcast_to(np.asarray(bias, np.int32), n))
        spikes, fired = np.empty(current.shape, np.int32), np.empty(len(current), np.int64)
        v, u, rule = state["v"], state.get("u", NO_STATE), self.rule
        flags = cuba_loops.update_all(current, credit, u, v, span, bias, *self.keeps, rule, waits, spikes, fired)
        if flags == WIDE:
            wide = bias.astype(np.int64)
            flags = cuba_loops.cuba(current, credit, u, v, span, wide, self.i_decay, self.v_decay, rule, LIMIT, waits, spikes, fired)
        report(flags)
        return spikes, fired

    def state(self, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Zero state; the current is kept only where it does not decay fully."""
        names = ("v",) if self.i_decay == DECAY_ONE else ("u", "v")
        return {n: np.zeros(shape, np.int32) for n in names}

    @property
    def state_bits(self) -> int:
        return STATE_BITS * (1 if self.i_decay == DECAY_ONE else 2)
