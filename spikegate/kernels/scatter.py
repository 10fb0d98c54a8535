"""Compiled event-driven synapses, one source after the other: groups of channels and graded events; sums of several sources.

An event touches only the synapses that it reaches. Bits and small counts of a layer without groups go through `gather`.
"""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled
from spikegate.kernels.lanes import address, occupied


@compiled
def ends(x):
    """Largest and least of the values of x and 0, and their sum."""
    flat, high, low, units = x.reshape(x.size), np.int32(0), np.int32(0), np.int64(0)
    for i in range(len(flat)):
        high, low = max(high, flat[i]), min(low, flat[i])
        units += flat[i]
    return np.int64(high), np.int64(low), units


@compiled
def first(x, events):
    """Non-zero values at each position of x [rows, positions, channels] into `events`; returns their number and `ends` of x."""
    found, at, (rows, positions, channels) = 0, address(x), x.shape
    for m in range(rows):
        for p in range(positions):
            here = occupied(at + (m * positions + p) * channels * 4, channels)
            events[m, p] = here
            found += here
    high, low, units = ends(x)
    return found, high, low, units


@compiled
def added(a, b, total, events):
    """``total = a + b``, and b's non-zero values added to `events`; returns how many they are and `ends` of the total."""
    found, at, (rows, positions, channels) = 0, address(b), b.shape
    for m in range(rows):
        for p in range(positions):
            here = occupied(at + (m * positions + p) * channels * 4, channels)
            events[m, p] += here
            found += here
    left, right, into = a.reshape(a.size), b.reshape(b.size), total.reshape(total.size)
    for i in range(len(into)):
        into[i] = left[i] + right[i]
    high, low, units = ends(total)
    return found, high, low, units


@compiled
def alive_events(m, events, credit):
    """Events of row m at positions whose `credit` is above 0 (all, if it is empty); events, credit [rows, positions]."""
    total = np.int32(0)
    if not credit.size:
        for p in range(events.shape[1]):
            total += events[m, p]
    else:
        for p in range(events.shape[1]):
            total += events[m, p] if credit[m, p] > 0 else np.int32(0)
    return np.int64(total)


@compiled
def count(x, credit, fan, events, synops, arrived):
    """Accumulates that x [rows, positions, channels] causes, ``|x| . fan``, and events that arrive, both without dead positions."""
    rows, positions, channels = x.shape
    for m in range(rows):
        total = np.int64(0)
        for p in range(positions):
            if not credit.size or credit[m, p] > 0:
                for c in range(channels):
                    total += abs(np.int64(x[m, p, c])) * fan[p * channels + c]
        synops[m] = total
        arrived[m] = alive_events(m, events, credit)


@compiled
def scatter(x, credit, fan, events, start, target, tap, weight, per, acc, synops, arrived):
    """Weighted sums ``acc`` int32 [rows, out positions, out channels] of the events x int32 [rows, positions, channels]; counts as `count`.

    Position p reaches ``target[start[p] : start[p + 1]]`` through the kernel's ``tap``; weight int16 [taps, channels, outputs of a group],
    `per` channels to a group. Positions whose `credit` is not above 0 are left out.
    """
    rows, positions, channels = x.shape
    each = weight.shape[2]
    lines = np.empty(channels + 1, np.int64)
    for m in range(rows):
        acc[m] = 0
        total = np.int64(0)
        for p in range(positions):
            if credit.size and credit[m, p] <= 0:
                continue
            found = 0
            for c in range(channels):
                lines[found] = c
                found += x[m, p, c] != 0
            for i in range(found):
                total += abs(np.int64(x[m, p, lines[i]])) * fan[p * channels + lines[i]]
            for j in range(start[p], start[p + 1] if found else start[p]):
                into, rows_of = acc[m, target[j]], weight[tap[j]]
                for i in range(found):
                    c = lines[i]
                    value, line, at = x[m, p, c], rows_of[c], (c // per) * each
                    for k in range(each):
                        into[at + k] += value * np.int32(line[k])
        synops[m] = total
        arrived[m] = alive_events(m, events, credit)
