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
def cuba(current, credit, u, v, span, bias, i_decay, v_decay, theta, limit, hold, spikes, fired):  # type: ignore[no-untyped-def]
    """Timesteps of `convert.neuron.Cuba`: updates `u` (may be empty) and `v` [samples, positions, n], writes `spikes` and their number.

    `current` [samples * span, positions, n]: the timesteps of a sample follow each other. `credit` int [samples * span, positions] or
    empty: at 0 and below nothing is computed. `bias` int64 [n]; `hold` bool [samples * span] or empty; `fired` int64 [samples * span].
    Returns 1 if a current wrapped, plus 2 if a voltage was clipped.
    """
    rows, positions, n = current.shape
    flags = 0
    for m in range(rows):
        a, count = m // span, 0
        fires = not hold[m] if hold.size else True
        for p in range(positions):
            if credit.size and credit[m, p] <= 0:
                spikes[m, p] = 0
                continue
            for c in range(n):
                x = np.int64(current[m, p, c]) << 6
                if u.size:
                    x += decayed(np.int64(u[a, p, c]), i_decay)
                if x >= limit or x <= -limit:
                    flags |= 1
                    x = (x + limit) % (2 * limit) - limit
                if u.size:
                    u[a, p, c] = x
                b = decayed(np.int64(v[a, p, c]), v_decay) + x + (bias[c] << 6)
                if b >= limit or b <= -limit:
                    flags |= 2
                    b = min(max(b, -limit + 1), limit - 1)
                s = fires and b > theta
                spikes[m, p, c] = 1 if s else 0
                v[a, p, c] = 0 if s else b
                count += s
        fired[m] = count
    return flags


@compiled
def cuba_shift(current, credit, v, span, bias, shift, theta, limit, hold, spikes, fired):  # type: ignore[no-untyped-def]
    """`cuba` where the current decays fully and the voltage by a power of two, ``v -> v >> shift`` towards zero, in 32 bits.

    Returns the flags of `cuba`; at a current that would wrap it returns 1 at once, with nothing changed.
    """
    rows, positions, n = current.shape
    most = (limit >> 6) - 1
    rest = np.int32((1 << shift) - 1)
    outside = False
    for m in range(rows):
        for p in range(positions):
            if not credit.size or credit[m, p] > 0:
                for c in range(n):
                    outside |= current[m, p, c] > most or current[m, p, c] < -most
    if outside:
        return 1
    high, low, bound, by = np.int32(limit - 1), np.int32(1 - limit), np.int32(theta), np.int32(shift)
    clipped = np.int32(0)
    for m in range(rows):
        a, count = m // span, np.int64(0)
        fires = np.int32(1) if not hold.size or not hold[m] else np.int32(0)
        for p in range(positions):
            if credit.size and credit[m, p] <= 0:
                spikes[m, p] = 0
                continue
            sent = np.int32(0)
            for c in range(n):
                x = v[a, p, c]
                leaked = (x + ((x >> np.int32(31)) & rest)) >> by
                b = leaked + (np.int32(current[m, p, c]) << np.int32(6)) + (np.int32(bias[c]) << np.int32(6))
                within = min(max(b, low), high)
                clipped |= np.int32(within != b)
                s = np.int32(within > bound) & fires
                spikes[m, p, c] = s
                sent += s
                v[a, p, c] = within * (np.int32(1) - s)
            count += sent
        fired[m] = count
    return 2 if clipped else 0


@compiled
def leaky(current, u, v, span, bias, i_decay, v_decay, theta, exponent, up, limit, spiking, out, fired):  # type: ignore[no-untyped-def]
    """Timesteps of `convert.neuron_leaky.Leaky`, shapes as in `cuba`; `bias` int64 [positions or 1, n], decays int64 [n].

    `up`: shift from the current's unit to the state's. Not `spiking`: sends voltages, never resets. Flags as in `cuba`.
    """
    rows, positions, n = current.shape
    flags = 0
    for m in range(rows):
        a, count = m // span, 0
        for p in range(positions):
            q = p if len(bias) > 1 else 0
            for c in range(n):
                x = decayed(np.int64(u[a, p, c]), i_decay[c]) + (np.int64(current[m, p, c]) << up)
                if x >= limit or x <= -limit:
                    flags |= 1
                    x = x - 2 * limit if x > limit else x
                    x = x + 2 * limit if x <= -limit else x
                u[a, p, c] = x
                drive = x + (bias[q, c] << 6)
                if exponent > 0:
                    drive = drive >> exponent if drive >= 0 else -(-drive >> exponent)
                else:
                    drive = drive << -exponent
                b = decayed(np.int64(v[a, p, c]), v_decay[c]) + drive
                if b >= limit or b <= -limit:
                    flags |= 2
                    b = min(max(b, -limit + 1), limit - 1)
                s = b > theta and spiking
                out[m, p, c] = (1 if s else 0) if spiking else b
                v[a, p, c] = 0 if s else b
                count += out[m, p, c] != 0
        fired[m] = count
    return flags


@compiled
def rectified(current, sigma, span, bias, act):  # type: ignore[no-untyped-def]
    """Sums over time and ``max(0, sum + bias)`` of `convert.neuron_sdnn.SigmaDelta`; `act` int64 [samples * span, positions, n]."""
    rows, positions, n = current.shape
    for m in range(rows):
        a = m // span
        for p in range(positions):
            q = p if len(bias) > 1 else 0
            for c in range(n):
                total = np.int64(sigma[a, p, c]) + np.int64(current[m, p, c])
                sigma[a, p, c] = total
                act[m, p, c] = max(total + bias[q, c], 0)


@compiled
def delta(act, last, residue, span, threshold, down, out, fired):  # type: ignore[no-untyped-def]
    """Changes that sigma-delta neurons send, ``convert.neuron_sdnn._Delta.encode`` over timesteps."""
    rows, positions, n = act.shape
    for m in range(rows):
        a, count = m // span, 0
        for p in range(positions):
            for c in range(n):
                change = act[m, p, c] - np.int64(last[a, p, c]) + np.int64(residue[a, p, c])
                sent = change if abs(change) >= threshold else np.int64(0)
                residue[a, p, c] = change - sent
                last[a, p, c] = act[m, p, c]
                out[m, p, c] = sent >> down
                count += out[m, p, c] != 0
        fired[m] = count


@compiled
def delayed(x, delay, t, ring, out):  # type: ignore[no-untyped-def]
    """Events x [samples * span, positions, channels], each ``delay[channel]`` timesteps later, through `ring` [samples, depth, ...]."""
    span, depth = len(x) // len(ring), ring.shape[1]
    for m in range(len(x)):
        kept = ring[m // span]
        kept[t[m] % depth] = x[m]
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                out[m, p, c] = kept[(t[m] - delay[c]) % depth, p, c]


@compiled
def living(credit):  # type: ignore[no-untyped-def]
    """Tokens of each row of credit [rows, tokens] that live, int64 [rows]."""
    out = np.zeros(len(credit), np.int64)
    for m in range(len(credit)):
        for p in range(credit.shape[1]):
            out[m] += credit[m, p] > 0
    return out


@compiled
def magnitudes(x):  # type: ignore[no-untyped-def]
    """Sum of |x| of each row of integers x [rows, n], int64 [rows]."""
    out = np.zeros(len(x), np.int64)
    for m in range(len(x)):
        for c in range(x.shape[1]):
            out[m] += abs(np.int64(x[m, c]))
    return out


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
