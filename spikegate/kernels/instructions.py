"""What a row of the table of `spikegate.engine.program` means, and what its rows share: views, sums of sources, lists of events.

Offsets count values of one row (signals, scratch) or of one slot (state): the arrays hold all rows of a signal side by side.
"""

from __future__ import annotations

from spikegate.kernels import gather, scatter
from spikegate.kernels.compiling import compiled

ELSEWHERE, FIRE, ATTEND, GATE, REPLAY, LADDER, READ, EXIT, SWEEP = range(9)
KIND, OP, NUMBER, OUT, SIZE, CREDIT, TOKENS, ACTIVITY, ARGS = range(9)  # columns of the table; without a credit it is -1
SOURCES, LINK, POSITIONS, CHANNELS, CAP, TOTAL, LISTS, MARKS, EVENTS = range(9)  # columns of the merges; CAP 0: codes
MERGE, FAN, STARTS, TARGETS, ENDS, JOINED, WEIGHT, LINES, LANES, BOUND, SHARE, REACH, OUTPUTS, SYNAPSES = range(14)  # of synapses
U, V, I_KEEP, V_KEEP, THETA, BIAS = range(6)  # of neurons
DONE, HIGH, LOW, UNITS = range(4)  # what is known of a merge
MERGED, LISTED = 1, 2
MOST_ADDS = 1 << 20  # so few are done in the walk whatever their share: leaving it costs as much
NARROW, WIDE = 1 << 17, 1 << 31  # what sums stay below: for neurons, for accumulators


@compiled
def block(words, offset, rows, a, b):  # type: ignore[no-untyped-def]
    """Values [rows, a, b] of a signal; of none where `offset` is -1."""
    if offset < 0:
        return words[:0].reshape(0, a, b)
    return words[offset * rows : (offset + a * b) * rows].reshape(rows, a, b)


@compiled
def plane(words, offset, rows, n):  # type: ignore[no-untyped-def]
    """Values [rows, n] of a signal; of none where `offset` is -1."""
    if offset < 0:
        return words[:0].reshape(0, n)
    return words[offset * rows : (offset + n) * rows].reshape(rows, n)


@compiled
def total(k, rows, merges, links, words, scratch, facts):  # type: ignore[no-untyped-def]
    """Sum [rows, positions, channels] of merge k, worked out where it is not yet known."""
    p, c = merges[k, POSITIONS], merges[k, CHANNELS]
    at = links[merges[k, LINK] :]
    x = block(words, at[0], rows, p, c)
    alone = merges[k, SOURCES] == 1
    sums = x if alone else block(scratch, merges[k, TOTAL], rows, p, c)
    if facts[k, DONE] == 0:
        events = plane(scratch, merges[k, EVENTS], rows, p)
        high, low, units = scatter.first(x, events)[1:]
        for i in range(1, merges[k, SOURCES]):
            high, low, units = scatter.added(x if i == 1 else sums, block(words, at[i], rows, p, c), sums, events)[1:]
        facts[k, DONE], facts[k, HIGH], facts[k, LOW], facts[k, UNITS] = MERGED, high, low, units
    return sums


@compiled
def lists(k, rows, merges, x, scratch, facts):  # type: ignore[no-untyped-def]
    """Unit events of merge k as of `gather.listed` with their marks, or as of `gather.coded`."""
    p, c, cap = merges[k, POSITIONS], merges[k, CHANNELS], merges[k, CAP]
    found = plane(scratch, merges[k, LISTS], rows, p * c * cap + gather.BLOCK if cap else p)
    marks = plane(scratch, merges[k, MARKS] if cap else -1, rows, p + 1)
    if facts[k, DONE] < LISTED:
        if cap:
            gather.listed(x, facts[k, HIGH], found, marks)
        else:
            gather.coded(x, found)
        for other in range(len(facts)):  # all merges have one place for their lists
            facts[other, DONE] = min(facts[other, DONE], MERGED)
        facts[k, DONE] = LISTED
    return found, marks


@compiled
def few(row, s, rows, most, merges, facts):  # type: ignore[no-untyped-def]
    """`Taps.event_driven` for the synapses in columns s .. of a row, and whether the sums stay below `most`."""
    k = row[s + MERGE]
    units, high = facts[k, UNITS], facts[k, HIGH]
    if facts[k, LOW] < 0 or high > max(merges[k, CAP], 1) or row[s + BOUND] * high >= most:
        return False
    size = rows * merges[k, POSITIONS] * merges[k, CHANNELS]
    return units * 1_000_000 < row[s + SHARE] * size or units * row[s + REACH] < MOST_ADDS * 1000


@compiled
def wires(row, s, w16, w32, w64, inputs):  # type: ignore[no-untyped-def]
    """Fan-outs, ranges, sources, taps and weights of the synapses in columns s .. of a row; `inputs` neurons."""
    positions, joined, lines, lanes = row[s + TARGETS], row[s + JOINED], row[s + LINES], row[s + LANES]
    start, at = w64[row[s + STARTS] : row[s + STARTS] + positions + 1], row[s + ENDS]
    weight = w16[row[s + WEIGHT] : row[s + WEIGHT] + lines * lanes].reshape(lines, lanes)
    return w32[row[s + FAN] : row[s + FAN] + inputs], start, w64[at : at + joined], w64[at + joined : at + 2 * joined], weight


@compiled
def alive(credit, m, n):  # type: ignore[no-untyped-def]
    """Living tokens of row m; all n where there is no credit."""
    if not credit.size:
        return n
    count = 0
    for p in range(credit.shape[1]):
        count += credit[m, p] > 0
    return count


@compiled
def cleared(state, held, first):  # type: ignore[no-untyped-def]
    """Sets to 0 the state of the slots that begin, bool [slots]; `held`: offset and values of each op's state."""
    slots = len(first)
    for k in range(len(held)):
        at, n = held[k, 0] * slots, held[k, 1]
        for a in range(slots):
            if first[a]:
                state[at + a * n : at + (a + 1) * n] = 0


@compiled
def moved(state, into, held, keep):  # type: ignore[no-untyped-def]
    """Copies the state of the slots `keep` to an array for so many slots."""
    slots = len(state) // max(1, len(into) // max(1, len(keep)))
    for k in range(len(held)):
        at, to, n = held[k, 0] * slots, held[k, 0] * len(keep), held[k, 1]
        for a in range(len(keep)):
            into[to + a * n : to + (a + 1) * n] = state[at + keep[a] * n : at + (keep[a] + 1) * n]
