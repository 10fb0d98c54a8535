"""Compiled event-driven work: sums of synapses, of several sources, of attention. An event touches what it reaches, nothing else.

A sum of eight weights fits 16 bits, so events are taken eight at a time and widened once: as many adds as one by one, fewer instructions.
"""

from __future__ import annotations

import numpy as np

from convert.kernels import compiled, inlined
from convert.lanes import occupied

UNITS = 8  # up to this value a graded event is added so many times, beyond it its weights are multiplied


@compiled
def ends(x):  # type: ignore[no-untyped-def]
    """Largest and least of the values of x and 0."""
    flat, high, low = x.reshape(x.size), np.int32(0), np.int32(0)
    for i in range(len(flat)):
        high, low = max(high, flat[i]), min(low, flat[i])
    return np.int64(high), np.int64(low)


@compiled
def first(x, events):  # type: ignore[no-untyped-def]
    """Non-zero values at each position of x [rows, positions, channels] into `events`; their number, the largest and least of x and 0."""
    found, at, (rows, positions, channels) = 0, x.ctypes.data, x.shape
    for m in range(rows):
        for p in range(positions):
            here = occupied(at + (m * positions + p) * channels * 4, channels)
            events[m, p] = here
            found += here
    high, low = ends(x)
    return found, high, low


@compiled
def added(a, b, total, events):  # type: ignore[no-untyped-def]
    """``total = a + b``, and b's non-zero values added to `events`; returns how many they are, the largest and least total and 0."""
    found, at, (rows, positions, channels) = 0, b.ctypes.data, b.shape
    for m in range(rows):
        for p in range(positions):
            here = occupied(at + (m * positions + p) * channels * 4, channels)
            events[m, p] += here
            found += here
    left, right, into = a.reshape(a.size), b.reshape(b.size), total.reshape(total.size)
    for i in range(len(into)):
        into[i] = left[i] + right[i]
    high, low = ends(total)
    return found, high, low


@inlined
def add_rows(acc, weight, lines, found):  # type: ignore[no-untyped-def]
    """``acc += weight[lines[0]] + .. + weight[lines[found - 1]]``; acc int32 [n], weight int16 [lines, n]."""
    n = len(acc)
    i = 0
    while i + 8 <= found:
        a, b, c, d = weight[lines[i]], weight[lines[i + 1]], weight[lines[i + 2]], weight[lines[i + 3]]
        e, f, g, h = weight[lines[i + 4]], weight[lines[i + 5]], weight[lines[i + 6]], weight[lines[i + 7]]
        for k in range(n):
            left = np.int16(np.int16(a[k] + b[k]) + np.int16(c[k] + d[k]))
            right = np.int16(np.int16(e[k] + f[k]) + np.int16(g[k] + h[k]))
            acc[k] += np.int32(np.int16(left + right))
        i += 8
    if i + 4 <= found:
        a, b, c, d = weight[lines[i]], weight[lines[i + 1]], weight[lines[i + 2]], weight[lines[i + 3]]
        for k in range(n):
            acc[k] += np.int32(np.int16(np.int16(a[k] + b[k]) + np.int16(c[k] + d[k])))
        i += 4
    if i + 2 <= found:
        a, b = weight[lines[i]], weight[lines[i + 1]]
        for k in range(n):
            acc[k] += np.int32(np.int16(a[k] + b[k]))
        i += 2
    if i < found:
        a = weight[lines[i]]
        for k in range(n):
            acc[k] += np.int32(a[k])


@compiled
def living(m, events, credit):  # type: ignore[no-untyped-def]
    """Events of sample m, those at positions whose `credit` is not above 0 left out; events, credit [rows, positions]."""
    total = np.int64(0)
    for p in range(events.shape[1]):
        if not credit.size or credit[m, p] > 0:
            total += events[m, p]
    return total


@compiled
def count(x, credit, fan, events, synops, arrived):  # type: ignore[no-untyped-def]
    """Accumulates that x [rows, positions, channels] causes, ``|x| . fan``, and events that arrive, both without dead positions."""
    rows, positions, channels = x.shape
    for m in range(rows):
        total = np.int64(0)
        for p in range(positions):
            if not credit.size or credit[m, p] > 0:
                for c in range(channels):
                    total += abs(np.int64(x[m, p, c])) * fan[p * channels + c]
        synops[m] = total
        arrived[m] = living(m, events, credit)


@compiled
def scatter(x, credit, fan, events, start, target, tap, weight, per, acc, synops, arrived):  # type: ignore[no-untyped-def]
    """Weighted sums ``acc`` int32 [rows, out positions, out channels] of the events x int32 [rows, positions, channels]; counts as `count`.

    Position p reaches ``target[start[p] : start[p + 1]]`` through the kernel's ``tap``; weight int16 [taps, channels, outputs of a group],
    `per` channels to a group. Positions whose `credit` is not above 0 are left out.
    """
    rows, positions, channels = x.shape
    each = weight.shape[2]
    grouped = per != channels
    lines = np.empty(UNITS * channels + 1, np.int64)
    for m in range(rows):
        acc[m] = 0
        total = np.int64(0)
        for p in range(positions):
            if credit.size and credit[m, p] <= 0:
                continue
            found = 0
            most, least = np.int32(0), np.int32(0)
            for c in range(channels):
                value = x[m, p, c]
                lines[found] = c
                found += value != 0
                most, least = max(most, value), min(least, value)
            if not found:
                continue
            for i in range(found):
                total += abs(np.int64(x[m, p, lines[i]])) * fan[p * channels + lines[i]]
            as_units = not grouped and least == 0 and most <= UNITS
            if as_units and most > 1:  # a value n is n accumulates
                more = found
                for i in range(found):
                    for _ in range(x[m, p, lines[i]] - 1):
                        lines[more] = lines[i]
                        more += 1
                found = more
            for j in range(start[p], start[p + 1]):
                into, rows_of = acc[m, target[j]], weight[tap[j]]
                if as_units:
                    add_rows(into, rows_of, lines, found)
                    continue
                for i in range(found):
                    c = lines[i]
                    value, line, at = x[m, p, c], rows_of[c], (c // per) * each
                    for k in range(each):
                        into[at + k] += value * np.int32(line[k])
        synops[m] = total
        arrived[m] = living(m, events, credit)


@compiled
def attention(q, k, v, credit, heads, by_values, y, work, arrived):  # type: ignore[no-untyped-def]
    """Counts of coincidences ``y`` int32 of bits q, k, v [rows, tokens, channels]; `work` and `arrived` int64 [rows]: accumulates, events.

    `by_values`: K^T V first, then a row of it for each q; otherwise Q K^T first, then a column of it for each v. Tokens whose `credit` is
    not above 0 send no bits; their rows of `y` are not computed.
    """
    rows, tokens, channels = q.shape
    width = channels // heads
    inner = np.empty((width, width) if by_values else (tokens, tokens), np.int32)
    filled = np.empty(len(inner), np.int64)
    for m in range(rows):
        steps, bits = np.int64(0), np.int64(0)
        for h in range(heads):
            a, b = h * width, (h + 1) * width
            inner[:] = 0
            if by_values:
                for j in range(tokens):
                    values = v[m, j, a:b]
                    many = np.int32(0)
                    for e in range(width):
                        many += values[e]
                    keys = 0
                    for c in range(width):
                        if k[m, j, a + c]:
                            keys += 1
                            if many:
                                for e in range(width):
                                    inner[c, e] += values[e]
                    steps += keys * many
                    bits += keys + many
            else:
                for i in range(tokens):
                    for c in range(width):
                        bits += k[m, i, a + c] + v[m, i, a + c]
                        if q[m, i, a + c]:
                            for j in range(tokens):
                                inner[i, j] += k[m, j, a + c]
                    for j in range(tokens):
                        steps += inner[i, j]
            for c in range(len(inner)):
                n = 0
                for e in range(inner.shape[1]):
                    n += (inner[c, e] if by_values else inner[e, c]) != 0
                filled[c] = n
            for i in range(tokens):
                lives = not credit.size or credit[m, i] > 0
                out = y[m, i, a:b]
                out[:] = 0
                if by_values:
                    for c in range(width):
                        if q[m, i, a + c]:
                            bits += 1
                            steps += filled[c]
                            if filled[c] and lives:
                                for e in range(width):
                                    out[e] += inner[c, e]
                else:
                    for c in range(width):
                        bits += q[m, i, a + c]
                    for j in range(tokens):
                        if inner[i, j] and lives:
                            for e in range(width):
                                out[e] += inner[i, j] * v[m, j, a + e]
            if not by_values:
                for j in range(tokens):
                    for e in range(width):
                        steps += filled[j] * v[m, j, a + e]
        work[m], arrived[m] = steps, bits


@compiled
def active(x, t, into):  # type: ignore[no-untyped-def]
    """Non-zero values of x [rows, n], added to row ``t - 1`` of `into` int32 [T, n]."""
    for m in range(x.shape[0]):
        row = into[t[m] - 1]
        for c in range(x.shape[1]):
            row[c] += np.int32(x[m, c] != 0)
