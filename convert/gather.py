"""Compiled event-driven work, target by target: each output position takes the weights of the events that reach it, then its neurons.

The sums of a position stay in registers and the first cache, and need not be written where neurons follow at once. `scatter` does the
same source by source, for groups of channels and for graded events.
"""

from __future__ import annotations

import numpy as np

from convert.compiling import compiled, inlined
from convert.cuba_kernels import LANES, settled
from convert.lanes import address, nonzeros, rows_added
from convert.scatter import living

UNITS = 8  # largest value that is listed as so many events
FEW = 4  # up to so many channels, the weights of every set of them are added up before, so that a position is one event
BLOCK = 8  # entries of a list that are copied at a time


@compiled
def listed(x, peak, lists, many):  # type: ignore[no-untyped-def]
    """Channels with events at each position of x [rows, positions, channels], a value n named n times; `many` of them.

    x holds values 0 to `peak`; `lists` int32 [rows, positions, channels * peak + BLOCK].
    """
    rows, positions, channels = x.shape
    values, own, each = address(x), address(lists), lists.shape[2] * 4
    for m in range(rows):
        for p in range(positions):
            r = m * positions + p
            found = nonzeros(values + r * channels * 4, channels, own + r * each)
            many[m, p] = found
    if peak < 2:
        return
    for m in range(rows):
        for p in range(positions):
            at, into, more = x[m, p], lists[m, p], many[m, p]
            for i in range(many[m, p]):
                for _ in range(at[into[i]] - 1):
                    into[more] = into[i]
                    more += 1
            many[m, p] = more


@compiled
def coded(x, codes):  # type: ignore[no-untyped-def]
    """Bits x [rows, positions, channels] of each position as one number, ``codes`` int32 [rows, positions, 1]; channel c is bit c."""
    for m in range(x.shape[0]):
        for p in range(x.shape[1]):
            code = np.int32(0)
            for c in range(x.shape[2]):
                code |= x[m, p, c] << np.int32(c)
            codes[m, p, 0] = code


@inlined
def counted(m, x, lists, many, credit, fan, whole):  # type: ignore[no-untyped-def]
    """Accumulates that the events of row m cause, those at positions whose `credit` is not above 0 left out.

    `whole`: the lists hold all of x, so that x itself may be read where that is quicker.
    """
    positions, channels = x.shape[1:]
    total = np.int64(0)
    for p in range(positions):
        if credit.size and credit[m, p] <= 0:
            continue
        fans, here = fan[p * channels : (p + 1) * channels], np.int32(0)
        if many.size and not (whole and 16 * many[m, p] > channels):
            at = lists[m, p]
            for i in range(many[m, p]):
                here += fans[at[i]]
        else:
            values = x[m, p]
            for c in range(channels):
                here += values[c] * fans[c]
        total += here
    return total


@inlined
def room(lists, start):  # type: ignore[no-untyped-def]
    """Space for all events that one output position can get."""
    taps = 0
    for o in range(len(start) - 1):
        taps = max(taps, start[o + 1] - start[o])
    return np.empty(taps * lists.shape[2] + BLOCK, np.int32)


@compiled
def summed(m, first, last, x, lists, many, credit, start, source, tap, weight, begin, lines, spare, acc):  # type: ignore[no-untyped-def]
    """Weighted sums ``acc`` int32 [last - first, out channels] plus `begin` [lanes] of output positions of row m; parameters as of `sums`.

    `lines` and `spare` are scratch. Returns how many positions live. (A loop over positions in here, and addresses instead of views:
    handing arrays to a function costs more than the sums of a position.)
    """
    channels, n, lanes, each = x.shape[2], acc.shape[1], weight.shape[1], lists.shape[2] * 4
    rows, own, base = address(weight), address(lines), address(begin)
    own_lists, into, apart = address(lists) + m * lists.shape[1] * each, address(acc), address(spare)
    lives = 0
    for o in range(first, last):
        if credit.size and credit[m, o] <= 0:
            continue
        lives += 1
        to = into + (o - first) * n * 4 if lanes == n else apart
        if not many.size:
            found = 0
            for j in range(start[o], start[o + 1]):
                code = lists[m, source[j], 0]
                lines[found] = (tap[j] << channels) + code
                found += code != 0
            rows_added(to, base, rows, lanes, own, found)
        elif start[o + 1] - start[o] == 1:
            j = start[o]
            rows_added(to, base, rows + 2 * lanes * channels * tap[j], lanes, own_lists + source[j] * each, many[m, source[j]])
        else:
            some = np.uint64(0)
            for j in range(start[o], start[o + 1]):
                p, offset, k = source[j], np.int32(tap[j] * channels), np.uint64(0)
                listed, count = lists[m, p], np.uint64(many[m, p])
                while k < count:  # whole blocks, what is too much is overwritten
                    for i in range(BLOCK):
                        lines[some + k + np.uint64(i)] = offset + listed[k + np.uint64(i)]
                    k += np.uint64(BLOCK)
                some += count
            rows_added(to, base, rows, lanes, own, np.int64(some))
        if lanes != n:
            for c in range(n):
                acc[o - first, c] = spare[c]
    return lives


@compiled
def sums(x, lists, many, credit, fan, events, start, source, tap, weight, acc, synops, arrived):  # type: ignore[no-untyped-def]
    """Weighted sums ``acc`` int32 [rows, out positions, out channels]; counts as of `scatter.count`.

    x int32 [rows, positions, channels] of small counts with `lists` and `many` from `listed`, or of bits with `lists` from `coded` and an
    empty `many`. Output position o is reached from ``source[start[o] : start[o + 1]]`` through the kernel's ``tap``; weight int16
    [taps * channels, lanes], for codes [taps * 2^channels, lanes], `lanes.padded`; fan int32. Where `credit` is not above 0 nothing is
    computed; it is for kernels of one tap, source = target.
    """
    lines, begin, spare = room(lists, start), np.zeros(weight.shape[1], np.int32), np.empty(weight.shape[1], np.int32)
    for m in range(len(x)):
        synops[m], arrived[m] = counted(m, x, lists, many, credit, fan, False), living(m, events, credit)
        summed(m, 0, acc.shape[1], x, lists, many, credit, start, source, tap, weight, begin, lines, spare, acc[m])


@compiled
def spiking(  # type: ignore[no-untyped-def]
    x, lists, many, credit, fan, events, start, source, tap, weight, u, v, span, bias, i_keep, v_keep, theta, hold, out, tally):
    """`sums`, then the neurons (`convert.neuron.Cuba`), some positions at a time; sums are below 2^17.

    `u` (may be empty) and `v` int32 [samples, neurons]; bias int32 [n]; `i_keep` and `v_keep` as of `cuba_kernels.fired`; `hold` bool
    [samples * span] or empty; out int32 [rows, positions * n]. `tally` int64 [4, rows]: accumulates, arrivals, spikes, living positions.
    Returns 1 if a current wrapped, plus 2 if a voltage was clipped.
    """
    n, flags = len(bias), 0
    positions, together = len(start) - 1, max(1, LANES // n)
    lines, acc = room(lists, start), np.empty((together, n), np.int32)
    begin, spare = np.zeros(weight.shape[1], np.int32), np.empty(weight.shape[1], np.int32)
    leaks, leaky, bound = np.int32(i_keep), np.int32(v_keep), np.int32(theta)
    if not u.size:
        begin[:n] = bias
    for m in range(len(x)):
        tally[0, m], tally[1, m] = counted(m, x, lists, many, credit, fan, True), living(m, events, credit)
        fires = np.int32(0) if hold.size and hold[m] else np.int32(1)
        sent, updates = np.int64(0), np.int64(0)
        for first in range(0, positions, together):
            last = min(first + together, positions)
            updates += summed(m, first, last, x, lists, many, credit, start, source, tap, weight, begin, lines, spare, acc)
            some, found = settled(m, m // span, first, last, acc, np.int32(0), u, v, bias, leaks, leaky, bound, fires, credit, out)
            sent += some
            flags |= found
        tally[2, m], tally[3, m] = sent, updates
    return flags
