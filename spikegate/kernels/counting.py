"""Compiled counts and sums over integer arrays, one pass over memory each."""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled

PART = 1024  # neurons whose activity is added at a time: those of all timesteps fit the first cache
LINE = 8  # int64 in a line of the cache
FEW_ADDS = 1 << 18  # up to so many adds are faster event by event than starting a matrix product


@compiled
def alive_tokens(credit: np.ndarray) -> np.ndarray:
    """Number of alive tokens in each row of credit [rows, tokens], int64 [rows]."""
    out = np.zeros(len(credit), np.int64)
    for m in range(len(credit)):
        for p in range(credit.shape[1]):
            out[m] += credit[m, p] > 0
    return out


@compiled
def magnitudes(x: np.ndarray) -> np.ndarray:
    """Sum of |x| of each row of integers x [rows, n], int64 [rows]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += abs(np.int64(x[m, c]))
    return out


@compiled
def weighted(x: np.ndarray, fanout: np.ndarray) -> np.ndarray:
    """``x @ fanout`` for integers x [batch, n] and int64 [n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += np.int64(x[m, c]) * fanout[c]
    return out


@compiled
def nonzeros(x: np.ndarray) -> np.ndarray:
    """Number of non-zero values of each row of x [batch, n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += x[m, c] != 0
    return out


@compiled
def sums(x: np.ndarray) -> np.ndarray:
    """Sum of each row of integers x [batch, n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += x[m, c]
    return out


@compiled
def add_at(into: np.ndarray, at: np.ndarray, x: np.ndarray) -> None:
    """``into[at[m]] += x[m]`` row by row; a row may occur several times; into int64 [samples, n], x int32 [rows, n]."""
    for m in range(len(x)):
        for c in range(x.shape[1]):
            into[at[m], c] += x[m, c]


@compiled
def enter(events: np.ndarray, sample: np.ndarray, t: np.ndarray, into: np.ndarray) -> None:
    """``into[sample[m], t[m] - 1] = events[..., m]`` for int64 events [ops, counters, rows], into int64 [samples, T, ops, counters].

    Some rows at a time, so that what is read across stays in the first cache.
    """
    ops, counters, rows = events.shape
    for first in range(0, rows, LINE):
        last = min(first + LINE, rows)
        for i in range(ops):
            for m in range(first, last):
                here = into[sample[m], t[m] - 1, i]
                for c in range(counters):
                    here[c] = events[i, c, m]


@compiled
def active(x: np.ndarray, order: np.ndarray, steps: np.ndarray, into: np.ndarray) -> None:
    """Adds which values of x [rows, n] are not 0 to their timestep's row of int32 [timesteps, n], which `into` holds one after the other.

    `order` and `steps` of `by_timestep`. Rows of the same timestep are added in fours, so that `into` is read and written once for them.
    """
    n = x.shape[1]
    for first in range(0, n, PART):
        last = min(first + PART, n)
        for step in range(len(steps) - 1):
            here, i = into[step * n + first : step * n + last], steps[step]
            while i + 4 <= steps[step + 1]:
                a, b = x[order[i], first:last], x[order[i + 1], first:last]
                c, d = x[order[i + 2], first:last], x[order[i + 3], first:last]
                for k in range(len(here)):
                    here[k] += np.int32(a[k] != 0) + np.int32(b[k] != 0) + np.int32(c[k] != 0) + np.int32(d[k] != 0)
                i += 4
            while i < steps[step + 1]:
                a = x[order[i], first:last]
                for k in range(len(here)):
                    here[k] += np.int32(a[k] != 0)
                i += 1


@compiled
def by_timestep(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows with timestep 1, then those with 2, up to the last, and where each timestep's begin, int64 [last + 1]."""
    most = 0
    for m in range(len(t)):
        most = max(most, t[m])
    begins = np.zeros(most + 1, np.int64)
    for m in range(len(t)):
        begins[t[m]] += 1
    for k in range(most):
        begins[k + 1] += begins[k]
    order, at = np.empty(len(t), np.int64), begins.copy()
    for m in range(len(t)):
        order[at[t[m] - 1]] = m
        at[t[m] - 1] += 1
    return order, begins
