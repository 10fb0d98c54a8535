"""A layer in integers on the float net's own spikes, so that only its own rounding counts; the scale that keeps most of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikegate.formats.nir.fitting import Fitted, at_scale, finest
from spikegate.formats.nir.floats import FloatRun
from spikegate.formats.nir.linear import applied
from spikegate.neurons.cuba import LIMIT, MANT_SHIFT, decay

FACTORS = (0.75, 1.25, 1.5, 2.0, 3.0)  # larger scales clip the largest weights
FINER = (1.0, 0.5, 0.25)
MARGIN = 4  # how far the samples stay from the registers' ends
ENOUGH, CLEARLY = 0.999, 0.001  # shares of spikes: where the search is not begun, and what another scale must win


def drives(fit: Fitted, run: FloatRun) -> Iterator[np.ndarray]:
    """What the integer synapses bring in each timestep, mantissas [n, size]."""
    for t in range(run.answer.shape[1]):
        yield sum(applied(m, run.arriving(u, t)) + b for m, u, b in zip(fit.maps, fit.units.terms, fit.biases))


def spikes_alone(fit: Fitted, run: FloatRun) -> tuple[np.ndarray, int]:
    """Spikes int16 [n, T, size] of the integer neurons, and the largest magnitude in their registers, which are taken for wide enough."""
    found, peak, u, v = [], 0, np.zeros(1, np.int64), np.zeros(1, np.int64)
    for x in drives(fit, run):
        u = decay(u, fit.i_decay) + (np.round(x).astype(np.int64) << MANT_SHIFT)
        v = decay(v, fit.v_decay) + u + (fit.bias << MANT_SHIFT)
        peak = max(peak, int(np.abs(u).max()), int(np.abs(v).max()))
        sent = np.zeros(v.shape, np.int16)
        for _ in range(fit.units.levels):
            spikes = v > (fit.vth << MANT_SHIFT)
            if not spikes.any():
                break
            sent += spikes
            v = np.where(spikes, v - (fit.v_step << MANT_SHIFT) if fit.v_step else 0, v)
        found.append(sent)
    return np.stack(found, 1), peak


def agreement(fit: Fitted, run: FloatRun) -> tuple[float, int]:
    """Share of (neuron, timestep) cells that agree with the float net's, and the registers' peak."""
    spikes, peak = spikes_alone(fit, run)
    return float((spikes == run.sent[fit.units.name]).mean()), peak


def best(fit: Fitted, run: FloatRun, timesteps: int, highs: dict[str, int]) -> tuple[Fitted, float]:
    """The layer at the scale that agrees best on the run's samples, and how well it does.

    Where the worst case alone keeps the scale low, a layer of one set of synapses may take a finer one, if the samples reach at most
    a quarter of the registers.
    """
    found = fit, agreement(fit, run)[0]
    if found[1] >= ENOUGH:
        return found
    single = len(fit.maps) == 1 and not (fit.units.slow and fit.biases[0].any())
    for factor in FINER if single and finest(fit.units) > 1.2 * fit.scale else ():
        other = at_scale(fit, factor * finest(fit.units), timesteps, highs, proven=False)
        share, peak = agreement(other, run) if other else (0.0, 0)
        if other and MARGIN * peak < LIMIT:
            if share > found[1] + CLEARLY:
                other.notes.append(f"registers hold what the samples reach ({100 * peak / LIMIT:.2g} % of them), not every worst case")
                return other, share
            break
    for factor in FACTORS:
        other = at_scale(fit, fit.scale * factor, timesteps, highs)
        share = agreement(other, run)[0] if other else 0.0
        if other and share > found[1] + CLEARLY:
            found = other, share
    return found
