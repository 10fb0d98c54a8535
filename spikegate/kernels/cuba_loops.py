"""Compiled CUBA neurons: in 64 bits for any sums, in 32 bits and without branches for sums below 2^17, the usual case."""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled, inlined
from spikegate.kernels.lanes import address
from spikegate.kernels.neuron_lanes import LIMIT, kept, update_voltages
from spikegate.kernels.neuron_loops import decayed

LANES = 512  # neurons that are updated at a time


@inlined
def fire(b, rule):
    """(spikes, voltage after them) of a neuron with the voltage b."""
    theta, step, levels = rule
    s = 0
    while s < levels and b > theta:
        s += 1
        b = b - step if step else 0
    return s, b


@compiled
def cuba(current, credit, u, v, span, bias, i_decay, v_decay, rule, limit, hold, spikes, fired):
    """Timesteps of `neurons.cuba.Cuba`: updates `u` (may be empty) and `v` [samples, positions, n], writes `spikes` and their number.

    `current` [samples * span, positions, n]: the timesteps of a sample follow each other. `credit` int [samples * span, positions] or
    empty: at 0 and below nothing is computed. `bias` int64 [n]; `hold` bool [samples * span] or empty; `fired` int64 [samples * span],
    neurons that sent. `rule` as of `neurons.cuba.Cuba.rule`.
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
                    x = (x + limit - 1) % (2 * limit) - limit + 1
                if u.size:
                    u[a, p, c] = x
                b = decayed(np.int64(v[a, p, c]), v_decay) + x + (bias[c] << 6)
                if b >= limit or b <= -limit:
                    flags |= 2
                    b = min(max(b, -limit + 1), limit - 1)
                s, v[a, p, c] = fire(b, rule) if fires else (0, b)
                spikes[m, p, c] = s
                count += s != 0
        fired[m] = count
    return flags


@inlined
def currents(acc, up, u, bias, i_keep):
    """Currents of one position: ``u = dec(u) + 2^(6 + up) acc``; acc becomes ``u + 2^6 bias``. Returns whether one wrapped."""
    limit, edge, wrapped = np.int32(LIMIT), np.int32(LIMIT - 1), np.int32(0)
    for c in range(len(u)):
        x = kept(u[c], i_keep) + (acc[c] << (np.int32(6) + up))
        wrapped |= np.int32(x >= limit) | np.int32(x <= -limit)
        u[c] = acc[c] = ((x + edge) & (np.int32(2) * limit - np.int32(1))) - edge
    for c in range(len(u)):
        acc[c] += bias[c] << np.int32(6)
    return wrapped


@inlined
def update_positions(m, a, order, first, last, packed, acc, up, u, v, bias, i_keep, v_keep, rule, fires, out):
    """Update the neurons of the positions ``order[first : last]`` with ``2^up acc``, acc [positions, n] (bias included where u is empty).

    `packed`: acc holds these positions one after the other, from 0 on; else each at its own place. u and v [samples, neurons], out
    [rows, neurons]. Returns neurons that fire, and 1 if a current wrapped plus 2 if a voltage was clipped.
    """
    n, shift, flags, sent = acc.shape[1], up + np.int32(6), 0, np.int64(0)
    if u.size:
        shift = np.int32(0)
        for i in range(first, last):
            o = order[i]
            flags |= currents(acc[i - first if packed else o], up, u[a][o * n : (o + 1) * n], bias, i_keep)
    sums, volts, spikes, o = address(acc), address(v) + 4 * a * v.shape[1], address(out) + 4 * m * out.shape[1], order[first]
    if order[last - 1] - o == last - 1 - first:  # they follow each other
        at = sums if packed else sums + 4 * o * n
        some, beyond = update_voltages(at, shift, volts + 4 * o * n, (last - first) * n, v_keep, rule, fires, spikes + 4 * o * n)
        return some, flags | (2 if beyond else 0)
    for i in range(first, last):
        o = order[i]
        at = sums + 4 * n * (i - first if packed else o)
        some, beyond = update_voltages(at, shift, volts + 4 * o * n, n, v_keep, rule, fires, spikes + 4 * o * n)
        sent += some
        flags |= 2 if beyond else 0
    return sent, flags


@inlined
def alive(m, credit, order):
    """Positions of row m whose `credit` is above 0 into `order` int64 [positions + 1]; returns how many."""
    count = 0
    for p in range(credit.shape[1]):
        order[count] = p
        count += credit[m, p] > 0
    return count


@compiled
def update_all(current, credit, u, v, span, bias, i_keep, v_keep, rule, hold, spikes, fired):
    """`cuba` in 32 bits; `i_keep` and `v_keep` as of `update_voltages`. Returns 4, and changes nothing, if a sum is 2^17 or more."""
    rows, positions, n = current.shape
    most = (1 << 17) - 1
    outside = False
    for m in range(rows):
        for p in range(positions):
            if not credit.size or credit[m, p] > 0:
                for c in range(n):
                    outside |= current[m, p, c] > most or current[m, p, c] < -most
    if outside:
        return 4
    together, flags = max(1, LANES // n), 0
    acc = np.empty((together, n), np.int32)
    leaks, leaky = np.int32(i_keep), np.int32(v_keep)
    us, vs, out = u.reshape(len(u), u.size // max(1, len(u))), v.reshape(len(v), positions * n), spikes.reshape(rows, positions * n)
    order, lives = np.arange(positions + 1), positions
    for m in range(rows):
        fires, count = np.int32(0) if hold.size and hold[m] else np.int32(1), np.int64(0)
        if credit.size:
            lives = alive(m, credit, order)
            if lives < positions:
                out[m] = 0
        for first in range(0, lives, together):
            last = min(first + together, lives)
            for i in range(first, last):
                for c in range(n):
                    acc[i - first, c] = np.int32(current[m, order[i], c]) + (np.int32(0) if u.size else bias[c])
            some, found = update_positions(
                m, m // span, order, first, last, True, acc, np.int32(0), us, vs, bias, leaks, leaky, rule, fires, out
            )
            count += some
            flags |= found
        fired[m] = count
    return flags
