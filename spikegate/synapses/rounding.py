"""Rounding of float weights and biases to the chip's: even 8-bit weights, 13-bit biases, and the scale that loses least."""

from __future__ import annotations

import math

import numpy as np

from spikegate.synapses.synapse import WEIGHT_MAX, WEIGHT_MIN

BIAS_MAX = 4095
ROOM = 0.99  # share of a register that a layer may use
CLIPPED = np.geomspace(1, 4, 17)  # how far beyond the largest weight's scale the search goes


def rounded(weight: np.ndarray) -> np.ndarray:
    """Even 8-bit weights."""
    return np.clip(2 * np.round(weight / 2), WEIGHT_MIN, WEIGHT_MAX).astype(np.int64)


def whole_bias(bias: np.ndarray) -> np.ndarray:
    """13-bit biases."""
    return np.clip(np.round(bias), -BIAS_MAX, BIAS_MAX).astype(np.int32)


def best_scale(weights: list[np.ndarray], limit: float) -> float:
    """The scale up to `limit` with the least mean squared error of the rounded weights, outliers clipped where that pays."""
    flat = np.concatenate([w.ravel() for w in weights])
    largest = float(np.abs(flat).max())
    if largest == 0:
        return limit
    near_one = -math.frexp(largest)[1]  # errors of weights near 1: the squares of very large or small ones leave float64
    unit = np.ldexp(flat, near_one)
    scales = sorted({min(limit, f * WEIGHT_MAX / largest) for f in CLIPPED})

    def error(scale: float) -> float:
        s = math.ldexp(scale, -near_one)
        return float(np.square(rounded(s * unit) / s - unit).mean())

    best: float = min(scales, key=error)
    return best
