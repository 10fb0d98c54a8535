"""The chip's integers for a layer: exactly where some power of two makes every number whole, else the nearest, and what that changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spikegate.errors import DeployError
from spikegate.formats.nir.linear import Each, LinearMap
from spikegate.formats.nir.units import Units, reach, row_sums, times, values
from spikegate.neurons.cuba import DECAY_ONE, LIMIT, MANT_SHIFT, VTH_MANT_MAX, Cuba
from spikegate.neurons.resets import STEP_MAX
from spikegate.ops.readout import REACH
from spikegate.reading.numbers import wide
from spikegate.synapses.rounding import BIAS_MAX, ROOM, best_scale, rounded
from spikegate.synapses.synapse import FLOAT_EXACT, WEIGHT_MAX, WEIGHT_MIN

POWERS = (0, *range(20, 0, -1), *range(-1, -21, -1))
QUANTISE = "import it with rounding: spikegate import nir, or import_nir"


@dataclass
class Fitted:
    """A layer in integers: scores and currents are `scale` times NIR's. `maps` hold even weights, or 1 one to one."""

    units: Units
    scale: float
    maps: list[LinearMap]
    biases: list[np.ndarray]  # int64 [size]
    bias: np.ndarray  # int64 [size]
    vth: int
    i_decay: np.ndarray
    v_decay: np.ndarray
    notes: list[str]  # empty where nothing is changed
    v_step: int = 0  # what a spike takes from the voltage; 0: it is reset
    proven: bool = True  # registers hold the worst case, not just what samples reach


def fitted(u: Units, timesteps: int, highs: dict[str, int], exact: bool) -> Fitted:
    """Integers of a layer.

    Raises
    ------
    DeployError
        With `exact`, for numbers that no power of two makes the chip's; else where no scale fits the registers.
    """
    may = not u.notes and _whole_decays(u) and _whole_somewhere(u)
    scale = next((2.0**k for k in POWERS if _exact_at(u, 2.0**k, timesteps, highs)), None) if may else None
    if scale is None and exact:
        raise DeployError(u.name, *_why_not(u, timesteps, highs))
    if scale is not None:
        return _made(u, scale, _threshold(u, scale) or 1, _leak_note(u, scale, timesteps))
    scale, vth = _nearest(u, timesteps, highs)
    return _made(u, scale, vth, [*u.notes, *_changes(u, scale)])


def _whole_decays(u: Units) -> bool:
    return all((d == np.round(d)).all() for d in (u.i_decay, u.v_decay))


def _whole_somewhere(u: Units) -> bool:
    """Whether the finest power of two makes the weights whole: else none does."""
    return all((w * 2.0 ** max(POWERS) == np.round(w * 2.0 ** max(POWERS))).all() for w in u.weights)


def _no_fraction(u: Units) -> bool:
    """Whether states stay whole mantissas: nothing leaks in parts."""
    return all(np.isin(d, (0, DECAY_ONE)).all() for d in (u.i_decay, u.v_decay))


def _numbers(u: Units) -> list[np.ndarray]:
    return [b for b in (*u.biases, u.bias) if b.any()]


def _fits(u: Units, scale: float, timesteps: int, highs: dict[str, int]) -> bool:
    """Whether registers hold the worst case."""
    bound = sum(row_sums(times(m.map, scale, True)) * reach(m.sources, highs) for m in u.terms)
    bound += float(np.abs(sum((*u.biases, u.bias), np.zeros(1)) * scale).max())
    if u.theta is None and u.v_decay.max() == 0:
        return bound < FLOAT_EXACT and bound * timesteps <= REACH
    gain = Cuba(round(float(u.i_decay.min())), round(float(u.v_decay.min())), 1).gain(timesteps)
    return (bound * gain + (u.step or 0.0) * scale) * (1 << MANT_SHIFT) < ROOM * LIMIT


def _even(w: np.ndarray, scale: float) -> bool:
    s = w * scale
    return bool((s == 2 * np.round(s / 2)).all() and s.min() >= WEIGHT_MIN and s.max() <= WEIGHT_MAX)


def _weights_at(u: Units, scale: float) -> bool:
    """Even weights; one to one also a factor of 1, for neurons that are alike and, if fed by nothing else, have no bias."""
    alone = all(isinstance(t.map, Each) for t in u.terms)
    ones = u.shared and not (alone and _numbers(u))
    return all(_even(w := values(t.map), scale) or (ones and isinstance(t.map, Each) and bool((w * scale == 1).all())) for t in u.terms)


def _biases_at(u: Units, scale: float) -> bool:
    each = all((b * scale == np.round(b * scale)).all() and np.abs(b * scale).max() <= BIAS_MAX for b in _numbers(u))
    together = np.abs(sum((*u.biases, u.bias), np.zeros(1)) * scale).max() <= BIAS_MAX
    return bool(each and together)


def _threshold(u: Units, scale: float) -> int | None:
    """The chip's threshold that means the same, 0 for integrators; None where there is none."""
    if u.theta is None:
        return 0
    at = u.theta * scale
    vth = math.floor(at)
    if at != vth or vth == 0:
        if not _no_fraction(u):
            return None
        grain = _grain(u, scale)
        vth = math.floor(at / grain) * grain + (grain - 1)  # states are multiples of it: the highest that means the same
    return vth if 1 <= vth <= VTH_MANT_MAX else None


def _grain(u: Units, scale: float) -> int:
    """Greatest whole number of which all weights and biases are multiples."""
    found = 0
    for w in (*u.weights, *_numbers(u), *([np.array([u.step])] if u.step else [])):
        found = math.gcd(found, int(np.gcd.reduce(np.abs(np.round(w * scale)).astype(np.int64), axis=None)))
    return max(1, found)


def _step_at(u: Units, scale: float) -> bool:
    """Whether what a spike takes from the voltage is a whole number that a register holds."""
    return u.step is None or bool(u.step * scale == np.round(u.step * scale) and 1 <= u.step * scale <= STEP_MAX)


def _exact_at(u: Units, scale: float, timesteps: int, highs: dict[str, int]) -> bool:
    return (
        _weights_at(u, scale) and _biases_at(u, scale) and _step_at(u, scale) and _threshold(u, scale) is not None
        and _fits(u, scale, timesteps, highs)
    )


def _leak_note(u: Units, scale: float, timesteps: int) -> list[str]:
    """What the chip's rounding of a leak may change: nothing while the fractions fit the register's six bits."""
    bits = 0
    for d in (u.i_decay, u.v_decay):
        for keep in {int(v) for v in DECAY_ONE - d} - {0, DECAY_ONE}:
            bits = max(bits, 12 - ((keep & -keep).bit_length() - 1))
    spare = MANT_SHIFT + (_grain(u, scale) & -_grain(u, scale)).bit_length() - 1
    return ["the chip rounds the leak towards zero"] if bits * (timesteps - 1) > spare else []


def _why_not(u: Units, timesteps: int, highs: dict[str, int]) -> tuple[str, str]:
    """(what, hint) of a layer whose numbers are not the chip's."""
    if u.notes:
        return f"cannot be run as it is: {u.notes[0]}", QUANTISE
    for d in (u.v_decay, u.i_decay):
        if (d != np.round(d)).any():
            tau = DECAY_ONE / d[np.abs(d - np.round(d)).argmax()]
            return f"time constant of {tau:g} timesteps is no decay in 1/4096", f"use 4096 / tau whole, or {QUANTISE}"
    at = [2.0**k for k in POWERS]
    if not any(_step_at(u, s) for s in at):
        return f"what a spike subtracts, {u.step:g}, is whole at no power of two", QUANTISE
    if not any(_weights_at(u, s) for s in at):
        return "its weights are not even integers of 8 bits at any power of two", QUANTISE
    if not any(_weights_at(u, s) and _biases_at(u, s) for s in at):
        return "has numbers that are not whole or too large where its weights are whole (bias, v_leak)", QUANTISE
    if not any(_weights_at(u, s) and _biases_at(u, s) and _threshold(u, s) is not None for s in at):
        return f"threshold {u.theta:g} is not whole, or outside 1 to {VTH_MANT_MAX}, where its weights are whole", QUANTISE
    return "its worst-case input overflows the 24-bit registers", f"lower weights and threshold together, or {QUANTISE}"


def _nearest(u: Units, timesteps: int, highs: dict[str, int]) -> tuple[float, int]:
    """(scale, threshold) that lose least."""
    most = min(1 / _peak(u), 2.0**20, *([VTH_MANT_MAX / u.theta] if u.theta else []), *([STEP_MAX / u.step] if u.step else []))
    scale = _regular(u, most) or finest(u)
    while not _fits(u, scale, timesteps, highs):
        scale *= 0.9
        if scale * (u.theta or 1.0) < 1 and not (u.theta is None and scale > 1e-9):
            raise DeployError(u.name, "its worst-case input overflows the 24-bit registers at every scale", "use a smaller fan-in")
    if not u.theta:
        return scale, 1
    if scale * u.theta < 1:
        what = f"its threshold {u.theta:g} is below one step of its weights, which reach {max(np.abs(w).max() for w in u.weights):g}"
        raise DeployError(u.name, what, "clip the weights, or raise the threshold")
    vth = math.floor(scale * u.theta + 1e-6)
    return (scale if _regular(u, most) == scale else vth / u.theta), vth


def _regular(u: Units, most: float) -> float | None:
    """A scale at which all weights and biases are whole to one part in a million: counts of spikes, multiples of a step."""
    every = np.concatenate([w.ravel() for w in (*u.weights, *_numbers(u))])
    used = np.abs(every[every != 0])
    if not len(used) or not _no_fraction(u) or u.step is not None:
        return None
    few, largest = used[:: max(1, len(used) // 512)], float(used.max())
    for n in range(126, 0, -1):
        s = 2 * n / float(used.min())
        if np.abs(few * s - np.round(few * s)).max() > 1e-6 * max(1.0, largest * s):
            continue
        near = np.abs(used * s - np.round(used * s)).max() <= 1e-6 * max(1.0, largest * s)
        if s <= most and near and _even_nearly(u, s) and (u.theta is None or s * u.theta >= 1):
            return s
    return None


def _even_nearly(u: Units, s: float) -> bool:
    return all((np.abs(w * s - rounded(w * s)) <= 1e-6 * max(1.0, float(np.abs(w * s).max()))).all() for w in u.weights)


def at_scale(fit: Fitted, scale: float, timesteps: int, highs: dict[str, int], proven: bool = True) -> Fitted | None:
    """A rounded layer at another scale, moved so that its threshold is whole; None where it does not fit, in the worst case if `proven`."""
    u = fit.units
    if not u.theta:
        return None
    vth = math.floor(scale * u.theta + 1e-6)
    if not 1 <= vth <= VTH_MANT_MAX:
        return None
    scale = vth / u.theta
    drive = np.abs(sum((*u.biases, u.bias), np.zeros(1))).max() * scale
    if drive > BIAS_MAX or (proven and not _fits(u, scale, timesteps, highs)):
        return None
    made = _made(u, scale, vth, [*u.notes, *_changes(u, scale)])
    made.proven = proven
    return made


def finest(u: Units) -> float:
    """The scale that loses least if registers were wide enough."""
    limits = [1 / _peak(u), 2.0**20, *([VTH_MANT_MAX / u.theta] if u.theta else [])]
    weights = [w for w in u.weights if w.any()]
    return best_scale(weights, min(limits)) if weights else min(limits)


def _peak(u: Units) -> float:
    """Largest bias in units of what its mantissa holds."""
    return max(float(np.abs(sum((*u.biases, u.bias), np.zeros(1))).max()) / BIAS_MAX, 1e-12)


def _changes(u: Units, scale: float) -> list[str]:
    """What rounding changes, in numbers."""
    notes = []
    used = [w for w in u.weights if w.any()]
    worst = max((float(np.abs(rounded(w * scale) / scale - w).max() / np.abs(w).max()) for w in used), default=0.0)
    if worst > 0:
        notes.append(f"weights rounded to 8 bits, by up to {100 * worst:.2g} % of the largest")
    for what, d in (("synaptic", u.i_decay), ("membrane", u.v_decay)):
        off = np.abs(d - np.round(d)).max()
        if off:
            notes.append(f"{what} decay rounded to 1/4096, by up to {off / DECAY_ONE:.2g}")
        if not np.isin(np.round(d), (0, DECAY_ONE)).all():
            notes.append("the chip rounds the leak towards zero")
    if u.step and abs(round(u.step * scale) - u.step * scale) > 1e-6:
        off = abs(round(u.step * scale) / scale - u.step) / u.step
        notes.append(f"what a spike subtracts rounded by {100 * off:.2g} %")
    if u.theta == 0:
        notes.append("threshold 0 stands one step of the weights higher")
    return list(dict.fromkeys(notes)) or ["threshold and biases rounded"]


def _made(u: Units, scale: float, vth: int, notes: list[str]) -> Fitted:
    def whole(b: np.ndarray) -> np.ndarray:
        return wide(np.round(b * scale), u.name)

    maps = [times(t.map, scale, True) for t in u.terms]
    decays = [wide(np.round(d), u.name) for d in (u.i_decay, u.v_decay)]
    v_step = max(1, round(u.step * scale)) if u.step else 0
    return Fitted(u, scale, maps, [whole(b) for b in u.biases], whole(u.bias), vth, decays[0], decays[1], notes, v_step)
