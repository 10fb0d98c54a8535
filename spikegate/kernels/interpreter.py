"""Interpreter of the instruction table of `spikegate.engine.program`, with the kernels that the ops' own `advance` uses.

An instruction that cannot handle its inputs (many active, large or negative values) stops the interpreter; the caller runs that op by
its own `advance` and continues with the next instruction.
"""

from __future__ import annotations

import numpy as np

from spikegate.kernels import coincidences, counting, cuba_loops, gate_loops, gather
from spikegate.kernels.compiling import compiled
from spikegate.kernels.counters import COUNTERS
from spikegate.kernels.instructions import (
    ACTIVITY,
    ARGS,
    ATTEND,
    BIAS,
    BIASED,
    CREDIT,
    EVENTS,
    EXIT,
    FIRE,
    GATE,
    I_KEEP,
    KIND,
    LEVELS,
    LIF,
    NARROW,
    NUMBER,
    OP,
    OUT,
    OUTPUTS,
    READ,
    REPLAY,
    SIZE,
    STEP,
    SYNAPSES,
    TARGETS,
    THETA,
    THRESHOLDS,
    TOKENS,
    V_KEEP,
    WIDE,
    U,
    V,
    alive,
    event_lists,
    is_sparse,
    matrix,
    synapse_arrays,
    tensor,
    total,
)
from spikegate.kernels.lanes import address, occupied

SPIKE_IN, SYNOP, ATTENTION, UPDATE, GATE_UPDATE, SPIKE_OUT = (
    COUNTERS.index(c) for c in ("spike_in", "synop", "attention_ac", "neuron_update", "gate_update", "spike_out")
)


@compiled
def fire(row, rows, span, words, scratch, state, w16, w32, w64, merges, links, merge_stats, events, flags):
    """`gather.spiking`: synapses from column ARGS, then neurons."""
    k, n, channels = row[ARGS], ARGS + SYNAPSES, row[ARGS + OUTPUTS]
    x = total(k, rows, merges, links, words, scratch, merge_stats)
    if not is_sparse(row, ARGS, rows, NARROW, merges, merge_stats):
        return False
    found, offsets = event_lists(k, rows, merges, x, scratch, merge_stats)
    fan, start, source, tap, weight = synapse_arrays(row, ARGS, w16, w32, w64, x.shape[1] * x.shape[2])
    credit, size, slots = matrix(words, row[CREDIT], rows, row[TOKENS]), row[SIZE], rows // span
    came = matrix(scratch, merges[k, EVENTS], rows, x.shape[1])
    u, v = matrix(state, row[n + U], slots, size), matrix(state, row[n + V], slots, size)
    bias, none, tally = w32[row[n + BIAS] : row[n + BIAS] + channels], np.empty(0, np.bool_), np.empty((4, rows), np.int64)
    out = matrix(words, row[OUT], rows, size)
    i_keep, v_keep, rule = row[n + I_KEEP], row[n + V_KEEP], (row[n + THETA], row[n + STEP], row[n + LEVELS])
    flags[row[OP]] = gather.spiking(
        x, found, offsets, credit, fan, came, start, source, tap, weight, u, v, span, bias, i_keep, v_keep, rule, none, out, tally
    )
    counts = events[row[OP]]
    for m in range(rows):
        counts[SYNOP, m], counts[SPIKE_IN, m], counts[SPIKE_OUT, m] = tally[0, m], tally[1, m], tally[2, m]
        counts[UPDATE, m] = tally[3, m] * channels
    return True


@compiled
def update_neurons(row, n, rows, span, current, credit, words, state, w32, flags, fired):
    """`cuba_loops.update_all` with the neurons in columns n .. of a row; False where a sum is too large."""
    slots, out = rows // span, tensor(words, row[OUT], rows, current.shape[1], current.shape[2])
    u = tensor(state, row[n + U], slots, current.shape[1], current.shape[2])
    v, none = tensor(state, row[n + V], slots, current.shape[1], current.shape[2]), np.empty(0, np.bool_)
    bias = w32[row[n + BIAS] : row[n + BIAS] + current.shape[2]]
    rule = row[n + THETA], row[n + STEP], row[n + LEVELS]
    flag = cuba_loops.update_all(current, credit, u, v, span, bias, row[n + I_KEEP], row[n + V_KEEP], rule, none, out, fired)
    flags[row[OP]] = flag & 3
    return flag != 4


@compiled
def attend(row, rows, span, words, scratch, state, w32, events, flags):
    """`spiking_attention`: q, k, v, scratch, tokens, channels, heads, order, exponent; then neurons."""
    tokens, channels = row[ARGS + 4], row[ARGS + 5]
    q, k = tensor(words, row[ARGS], rows, tokens, channels), tensor(words, row[ARGS + 1], rows, tokens, channels)
    v = tensor(words, row[ARGS + 2], rows, tokens, channels)
    y, credit = tensor(scratch, row[ARGS + 3], rows, tokens, channels), matrix(words, row[CREDIT], rows, row[TOKENS])
    counts = events[row[OP]]
    coincidences.attention(q, k, v, credit, row[ARGS + 6], row[ARGS + 7] == 1, y, counts[ATTENTION], counts[SPIKE_IN])
    n, size, out = ARGS + 9, row[SIZE], matrix(words, row[OUT], rows, row[SIZE])
    u, v = matrix(state, row[n + U], rows // span, size), matrix(state, row[n + V], rows // span, size)
    bias, leaks, leaky = w32[row[n + BIAS] : row[n + BIAS] + channels], row[n + I_KEEP], row[n + V_KEEP]
    rule = row[n + THETA], row[n + STEP], row[n + LEVELS]
    order, lives = np.arange(tokens + 1), tokens
    for m in range(rows):
        if credit.size:
            lives = cuba_loops.alive(m, credit, order)
            if lives < tokens:
                out[m] = 0
        counts[UPDATE, m] = lives * channels
        if lives:
            counts[SPIKE_OUT, m], flag = cuba_loops.update_positions(
                m, m // span, order, 0, lives, False, y[m], np.int32(row[ARGS + 8]), u, v, bias, np.int32(leaks), np.int32(leaky),
                rule, np.int32(1), out,
            )  # fmt: skip
            flags[row[OP]] |= flag


@compiled
def gate(row, rows, words, w32, links, events):
    """`token_gate`: link, sources, channels, first channel, width, table, its length; the credit before is CREDIT."""
    tokens, channels, counts = row[TOKENS], row[ARGS + 2], events[row[OP]]
    credit, out = matrix(words, row[CREDIT], rows, tokens), matrix(words, row[OUT], rows, tokens)
    n = np.zeros((rows, tokens), np.int64)
    for i in range(row[ARGS + 1]):
        x = tensor(words, links[row[ARGS] + i], rows, tokens, channels)
        gate_loops.halting(x, credit, row[ARGS + 3], row[ARGS + 4], n, counts[SPIKE_IN], counts[SYNOP])
    gate_loops.spent(credit, n, w32[row[ARGS + 5] : row[ARGS + 5] + row[ARGS + 6]], out, counts[GATE_UPDATE], counts[SPIKE_OUT])
    for m in range(rows):
        counts[SPIKE_IN, m] += counts[GATE_UPDATE, m]


@compiled
def replay(row, rows, span, t, words, scratch, state, merges, links, merge_stats, events):
    """`inject`: merge, positions, channels, state."""
    positions, channels, counts = row[ARGS + 1], row[ARGS + 2], events[row[OP]]
    held, credit = tensor(state, row[ARGS + 3], rows // span, positions, channels), matrix(words, row[CREDIT], rows, row[TOKENS])
    for m in range(rows):
        if t[m] == 1:
            x = total(row[ARGS], rows, merges, links, words, scratch, merge_stats)
            came = matrix(scratch, merges[row[ARGS], EVENTS], rows, positions)
            held[m // span] = x[m]
            counts[SPIKE_IN, m] = counts[SYNOP, m] = came[m].sum()
        counts[UPDATE, m] = alive(credit, m, positions) * channels
    gate_loops.replayed(held, span, credit, tensor(words, row[OUT], rows, positions, channels), counts[SPIKE_OUT])


@compiled
def thresholds(row, rows, t, words, scratch, w16, w32, w64, merges, links, merge_stats, events):
    """`level_conv`: synapses, then bias, theta, levels. Rows beyond the first timestep send nothing."""
    k, n, a, counts = row[ARGS], row[ARGS + OUTPUTS], ARGS + SYNAPSES, events[row[OP]]
    out = tensor(words, row[OUT], rows, row[ARGS + TARGETS], n)
    out[:] = 0
    if not (t[:rows] == 1).any():
        return True
    x = total(k, rows, merges, links, words, scratch, merge_stats)
    if not is_sparse(row, ARGS, rows, WIDE, merges, merge_stats):
        return False
    found, offsets = event_lists(k, rows, merges, x, scratch, merge_stats)
    fan, start, source, tap, weight = synapse_arrays(row, ARGS, w16, w32, w64, x.shape[1] * x.shape[2])
    came, none = matrix(scratch, merges[k, EVENTS], rows, x.shape[1]), np.empty((0, 0), np.int32)
    bias = w32[row[a] : row[a] + n]
    for m in range(rows):
        if t[m] == 1:
            acc, one = np.empty((1, *out.shape[1:]), np.int32), slice(m, m + 1)
            some = offsets[one] if offsets.size else offsets
            gather.sums(x[one], found[one], some, none, fan, came[one], start, source, tap, weight, acc, counts[SYNOP][one],
                        counts[SPIKE_IN][one])  # fmt: skip
            gate_loops.multi_level(acc, bias, row[a + 1], row[a + 2], out[one])
            counts[UPDATE, m] = out.shape[1] * n
            counts[SPIKE_OUT, m] = occupied(address(out) + m * row[SIZE] * 4, row[SIZE])
    return True


@compiled
def read(row, rows, span, t, words, scratch, state, w16, w32, w64, merges, links, merge_stats, events):
    """`readout`: synapses, then z, held, bias, timesteps, credit before, after, channels of a token, scratch of a list."""
    k, n, counts, a = row[ARGS], row[ARGS + OUTPUTS], events[row[OP]], ARGS + SYNAPSES
    x = total(k, rows, merges, links, words, scratch, merge_stats)
    if not is_sparse(row, ARGS, rows, WIDE, merges, merge_stats):
        return False
    found, offsets = event_lists(k, rows, merges, x, scratch, merge_stats)
    inputs = x.shape[2]
    fan, start, source, tap, weight = synapse_arrays(row, ARGS, w16, w32, w64, inputs)
    none, came = np.empty((0, 0), np.int32), matrix(scratch, merges[k, EVENTS], rows, 1)
    now, more = np.empty((rows, 1, n), np.int32), np.empty((0, n), np.int32)
    gather.sums(x, found, offsets, none, fan, came, start, source, tap, weight, now, counts[SYNOP], counts[SPIKE_IN])
    before, after = matrix(words, row[a + 4], rows, row[TOKENS]), matrix(words, row[a + 5], rows, row[TOKENS])
    if after.size:
        died = np.empty(before.shape, np.bool_)
        if gate_loops.deaths(before, after, died):
            listed, ends = matrix(scratch, row[a + 7], rows, found.shape[1]), np.zeros((rows, 2), np.int32)
            token = np.arange(inputs) // row[a + 6]
            for m in range(rows):
                dead = 0
                for i in range(offsets[m, 1]):  # events of tokens that die now
                    listed[m, dead] = found[m, i]
                    dead += died[m, token[found[m, i]]]
                ends[m, 1] = dead
            sums, unused = np.empty((rows, 1, n), np.int32), np.empty(rows, np.int64)
            gather.sums(x, listed, ends, none, fan, came, start, source, tap, weight, sums, counts[GATE_UPDATE], unused)
            more = sums[:, 0].copy()
    slots, out = rows // span, matrix(words, row[OUT], rows, n)
    z, held, bias = matrix(state, row[a], slots, n), matrix(state, row[a + 1], slots, n), w32[row[a + 2] : row[a + 2] + n]
    gate_loops.class_sums(now[:, 0].copy(), more, before, after, z, held, bias, row[a + 3], t, out, counts[GATE_UPDATE])
    for m in range(rows):
        counts[UPDATE, m] = counts[SPIKE_OUT, m] = n
    return True


@compiled
def exit_decision(row, rows, t, words, w64, events):
    """`exit_gate`: logits, classes, timesteps, margins, their number."""
    classes, counts = row[ARGS + 1], events[row[OP]]
    margin, credit = w64[row[ARGS + 3] : row[ARGS + 3] + row[ARGS + 4]], matrix(words, row[CREDIT], rows, row[TOKENS])
    out = matrix(words, row[OUT], rows, 2)
    gate_loops.leading(matrix(words, row[ARGS], rows, classes), credit, margin, t, row[ARGS + 2], out)
    for m in range(rows):
        counts[SPIKE_IN, m], counts[GATE_UPDATE, m], counts[SPIKE_OUT, m] = classes, 1, 1


@compiled
def lif(row, rows, span, words, scratch, state, w32, merges, links, merge_stats, events, flags):
    """`lif`: merge, then neurons."""
    k, counts = row[ARGS], events[row[OP]]
    x = total(k, rows, merges, links, words, scratch, merge_stats)
    came = matrix(scratch, merges[k, EVENTS], rows, x.shape[1])
    for m in range(rows):
        counts[SPIKE_IN, m] = counts[SYNOP, m] = came[m].sum()
        counts[UPDATE, m] = row[SIZE]
    none = np.empty((0, 0), np.int32)
    return update_neurons(row, ARGS + 1, rows, span, x, none, words, state, w32, flags, counts[SPIKE_OUT])


@compiled
def biased(row, rows, span, t, words, scratch, state, w32, merges, links, merge_stats, events, flags):
    """`biased`: merge, positions, channels, biases, room for them by row; then neurons."""
    positions, channels, counts = row[ARGS + 1], row[ARGS + 2], events[row[OP]]
    kept, x = tensor(state, row[ARGS + 3], rows // span, positions, channels), tensor(scratch, row[ARGS + 4], rows, positions, channels)
    for m in range(rows):
        if t[m] == 1:
            given = total(row[ARGS], rows, merges, links, words, scratch, merge_stats)
            came = matrix(scratch, merges[row[ARGS], EVENTS], rows, positions)
            kept[m // span] = given[m]
            counts[SPIKE_IN, m] = counts[SYNOP, m] = came[m].sum()
        x[m] = kept[m // span]
        counts[UPDATE, m] = row[SIZE]
    none = np.empty((0, 0), np.int32)
    return update_neurons(row, ARGS + 5, rows, span, x, none, words, state, w32, flags, counts[SPIKE_OUT])


@compiled
def interpret(
    table, begin, rows, span, t, words, scratch, state, w16, w32, w64, merges, links, merge_stats, events, flags, activity, cell):
    """Run the instructions from `begin` on; returns the first one that was not done, or the length of the table.

    `cell` receives the graph's number of the current op; `activity` (may be empty) counts neurons that send, by timestep.
    """
    order, steps = counting.by_timestep(t if activity.size else t[:0])
    for i in range(begin, len(table)):
        row = table[i]
        kind, done = row[KIND], True
        cell[0] = row[NUMBER]
        if kind == FIRE:
            done = fire(row, rows, span, words, scratch, state, w16, w32, w64, merges, links, merge_stats, events, flags)
        elif kind == ATTEND:
            attend(row, rows, span, words, scratch, state, w32, events, flags)
        elif kind == GATE:
            gate(row, rows, words, w32, links, events)
        elif kind == REPLAY:
            replay(row, rows, span, t, words, scratch, state, merges, links, merge_stats, events)
        elif kind == THRESHOLDS:
            done = thresholds(row, rows, t, words, scratch, w16, w32, w64, merges, links, merge_stats, events)
        elif kind == READ:
            done = read(row, rows, span, t, words, scratch, state, w16, w32, w64, merges, links, merge_stats, events)
        elif kind == EXIT:
            exit_decision(row, rows, t, words, w64, events)
        elif kind == LIF:
            done = lif(row, rows, span, words, scratch, state, w32, merges, links, merge_stats, events, flags)
        elif kind == BIASED:
            done = biased(row, rows, span, t, words, scratch, state, w32, merges, links, merge_stats, events, flags)
        else:
            done = False
        if not done:
            return i
        if activity.size:
            counting.active(matrix(words, row[OUT], rows, row[SIZE]), order, steps, activity[row[ACTIVITY] :])
    return len(table)
