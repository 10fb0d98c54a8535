"""How large a layer's integers may be: scales, rounding, thresholds on the chip's side of ">="."""

from __future__ import annotations

import math

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
    vth = max(1, math.ceil(theta - 1e-6) - 1 if whole or decay in (0, DECAY_ONE) else math.floor(theta + 1e-6))
    return Cuba(DECAY_ONE, decay, vth, SUBTRACT, max(1, round(theta))) if neuron.soft else Cuba(DECAY_ONE, decay, vth)


def room(neuron: FloatNeuron, timesteps: int) -> float:
    """Largest input, in mantissas, that cannot overflow the neurons' register."""
    most = ROOM * (1 << 23 - MANT_SHIFT) - (VTH_MANT_MAX if neuron.soft else 0)
    return most / cuba(neuron, 1.0).gain(timesteps)


def exact_scale(weights: list[np.ndarray], biases: list[np.ndarray], neuron: FloatNeuron, timesteps: int, limit: float) -> float | None:
    """A scale at which every weight and bias is whole and stays so through the leak's halvings, if there is one.

    Then ties with the threshold are real (counts of spikes, ternary weights), and they fall as in the float model. A threshold that is
    subtracted from the voltage must be whole, too.
    """
    values = np.concatenate([v.ravel() for v in (*weights, *biases, np.full(int(neuron.soft), neuron.drive))])
    used = np.abs(values[values != 0])
    if not len(used) or neuron.keep not in (0.5, 1.0):
        return None
    steps = used / used.min()
    grain = 2 ** (max(1, timesteps - 1) if neuron.keep == 0.5 else 1)
    heaviest = max(float(np.abs(w).max()) for w in weights) / used.min()
    if np.abs(steps - np.round(steps)).max() > 1e-6 or grain * heaviest > WEIGHT_MAX:
        return None
    scale = grain / used.min()
    if scale > limit:
        return None
    while 2 * scale <= limit and 2 * scale * used.min() * heaviest <= WEIGHT_MAX:
        scale *= 2
    return float(scale) if scale * neuron.drive > 1 + 1e-6 else None


def on_threshold(neuron: FloatNeuron, scale: float) -> float:
    """The scale next below at which the float threshold lies right for the strict comparison."""
    leaks = round((1 - neuron.keep) * DECAY_ONE) not in (0, DECAY_ONE)
    mantissas = max(1 if leaks else 2, math.floor(scale * neuron.drive + 1e-9))
    return (mantissas + (2.0**-MANT_SHIFT if leaks else 0)) / neuron.drive
