"""Compiled integer kernels. Each is the loop form of what its caller's docstring says, in one sweep over memory."""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True)


@compiled
def decayed(x: np.int64, d: np.int64) -> np.int64:
    """``sign(x) * (|x| (4096 - d) >> 12)``."""
    return (x * (4096 - d)) >> 12 if x >= 0 else -((-x * (4096 - d)) >> 12)


@compiled
def cuba(current, u, v, bias, i_decay, v_decay, theta, limit, hold, spikes):  # type: ignore[no-untyped-def]
    """One timestep of `convert.neuron.Cuba`: updates `u` (may be empty) and `v` [rows, n] in place and writes `spikes`.

    `bias` int64 [n]; `hold` bool [rows] or empty. Returns 1 if a current wrapped, plus 2 if a voltage was clipped.
    """
    rows, n = current.shape
    flags = 0
    for m in range(rows):
        fires = not hold[m] if hold.size else True
        for c in range(n):
            a = np.int64(current[m, c]) << 6
            if u.size:
                a += decayed(np.int64(u[m, c]), i_decay)
            if a >= limit or a <= -limit:
                flags |= 1
                a = (a + limit) % (2 * limit) - limit
            if u.size:
                u[m, c] = a
            b = decayed(np.int64(v[m, c]), v_decay) + a + (bias[c] << 6)
            if b >= limit or b <= -limit:
                flags |= 2
                b = min(max(b, -limit + 1), limit - 1)
            s = fires and b > theta
            spikes[m, c] = 1 if s else 0
            v[m, c] = 0 if s else b
    return flags


@compiled
def cuba_shift(current, v, bias, shift, theta, limit, hold, spikes):  # type: ignore[no-untyped-def]
    """`cuba` where the current decays fully and the voltage by a power of two, ``v -> v >> shift`` towards zero, in 32 bits.

    Returns the flags of `cuba`; at a current that would wrap it returns 1 at once, with nothing changed.
    """
    rows, n = current.shape
    most = (limit >> 6) - 1
    rest = np.int32((1 << shift) - 1)
    outside = False
    for m in range(rows):
        for c in range(n):
            outside |= current[m, c] > most or current[m, c] < -most
    if outside:
        return 1
    high, low, bound, by = np.int32(limit - 1), np.int32(1 - limit), np.int32(theta), np.int32(shift)
    clipped = np.int32(0)
    for m in range(rows):
        fires = np.int32(1) if not hold.size or not hold[m] else np.int32(0)
        for c in range(n):
            x = v[m, c]
            leaked = (x + ((x >> np.int32(31)) & rest)) >> by
            b = leaked + (np.int32(current[m, c]) << np.int32(6)) + (np.int32(bias[c]) << np.int32(6))
            within = min(max(b, low), high)
            clipped |= np.int32(within != b)
            s = np.int32(within > bound) & fires
            spikes[m, c] = s
            v[m, c] = within * (np.int32(1) - s)
    return 2 if clipped else 0


@compiled
def weighted(x, fanout):  # type: ignore[no-untyped-def]
    """``x @ fanout`` for integers x [batch, n] and int64 [n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += np.int64(x[m, c]) * fanout[c]
    return out


@compiled
def nonzeros(x):  # type: ignore[no-untyped-def]
    """Number of non-zero values of each row of x [batch, n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += x[m, c] != 0
    return out


@compiled
def sums(x):  # type: ignore[no-untyped-def]
    """Sum of each row of integers x [batch, n], int64 [batch]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += x[m, c]
    return out
