"""Compiled event-driven synapses, one output position after the other: add the weights of its events, then update its neurons.

The sums of a position stay in registers and in the first cache; they are not written to memory where neurons follow at once.
`scatter` does the same one source after the other, for groups of channels and for graded events.
"""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled, inlined
from spikegate.kernels.cuba_loops import LANES, alive, update_positions
from spikegate.kernels.lanes import above, address, get, looked_up, rows_added
from spikegate.kernels.scatter import alive_events

UNITS = 8  # largest value that is listed as that number of unit events
FEW = 4  # up to so many channels, a table holds the summed weights of every set of channels, so that a position is one event
BLOCK = 8  # entries of a list that are written or copied at a time
TOGETHER = 1024  # products of small counts and fan-outs whose sum fits 32 bits


@compiled
def listed(x, peak, lists, offsets):
    """Channels with events of x [rows, positions, channels], position after position; a value n is listed n times.

    x holds values 0 to `peak`; `lists` int32 [rows, positions * channels * peak + BLOCK]; those of position p are
    ``lists[row, offsets[row, p] : offsets[row, p + 1]]``, int32 [rows, positions + 1].
    """
    rows, positions, channels = x.shape
    values, own = address(x), address(lists)
    for m in range(rows):
        at, into, found = values + m * positions * channels * 4, own + m * lists.shape[1] * 4, 0
        for p in range(positions):
            offsets[m, p] = found
            more = above(at, channels, 0, into + 4 * found)
            found += more
            k = 1
            while more and k < peak:
                more = above(at, channels, k, into + 4 * found)
                found += more
                k += 1
            at += channels * 4
        offsets[m, positions] = found


@compiled
def coded(x, codes):
    """Bits x [rows, positions, channels] of each position as one number, ``codes`` int32 [rows, positions]; channel c is bit c."""
    for m in range(x.shape[0]):
        for p in range(x.shape[1]):
            code = np.int32(0)
            for c in range(x.shape[2]):
                code |= x[m, p, c] << np.int32(c)
            codes[m, p] = code


@inlined
def fanned(lines, first, last, fans):
    """Sum of the int32 at the address `fans` that the numbers ``lines[first : last]`` name; `lines` is an address of int32, too."""
    total = np.int64(0)
    for i in range(first, last):
        total += np.int64(looked_up(np.uintp(fans + 4 * np.int64(get(np.uintp(lines + 4 * i))))))
    return total


@inlined
def alike(start, weight, x):
    """Whether all positions of x have the same fan-outs, those of the first: one tap joins each of them to one output."""
    return len(weight) == x.shape[2] and start[len(start) - 1] == x.shape[1]


@inlined
def looking_up(events, positions, same):
    """What looking up the fan-outs of so many events takes, in multiplications of an input with its fan-out (measured)."""
    return 2 * events if same else 8 * events + 64 * positions


@inlined
def counted(m, x, lists, offsets, credit, fan, same, whole):
    """Accumulates that the events of row m cause, those at positions whose `credit` is not above 0 left out.

    `same` as of `alike`. `whole`: the lists hold all of x, so that x itself may be read where that is quicker.
    """
    positions, channels = x.shape[1:]
    total = np.int64(0)
    if not offsets.size or (whole and looking_up(offsets[m, positions], positions, same) > positions * channels):
        values = x[m].reshape(positions * channels)
        for begin in range(0, len(values), TOGETHER):
            part, fans, here = values[begin : begin + TOGETHER], fan[begin : begin + TOGETHER], np.int32(0)
            for i in range(len(part)):
                here = np.int32(here + np.int32(part[i] * fans[i]))
            total += here
        if credit.size:
            for p in range(positions):
                if credit[m, p] <= 0 and (not offsets.size or offsets[m, p] < offsets[m, p + 1]):
                    for c in range(channels):
                        total -= x[m, p, c] * fan[p * channels + c]
        return total
    lines, fans = address(lists) + m * lists.shape[1] * 4, address(fan)
    if not same:
        for p in range(positions):
            if not credit.size or credit[m, p] > 0:
                total += fanned(lines, np.int64(offsets[m, p]), np.int64(offsets[m, p + 1]), fans + 4 * p * channels)
        return total
    total = fanned(lines, np.int64(offsets[m, 0]), np.int64(offsets[m, positions]), fans)
    for p in range(positions if credit.size else 0):  # take off those of dead positions, of which few have any
        begin, end = np.int64(offsets[m, p]), np.int64(offsets[m, p + 1])
        if (end - begin) * np.int64(credit[m, p] <= 0) > 0:
            total -= fanned(lines, begin, end, fans)
    return total


@inlined
def room(offsets, start):
    """Scratch for the largest number of events that one output position can receive."""
    taps, most = 0, 1
    for o in range(len(start) - 1):
        taps = max(taps, start[o + 1] - start[o])
    for m in range(len(offsets)):
        for p in range(offsets.shape[1] - 1):
            most = max(most, offsets[m, p + 1] - offsets[m, p])
    return np.empty(taps * most + BLOCK, np.int32)


@compiled
def summed(m, order, first, last, x, lists, offsets, start, source, tap, weight, begin, lines, spare, acc):
    """Weighted sums ``acc`` int32 [last - first, out channels] plus `begin` [lanes] of row m's output positions ``order[first : last]``.

    Other parameters as of `sums`; `lines` and `spare` are scratch. The loop over positions is in here and uses addresses, not
    views: passing arrays to a function costs more than the sums of a position.
    """
    channels, n, lanes = x.shape[2], acc.shape[1], weight.shape[1]
    rows, own, base = address(weight), address(lines), address(begin)
    here, into, apart = address(lists) + m * lists.shape[1] * 4, address(acc), address(spare)
    for i in range(first, last):
        o = order[i]
        to = into + (i - first) * n * 4 if lanes == n else apart
        if not offsets.size:
            found = 0
            for j in range(start[o], start[o + 1]):
                code = lists[m, source[j]]
                lines[found] = (tap[j] << channels) + code
                found += code != 0
            rows_added(to, base, rows, lanes, own, found)
        elif start[o + 1] - start[o] == 1:
            j, p = start[o], source[start[o]]
            rows_added(to, base, rows + 2 * lanes * channels * tap[j], lanes, here + 4 * offsets[m, p], offsets[m, p + 1] - offsets[m, p])
        else:
            some = np.uint64(0)
            for j in range(start[o], start[o + 1]):
                p, offset, k = source[j], np.int32(tap[j] * channels), np.uint64(0)
                begins, count = np.uint64(offsets[m, p]), np.uint64(offsets[m, p + 1] - offsets[m, p])
                while k < count:  # whole blocks; the next block overwrites the surplus
                    for c in range(BLOCK):
                        lines[some + k + np.uint64(c)] = offset + lists[m, begins + k + np.uint64(c)]
                    k += np.uint64(BLOCK)
                some += count
            rows_added(to, base, rows, lanes, own, np.int64(some))
        if lanes != n:
            for c in range(n):
                acc[i - first, c] = spare[c]


@compiled
def sums(x, lists, offsets, credit, fan, events, start, source, tap, weight, acc, synops, arrived):
    """Weighted sums ``acc`` int32 [rows, out positions, out channels]; counts as of `scatter.count`.

    x int32 [rows, positions, channels] of small counts with `lists` and `offsets` from `listed`, or of bits with `lists` from `coded` and
    an empty `offsets`. Output position o is reached from ``source[start[o] : start[o + 1]]`` through the kernel's ``tap``; weight int16
    [taps * channels, lanes], for codes [taps * 2^channels, lanes], `lanes.padded`; fan int32. Where `credit` is not above 0 nothing is
    computed; it is for kernels of one tap, source = target.
    """
    lines, begin, spare = room(offsets, start), np.zeros(weight.shape[1], np.int32), np.empty(weight.shape[1], np.int32)
    order, lives, same = np.arange(acc.shape[1] + 1), acc.shape[1], alike(start, weight, x)
    for m in range(len(x)):
        synops[m], arrived[m] = counted(m, x, lists, offsets, credit, fan, same, False), alive_events(m, events, credit)
        if credit.size:
            lives = alive(m, credit, order)
        summed(m, order, 0, lives, x, lists, offsets, start, source, tap, weight, begin, lines, spare, acc[m])
        for i in range(lives - 1, -1, -1):  # from one after the other to their places
            if order[i] != i:
                for c in range(acc.shape[2]):
                    acc[m, order[i], c] = acc[m, i, c]


@compiled
def spiking(
    x, lists, offsets, credit, fan, events, start, source, tap, weight, u, v, span, bias, i_keep, v_keep, rule, hold, out, tally):
    """`sums`, then the neurons (`spikegate.neurons.cuba.Cuba`), some positions at a time; sums are below 2^17.

    `u` (may be empty) and `v` int32 [samples, neurons]; bias int32 [n]; `i_keep` and `v_keep` as of
    `neuron_lanes.update_voltages`, `rule` of `neurons.cuba.Cuba.rule`; `hold` bool [samples * span] or empty; out int32
    [rows, positions * n]. `tally` int64 [4, rows]: accumulates, arrivals, neurons that fire, living positions.
    Returns 1 if a current wrapped, plus 2 if a voltage was clipped.
    """
    n, flags = len(bias), 0
    positions, together = len(start) - 1, max(1, LANES // n)
    lines, acc = room(offsets, start), np.empty((together, n), np.int32)
    begin, spare = np.zeros(weight.shape[1], np.int32), np.empty(weight.shape[1], np.int32)
    leaks, leaky = np.int32(i_keep), np.int32(v_keep)
    if not u.size:
        begin[:n] = bias
    order, lives, same = np.arange(positions + 1), positions, alike(start, weight, x)
    for m in range(len(x)):
        tally[0, m], tally[1, m] = counted(m, x, lists, offsets, credit, fan, same, True), alive_events(m, events, credit)
        fires = np.int32(0) if hold.size and hold[m] else np.int32(1)
        if credit.size:
            lives = alive(m, credit, order)
            if lives < positions:
                out[m] = 0
        sent = np.int64(0)
        for first in range(0, lives, together):
            last = min(first + together, lives)
            summed(m, order, first, last, x, lists, offsets, start, source, tap, weight, begin, lines, spare, acc)
            some, found = update_positions(
                m, m // span, order, first, last, True, acc, np.int32(0), u, v, bias, leaks, leaky, rule, fires, out
            )
            sent += some
            flags |= found
        tally[2, m], tally[3, m] = sent, lives
    return flags
