"""The instruction table of `spikegate.engine.program`: its columns, and what its instructions share (views, merged sources, event lists).

Offsets count the values of one row (signals, scratch) or of one slot (state); the arrays hold all rows of a signal side by side.
"""

from __future__ import annotations

from spikegate.kernels import gather, scatter
from spikegate.kernels.compiling import compiled

EXTERNAL, FIRE, ATTEND, GATE, REPLAY, THRESHOLDS, READ, EXIT, LIF, BIASED = range(10)
KIND, OP, NUMBER, OUT, SIZE, CREDIT, TOKENS, ACTIVITY, ARGS = range(9)  # columns of the table; CREDIT is -1 without a credit
SOURCES, LINK, POSITIONS, CHANNELS, CAP, TOTAL, LISTS, OFFSETS, EVENTS = range(9)  # columns of the merges; CAP 0: codes
MERGE, FAN, STARTS, TARGETS, ENDS, JOINED, WEIGHT, LINES, LANES, BOUND, SHARE, REACH, OUTPUTS, SYNAPSES = range(14)  # of synapses
U, V, I_KEEP, V_KEEP, THETA, STEP, LEVELS, BIAS = range(8)  # of neurons
DONE, HIGH, LOW, UNITS = range(4)  # columns of `merge_stats`: how far a merge is computed (MERGED, LISTED), `Merged`'s statistics
MERGED, LISTED = 1, 2
MOST_ADDS = 1 << 20  # up to so many adds stay in the interpreter, whatever the share of active inputs: leaving it costs as much
NARROW, WIDE = 1 << 17, 1 << 31  # exclusive bounds of the sums: for neurons, for accumulators


@compiled
def tensor(words, offset, rows, a, b):
    """View [rows, a, b] of a signal; empty where `offset` is -1."""
    if offset < 0:
        return words[:0].reshape(0, a, b)
    return words[offset * rows : (offset + a * b) * rows].reshape(rows, a, b)


@compiled
def matrix(words, offset, rows, n):
    """View [rows, n] of a signal; empty where `offset` is -1."""
    if offset < 0:
        return words[:0].reshape(0, n)
    return words[offset * rows : (offset + n) * rows].reshape(rows, n)


@compiled
def total(k, rows, merges, links, words, scratch, merge_stats):
    """Sum [rows, positions, channels] of merge k, computed at the first call."""
    p, c = merges[k, POSITIONS], merges[k, CHANNELS]
    at = links[merges[k, LINK] :]
    x = tensor(words, at[0], rows, p, c)
    alone = merges[k, SOURCES] == 1
    sums = x if alone else tensor(scratch, merges[k, TOTAL], rows, p, c)
    if merge_stats[k, DONE] == 0:
        events = matrix(scratch, merges[k, EVENTS], rows, p)
        high, low, units = scatter.first(x, events)[1:]
        for i in range(1, merges[k, SOURCES]):
            high, low, units = scatter.added(x if i == 1 else sums, tensor(words, at[i], rows, p, c), sums, events)[1:]
        merge_stats[k, DONE], merge_stats[k, HIGH], merge_stats[k, LOW], merge_stats[k, UNITS] = MERGED, high, low, units
    return sums


@compiled
def event_lists(k, rows, merges, x, scratch, merge_stats):
    """Unit events of merge k and their offsets as of `gather.listed`, or codes as of `gather.coded`."""
    p, c, cap = merges[k, POSITIONS], merges[k, CHANNELS], merges[k, CAP]
    found = matrix(scratch, merges[k, LISTS], rows, p * c * cap + gather.BLOCK if cap else p)
    offsets = matrix(scratch, merges[k, OFFSETS] if cap else -1, rows, p + 1)
    if merge_stats[k, DONE] < LISTED:
        if cap:
            gather.listed(x, merge_stats[k, HIGH], found, offsets)
        else:
            gather.coded(x, found)
        for other in range(len(merge_stats)):  # all merges share one buffer for their lists
            merge_stats[other, DONE] = min(merge_stats[other, DONE], MERGED)
        merge_stats[k, DONE] = LISTED
    return found, offsets


@compiled
def is_sparse(row, s, rows, most, merges, merge_stats):
    """`Taps.event_driven` for the synapses in columns s .. of a row, and whether the sums stay below `most`."""
    k = row[s + MERGE]
    units, high = merge_stats[k, UNITS], merge_stats[k, HIGH]
    if merge_stats[k, LOW] < 0 or high > max(merges[k, CAP], 1) or row[s + BOUND] * high >= most:
        return False
    size = rows * merges[k, POSITIONS] * merges[k, CHANNELS]
    return units * 1_000_000 < row[s + SHARE] * size or units * row[s + REACH] < MOST_ADDS * 1000


@compiled
def synapse_arrays(row, s, w16, w32, w64, inputs):
    """Fan-outs, ranges, sources, taps and weights of the synapses in columns s .. of a row; `inputs` neurons."""
    positions, joined, lines, lanes = row[s + TARGETS], row[s + JOINED], row[s + LINES], row[s + LANES]
    start, at = w64[row[s + STARTS] : row[s + STARTS] + positions + 1], row[s + ENDS]
    weight = w16[row[s + WEIGHT] : row[s + WEIGHT] + lines * lanes].reshape(lines, lanes)
    return w32[row[s + FAN] : row[s + FAN] + inputs], start, w64[at : at + joined], w64[at + joined : at + 2 * joined], weight


@compiled
def alive(credit, m, n):
    """Living tokens of row m; all n where there is no credit."""
    if not credit.size:
        return n
    count = 0
    for p in range(credit.shape[1]):
        count += credit[m, p] > 0
    return count


@compiled
def cleared(state, held, first):
    """Sets to 0 the state of the slots that begin, bool [slots]; `held`: offset and values of each op's state."""
    slots = len(first)
    for k in range(len(held)):
        at, n = held[k, 0] * slots, held[k, 1]
        for a in range(slots):
            if first[a]:
                state[at + a * n : at + (a + 1) * n] = 0


@compiled
def moved(state, into, held, keep):
    """Copies the state of the slots `keep` to an array for so many slots."""
    slots = len(state) // max(1, len(into) // max(1, len(keep)))
    for k in range(len(held)):
        at, to, n = held[k, 0] * slots, held[k, 0] * len(keep), held[k, 1]
        for a in range(len(keep)):
            into[to + a * n : to + (a + 1) * n] = state[at + keep[a] * n : at + (keep[a] + 1) * n]
