"""How large a layer's integers may be: scales, rounding, thresholds on the chip's side of ">="."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from spikegate.convert.spikingjelly.plan import FloatNeuron, Synapses
from spikegate.neurons.cuba import DECAY_ONE, MANT_SHIFT, VTH_MANT_MAX, Cuba
from spikegate.neurons.resets import SUBTRACT
from spikegate.synapses.rounding import BIAS_MAX as BIAS_MAX
from spikegate.synapses.rounding import ROOM as ROOM
from spikegate.synapses.rounding import best_scale as best_scale
from spikegate.synapses.rounding import rounded as rounded
from spikegate.synapses.rounding import whole_bias as whole_bias
from spikegate.synapses.synapse import WEIGHT_MAX, WEIGHT_MIN

GOLDEN = (5**0.5 - 1) / 2
COARSEST = 16  # mantissas of a threshold whose states are not all whole ones


def diffused(weight: np.ndarray) -> np.ndarray:
    """Even 8-bit weights [outputs, positions, channels] whose sums over the positions are right to one step, however small each is.

    Each position's rounding error goes to the next one (error diffusion), from a start that differs by channel and output.
    """
    outputs, _, channels = weight.shape
    start = np.arange(outputs * channels).reshape(outputs, 1, channels) * GOLDEN % 1 * 2 - 1
    sums = np.cumsum(np.concatenate([start, np.clip(weight, WEIGHT_MIN + 2, WEIGHT_MAX - 2)], 1), 1)
    return np.diff(2 * np.round(sums / 2), axis=1).astype(np.int64)


def integers(s: Synapses, scale: float) -> np.ndarray:
    """Weights of a map; those of an average over all positions, small and alike, so that their rounding errors do not add up."""
    weight = s.weight * scale
    if not s.smooth or s.out_grid != (1, 1):
        return rounded(weight)
    flat = weight.reshape(*weight.shape[:2], -1).transpose(0, 2, 1)
    return diffused(flat).transpose(0, 2, 1).reshape(weight.shape)


def beside(weight: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The nearest to `weight` that still rounds to the even numbers `whole`: where fine-tuning starts."""
    return whole + np.clip(weight - whole, -0.99, 0.99)


def cuba(neuron: FloatNeuron, scale: float, whole: bool = False) -> Cuba:
    """Integer neurons for a threshold of ``scale * drive`` mantissas; `whole`: their states are whole mantissas though they leak."""
    decay = round((1 - neuron.keep) * DECAY_ONE)
    theta = scale * neuron.drive
    if neuron.step:
        return Cuba(DECAY_ONE, decay, max(1, math.floor(theta + 1e-6)), SUBTRACT, max(1, round(scale * neuron.fall)), neuron.levels)
    vth = max(1, math.ceil(theta - 1e-6) - 1 if whole or decay in (0, DECAY_ONE) else math.floor(theta + 1e-6))
    return Cuba(DECAY_ONE, decay, vth, SUBTRACT, max(1, round(theta))) if neuron.soft else Cuba(DECAY_ONE, decay, vth)


def room(neuron: FloatNeuron, timesteps: int) -> float:
    """Largest input, in mantissas, that cannot overflow the neurons' register."""
    most = ROOM * (1 << 23 - MANT_SHIFT) - (int(neuron.soft) + int(neuron.step > 0)) * VTH_MANT_MAX
    return most / cuba(neuron, 1.0).gain(timesteps)


def halvings(keep: float) -> int | None:
    """How many bits below a state's last one a decay adds: n for ``keep = k / 2^n``; None where 12 bits do not hold it."""
    scaled = keep * DECAY_ONE
    if scaled != round(scaled):
        return None
    whole = int(scaled) or DECAY_ONE
    return DECAY_ONE.bit_length() - (whole & -whole).bit_length()


def unit_of(values: np.ndarray, parts: int = WEIGHT_MAX // 2) -> float | None:
    """The largest number of which all values are whole multiples, the smallest one up to `parts` times; None if there is none."""
    used = np.unique(np.abs(values[values != 0]))
    if not len(used) or used[-1] > used[0] * 2.0**24:
        return None
    for n in range(1, parts + 1):
        steps = used / used[0] * n
        if np.abs(steps - np.round(steps)).max() < 1e-6:
            return float(used[0]) / n
    return None


def exact_scale(
    weights: list[np.ndarray], others: list[np.ndarray], neuron: FloatNeuron, timesteps: int, fits: Callable[[float], bool]
) -> float | None:
    """The largest scale that `fits` at which weights (even, 8 bits) and `others` (biases, currents of the host) are whole, if there is one.

    Ties with the threshold are real then (counts of spikes, ternary weights), and they fall as in the float model as long as a state is a
    whole mantissa: throughout, if the scale leaves room for the leak's halvings in all timesteps. Where it does not, only states that
    come within one mantissa below the threshold are taken for ties; so the threshold must be `COARSEST` mantissas. A threshold that is
    subtracted from the voltage is one of the whole numbers.
    """
    below, subtracted = halvings(neuron.keep), np.full(int(neuron.soft), neuron.fall)
    unit = unit_of(np.concatenate([v.ravel() for v in (*weights, *others, subtracted)]))
    if unit is None:
        return None
    throughout = math.inf if below is None else below * (timesteps - 1)
    step = 1 + int(any((np.round(w / unit) % 2 != 0).any() for w in weights))
    found = None
    for power in range(VTH_MANT_MAX.bit_length() + 1):
        scale = step * 2.0**power / unit
        theta = scale * neuron.drive
        if theta > VTH_MANT_MAX or any(scale * w.min() < WEIGHT_MIN or scale * w.max() > WEIGHT_MAX for w in weights) or not fits(scale):
            break
        if theta > 1 + 1e-6 and (theta >= COARSEST or power + step - 1 >= throughout):
            found = scale
    return found


def on_threshold(neuron: FloatNeuron, scale: float) -> float:
    """The scale next below at which the float threshold lies right for the strict comparison."""
    leaks = round((1 - neuron.keep) * DECAY_ONE) not in (0, DECAY_ONE)
    mantissas = max(1 if leaks else 2, math.floor(scale * neuron.drive + 1e-9))
    return (mantissas + (2.0**-MANT_SHIFT if leaks and not neuron.step else 0)) / neuron.drive
