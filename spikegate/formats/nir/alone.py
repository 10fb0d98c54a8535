"""A layer in integers on the float net's own spikes, so that only its own rounding counts; the scale that keeps most of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikegate.formats.nir.fitting import Fitted, at_scale
from spikegate.formats.nir.floats import FloatRun
from spikegate.formats.nir.linear import applied
from spikegate.neurons.cuba import MANT_SHIFT, decay

FACTORS = (0.75, 1.25, 1.5, 2.0, 3.0)  # larger scales clip the largest weights
ENOUGH, CLEARLY = 0.999, 0.001  # shares of spikes: where the search is not begun, and what another scale must win


def drives(fit: Fitted, run: FloatRun) -> Iterator[np.ndarray]:
    """What the integer synapses bring in each timestep, mantissas [n, size]."""
    for t in range(run.answer.shape[1]):
        yield sum(applied(m, run.arriving(u, t)) + b for m, u, b in zip(fit.maps, fit.units.terms, fit.biases))  # type: ignore[misc]


def spikes_alone(fit: Fitted, run: FloatRun) -> np.ndarray:
    """Spikes bool [n, T, size] of the integer neurons; registers are taken for wide enough."""
    found, u, v = [], np.zeros(1, np.int64), np.zeros(1, np.int64)
    for x in drives(fit, run):
        mantissas = np.round(x).astype(np.int64)
        u = decay(u, fit.i_decay) + (mantissas << MANT_SHIFT)
        v = decay(v, fit.v_decay) + u + (fit.bias << MANT_SHIFT)
        spikes = v > (fit.vth << MANT_SHIFT)
        v = np.where(spikes, 0, v)
        found.append(spikes)
    return np.stack(found, 1)


def agreement(fit: Fitted, run: FloatRun) -> float:
    """Share of (neuron, timestep) cells that agree with the float net's."""
    return float((spikes_alone(fit, run) == (run.sent[fit.units.name] > 0)).mean())


def best(fit: Fitted, run: FloatRun, timesteps: int, highs: dict[str, int]) -> tuple[Fitted, float]:
    """The layer at the scale that agrees best on the run's samples, and how well it does."""
    found = fit, agreement(fit, run)
    for factor in FACTORS if found[1] < ENOUGH else ():
        other = at_scale(fit, fit.scale * factor, timesteps, highs)
        if other is not None:
            share = agreement(other, run)
            if share > found[1] + CLEARLY:
                found = other, share
    return found
