"""The table of `spikegate.engine.program` in compiled code: row by row, with the kernels that the ops' own `advance` uses.

A row that meets what it is not for (many inputs active, large or negative values) stops the walk; the caller runs that op and goes on.
"""

from __future__ import annotations

import numpy as np

from spikegate.kernels import coincidences, cuba_loops, gate_loops, gather
from spikegate.kernels.compiling import compiled
from spikegate.kernels.counters import COUNTERS
from spikegate.kernels.instructions import (
    ACTIVITY,
    ARGS,
    ATTEND,
    BIAS,
    CREDIT,
    EVENTS,
    EXIT,
    FIRE,
    GATE,
    I_KEEP,
    KIND,
    LADDER,
    NARROW,
    NUMBER,
    OP,
    OUT,
    OUTPUTS,
    READ,
    REPLAY,
    SIZE,
    SWEEP,
    SYNAPSES,
    TARGETS,
    THETA,
    TOKENS,
    V_KEEP,
    WIDE,
    U,
    V,
    alive,
    block,
    few,
    lists,
    plane,
    total,
    wires,
)
from spikegate.kernels.lanes import address, occupied

SPIKE_IN, SYNOP, ATTENTION, UPDATE, GATE_UPDATE, SPIKE_OUT = (
    COUNTERS.index(c) for c in ("spike_in", "synop", "attention_ac", "neuron_update", "gate_update", "spike_out")
)


@compiled
def fire(row, rows, span, words, scratch, state, w16, w32, w64, merges, links, facts, events, flags):  # type: ignore[no-untyped-def]
    """`gather.spiking`: synapses from column ARGS, then neurons."""
    k, n, channels = row[ARGS], ARGS + SYNAPSES, row[ARGS + OUTPUTS]
    x = total(k, rows, merges, links, words, scratch, facts)
    if not few(row, ARGS, rows, NARROW, merges, facts):
        return False
    found, marks = lists(k, rows, merges, x, scratch, facts)
    fan, start, source, tap, weight = wires(row, ARGS, w16, w32, w64, x.shape[1] * x.shape[2])
    credit, size, slots = plane(words, row[CREDIT], rows, row[TOKENS]), row[SIZE], rows // span
    came = plane(scratch, merges[k, EVENTS], rows, x.shape[1])
    u, v = plane(state, row[n + U], slots, size), plane(state, row[n + V], slots, size)
    bias, none, tally = w32[row[n + BIAS] : row[n + BIAS] + channels], np.empty(0, np.bool_), np.empty((4, rows), np.int64)
    out = plane(words, row[OUT], rows, size)
    i_keep, v_keep, theta = row[n + I_KEEP], row[n + V_KEEP], row[n + THETA]
    flags[row[OP]] = gather.spiking(
        x, found, marks, credit, fan, came, start, source, tap, weight, u, v, span, bias, i_keep, v_keep, theta, none, out, tally
    )
    booked = events[row[OP]]
    for m in range(rows):
        booked[SYNOP, m], booked[SPIKE_IN, m], booked[SPIKE_OUT, m] = tally[0, m], tally[1, m], tally[2, m]
        booked[UPDATE, m] = tally[3, m] * channels
    return True


@compiled
def neurons(row, n, rows, span, current, credit, words, state, w32, flags, fired):  # type: ignore[no-untyped-def]
    """`cuba_loops.swept` with the neurons in columns n .. of a row; False where a sum is too large."""
    slots, out = rows // span, block(words, row[OUT], rows, current.shape[1], current.shape[2])
    u = block(state, row[n + U], slots, current.shape[1], current.shape[2])
    v, none = block(state, row[n + V], slots, current.shape[1], current.shape[2]), np.empty(0, np.bool_)
    bias = w32[row[n + BIAS] : row[n + BIAS] + current.shape[2]]
    said = cuba_loops.swept(current, credit, u, v, span, bias, row[n + I_KEEP], row[n + V_KEEP], row[n + THETA], none, out, fired)
    flags[row[OP]] = said & 3
    return said != 4


@compiled
def attend(row, rows, span, words, scratch, state, w32, events, flags):  # type: ignore[no-untyped-def]
    """`spiking_attention`: q, k, v, scratch, tokens, channels, heads, order, exponent; then neurons."""
    tokens, channels = row[ARGS + 4], row[ARGS + 5]
    q, k = block(words, row[ARGS], rows, tokens, channels), block(words, row[ARGS + 1], rows, tokens, channels)
    v = block(words, row[ARGS + 2], rows, tokens, channels)
    y, credit = block(scratch, row[ARGS + 3], rows, tokens, channels), plane(words, row[CREDIT], rows, row[TOKENS])
    booked = events[row[OP]]
    coincidences.attention(q, k, v, credit, row[ARGS + 6], row[ARGS + 7] == 1, y, booked[ATTENTION], booked[SPIKE_IN])
    n, size, out = ARGS + 9, row[SIZE], plane(words, row[OUT], rows, row[SIZE])
    u, v = plane(state, row[n + U], rows // span, size), plane(state, row[n + V], rows // span, size)
    bias, leaks, leaky, theta = w32[row[n + BIAS] : row[n + BIAS] + channels], row[n + I_KEEP], row[n + V_KEEP], row[n + THETA]
    order, lives = np.arange(tokens + 1), tokens
    for m in range(rows):
        if credit.size:
            lives = cuba_loops.alive(m, credit, order)
            if lives < tokens:
                out[m] = 0
        booked[UPDATE, m] = lives * channels
        if lives:
            booked[SPIKE_OUT, m], said = cuba_loops.settled(
                m, m // span, order, 0, lives, False, y[m], np.int32(row[ARGS + 8]), u, v, bias, np.int32(leaks), np.int32(leaky),
                np.int32(theta), np.int32(1), out,
            )  # fmt: skip
            flags[row[OP]] |= said


@compiled
def gate(row, rows, words, w32, links, events):  # type: ignore[no-untyped-def]
    """`token_gate`: link, sources, channels, first channel, width, table, its length; the credit before is CREDIT."""
    tokens, channels, booked = row[TOKENS], row[ARGS + 2], events[row[OP]]
    credit, out = plane(words, row[CREDIT], rows, tokens), plane(words, row[OUT], rows, tokens)
    n = np.zeros((rows, tokens), np.int64)
    for i in range(row[ARGS + 1]):
        x = block(words, links[row[ARGS] + i], rows, tokens, channels)
        gate_loops.halting(x, credit, row[ARGS + 3], row[ARGS + 4], n, booked[SPIKE_IN], booked[SYNOP])
    gate_loops.spent(credit, n, w32[row[ARGS + 5] : row[ARGS + 5] + row[ARGS + 6]], out, booked[GATE_UPDATE], booked[SPIKE_OUT])
    for m in range(rows):
        booked[SPIKE_IN, m] += booked[GATE_UPDATE, m]


@compiled
def replay(row, rows, span, t, words, scratch, state, merges, links, facts, events):  # type: ignore[no-untyped-def]
    """`inject`: merge, positions, channels, state."""
    positions, channels, booked = row[ARGS + 1], row[ARGS + 2], events[row[OP]]
    held, credit = block(state, row[ARGS + 3], rows // span, positions, channels), plane(words, row[CREDIT], rows, row[TOKENS])
    for m in range(rows):
        if t[m] == 1:
            x = total(row[ARGS], rows, merges, links, words, scratch, facts)
            came = plane(scratch, merges[row[ARGS], EVENTS], rows, positions)
            held[m // span] = x[m]
            booked[SPIKE_IN, m] = booked[SYNOP, m] = came[m].sum()
        booked[UPDATE, m] = alive(credit, m, positions) * channels
    gate_loops.replayed(held, span, credit, block(words, row[OUT], rows, positions, channels), booked[SPIKE_OUT])


@compiled
def ladder(row, rows, t, words, scratch, w16, w32, w64, merges, links, facts, events):  # type: ignore[no-untyped-def]
    """`level_conv`: synapses, then bias, theta, levels. Rows beyond the first timestep send nothing."""
    k, n, a, booked = row[ARGS], row[ARGS + OUTPUTS], ARGS + SYNAPSES, events[row[OP]]
    out = block(words, row[OUT], rows, row[ARGS + TARGETS], n)
    out[:] = 0
    begins = False
    for m in range(rows):
        begins |= t[m] == 1
    if not begins:
        return True
    x = total(k, rows, merges, links, words, scratch, facts)
    if not few(row, ARGS, rows, WIDE, merges, facts):
        return False
    found, marks = lists(k, rows, merges, x, scratch, facts)
    fan, start, source, tap, weight = wires(row, ARGS, w16, w32, w64, x.shape[1] * x.shape[2])
    came, none = plane(scratch, merges[k, EVENTS], rows, x.shape[1]), np.empty((0, 0), np.int32)
    bias = w32[row[a] : row[a] + n]
    for m in range(rows):
        if t[m] == 1:
            acc, one = np.empty((1, *out.shape[1:]), np.int32), slice(m, m + 1)
            some = marks[one] if marks.size else marks
            gather.sums(x[one], found[one], some, none, fan, came[one], start, source, tap, weight, acc, booked[SYNOP][one],
                        booked[SPIKE_IN][one])  # fmt: skip
            gate_loops.ladder(acc, bias, row[a + 1], row[a + 2], out[one])
            booked[UPDATE, m] = out.shape[1] * n
            booked[SPIKE_OUT, m] = occupied(address(out) + m * row[SIZE] * 4, row[SIZE])
    return True


@compiled
def read(row, rows, span, t, words, scratch, state, w16, w32, w64, merges, links, facts, events):  # type: ignore[no-untyped-def]
    """`readout`: synapses, then z, held, bias, timesteps, credit before, after, channels of a token, scratch of a list."""
    k, n, booked, a = row[ARGS], row[ARGS + OUTPUTS], events[row[OP]], ARGS + SYNAPSES
    x = total(k, rows, merges, links, words, scratch, facts)
    if not few(row, ARGS, rows, WIDE, merges, facts):
        return False
    found, marks = lists(k, rows, merges, x, scratch, facts)
    inputs = x.shape[2]
    fan, start, source, tap, weight = wires(row, ARGS, w16, w32, w64, inputs)
    none, came = np.empty((0, 0), np.int32), plane(scratch, merges[k, EVENTS], rows, 1)
    now, more = np.empty((rows, 1, n), np.int32), np.empty((0, n), np.int32)
    gather.sums(x, found, marks, none, fan, came, start, source, tap, weight, now, booked[SYNOP], booked[SPIKE_IN])
    before, after = plane(words, row[a + 4], rows, row[TOKENS]), plane(words, row[a + 5], rows, row[TOKENS])
    if after.size:
        died = np.empty(before.shape, np.bool_)
        if gate_loops.deaths(before, after, died):
            listed, ends = plane(scratch, row[a + 7], rows, found.shape[1]), np.zeros((rows, 2), np.int32)
            token = np.arange(inputs) // row[a + 6]
            for m in range(rows):
                dead = 0
                for i in range(marks[m, 1]):  # events of tokens that die now
                    listed[m, dead] = found[m, i]
                    dead += died[m, token[found[m, i]]]
                ends[m, 1] = dead
            sums, unused = np.empty((rows, 1, n), np.int32), np.empty(rows, np.int64)
            gather.sums(x, listed, ends, none, fan, came, start, source, tap, weight, sums, booked[GATE_UPDATE], unused)
            more = sums[:, 0].copy()
    slots, out = rows // span, plane(words, row[OUT], rows, n)
    z, held, bias = plane(state, row[a], slots, n), plane(state, row[a + 1], slots, n), w32[row[a + 2] : row[a + 2] + n]
    gate_loops.class_sums(now[:, 0].copy(), more, before, after, z, held, bias, row[a + 3], t, out, booked[GATE_UPDATE])
    for m in range(rows):
        booked[UPDATE, m] = booked[SPIKE_OUT, m] = n
    return True


@compiled
def leave(row, rows, t, words, w64, events):  # type: ignore[no-untyped-def]
    """`exit_gate`: logits, classes, timesteps, margins, their number."""
    classes, booked = row[ARGS + 1], events[row[OP]]
    margin, credit = w64[row[ARGS + 3] : row[ARGS + 3] + row[ARGS + 4]], plane(words, row[CREDIT], rows, row[TOKENS])
    out = plane(words, row[OUT], rows, 2)
    gate_loops.leading(plane(words, row[ARGS], rows, classes), credit, margin, t, row[ARGS + 2], out)
    for m in range(rows):
        booked[SPIKE_IN, m], booked[GATE_UPDATE, m], booked[SPIKE_OUT, m] = classes, 1, 1


@compiled
def sweep(row, rows, span, words, scratch, state, w32, merges, links, facts, events, flags):  # type: ignore[no-untyped-def]
    """`lif`: merge, then neurons."""
    k, booked = row[ARGS], events[row[OP]]
    x = total(k, rows, merges, links, words, scratch, facts)
    came = plane(scratch, merges[k, EVENTS], rows, x.shape[1])
    for m in range(rows):
        booked[SPIKE_IN, m] = booked[SYNOP, m] = came[m].sum()
        booked[UPDATE, m] = row[SIZE]
    none = np.empty((0, 0), np.int32)
    return neurons(row, ARGS + 1, rows, span, x, none, words, state, w32, flags, booked[SPIKE_OUT])


@compiled
def walk(  # type: ignore[no-untyped-def]
    table, begin, rows, span, t, words, scratch, state, w16, w32, w64, merges, links, facts, events, flags, activity, cell):
    """The rows of the table from `begin` on; returns the first one that was not done, or the length of the table.

    `cell` holds the graph's number of the op at work; `activity` (may be empty) counts neurons that send, by timestep.
    """
    for i in range(begin, len(table)):
        row = table[i]
        kind, done = row[KIND], True
        cell[0] = row[NUMBER]
        if kind == FIRE:
            done = fire(row, rows, span, words, scratch, state, w16, w32, w64, merges, links, facts, events, flags)
        elif kind == ATTEND:
            attend(row, rows, span, words, scratch, state, w32, events, flags)
        elif kind == GATE:
            gate(row, rows, words, w32, links, events)
        elif kind == REPLAY:
            replay(row, rows, span, t, words, scratch, state, merges, links, facts, events)
        elif kind == LADDER:
            done = ladder(row, rows, t, words, scratch, w16, w32, w64, merges, links, facts, events)
        elif kind == READ:
            done = read(row, rows, span, t, words, scratch, state, w16, w32, w64, merges, links, facts, events)
        elif kind == EXIT:
            leave(row, rows, t, words, w64, events)
        elif kind == SWEEP:
            done = sweep(row, rows, span, words, scratch, state, w32, merges, links, facts, events, flags)
        else:
            done = False
        if not done:
            return i
        if activity.size:
            out, n = plane(words, row[OUT], rows, row[SIZE]), row[SIZE]
            for m in range(rows):
                into = activity[row[ACTIVITY] + (t[m] - 1) * n : row[ACTIVITY] + t[m] * n]
                for c in range(n):
                    into[c] += np.int32(out[m, c] != 0)
    return len(table)
