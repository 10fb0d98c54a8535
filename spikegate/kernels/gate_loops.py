"""Compiled kernels of gates, of replayed host input and of class accumulators; each is the loop form of its op's equation."""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled

COMPARED_LEVELS = 16  # up to so many levels each threshold is compared; beyond that one division is faster


@compiled
def multi_level(sums, bias, theta, levels, out):
    """``out = clip((sums + bias) // theta, 0, levels)`` for sums [rows, positions, channels] that stay below 2^31 with the bias.

    Few levels are compared one by one, because comparisons vectorise and a division does not.
    """
    most = np.int64((1 << 31) - 1)
    for m in range(sums.shape[0]):
        for p in range(sums.shape[1]):
            drive, into = sums[m, p], out[m, p]
            if levels > COMPARED_LEVELS:
                for c in range(len(into)):
                    above = np.int64(drive[c]) + bias[c]
                    into[c] = min(above // theta, levels) if above > 0 else 0
                continue
            into[:] = 0
            for k in range(1, levels + 1):
                threshold = np.int32(min(k * theta, most))
                for c in range(len(into)):
                    into[c] = np.int32(into[c] + np.int32(np.int32(drive[c] + bias[c]) >= threshold))


@compiled
def halting(x, credit, channel, width, n, seen, synops):
    """Adds the halting channels of x [rows, tokens, channels] to `n` [rows, tokens]; counts events and accumulates of living tokens."""
    for m in range(x.shape[0]):
        came, held = np.int64(0), np.int64(0)
        for p in range(x.shape[1]):
            found, here = np.int64(0), np.int64(0)
            for c in range(channel, channel + width):
                here += x[m, p, c]
                found += x[m, p, c] != 0
            n[m, p] += here
            lives = np.int64(credit[m, p] > 0)
            came += lives * found
            held += lives * here
        seen[m] += came
        synops[m] += held


@compiled
def spent(credit, n, table, out, before, after):
    """``max(credit - table[n], 0)`` of living tokens; number of living tokens `before` and `after`, by row."""
    for m in range(credit.shape[0]):
        a, b = 0, 0
        for p in range(credit.shape[1]):
            left = max(credit[m, p] - table[n[m, p]], 0) if credit[m, p] > 0 else 0
            out[m, p] = left
            a += credit[m, p] > 0
            b += left > 0
        before[m], after[m] = a, b


@compiled
def replayed(held, span, credit, out, sent):
    """`held` [samples, tokens, channels] `span` times where tokens live (`credit` above 0, or empty), else 0; events `sent` by row."""
    for m in range(out.shape[0]):
        a, count = m // span, np.int64(0)
        for p in range(held.shape[1]):
            if credit.size and credit[m, p] <= 0:
                out[m, p] = 0
                continue
            keeps, into, here = held[a, p], out[m, p], np.int32(0)
            for c in range(len(keeps)):
                into[c] = keeps[c]
                here = np.int32(here + np.int32(keeps[c] != 0))
            count += here
        sent[m] = count


@compiled
def deaths(before, after, died):
    """Tokens that are alive `before` and not `after`, into `died` [rows, tokens]; returns their number."""
    n = 0
    for m in range(before.shape[0]):
        for p in range(before.shape[1]):
            dies = before[m, p] > 0 and after[m, p] == 0
            died[m, p] = dies
            n += dies
    return n


@compiled
def class_sums(now, more, before, after, z, held, bias, steps, t, out, holding):
    """Accumulators of `spikegate.ops.readout.Readout` over timesteps: contributions `now` [rows, classes], and
    `more`, those of tokens that die.

    `more`, `before` and `after` may be empty. `z` and `held` [samples, classes] are updated; `holding` gets the adds for dead tokens.
    """
    span, classes = len(now) // len(z), now.shape[1]
    for m in range(len(now)):
        a, left = m // span, 0
        if after.size:
            lives, dead = False, False
            for p in range(after.shape[1]):
                lives |= after[m, p] > 0
                dead |= before[m, p] == 0
            left = 0 if lives else steps - t[m]
            holding[m] += classes * (left + dead)
        for k in range(classes):
            total = z[a, k] + held[a, k] + now[m, k] + bias[k]
            if more.size:
                held[a, k] += more[m, k]
            total += left * (held[a, k] + bias[k])
            z[a, k] = total
            out[m, k] = total


@compiled
def leading(z, credit, margin, t, timesteps, out):
    """Done and first largest class, into `out` [rows, 2], for class sums z [rows, classes]; `credit` and `margin` may be empty."""
    for m in range(len(z)):
        best, lead = 0, np.int64(1) << 40
        for k in range(1, z.shape[1]):
            ahead = np.int64(z[m, best]) - np.int64(z[m, k])
            if ahead < 0:
                best, lead = k, -ahead
            else:
                lead = min(lead, ahead)
        done = t[m] >= timesteps or (margin.size and lead >= margin[min(t[m], timesteps) - 1])
        if credit.size and not done:
            done = True
            for p in range(credit.shape[1]):
                if credit[m, p] > 0:
                    done = False
        out[m, 0], out[m, 1] = done, best


@compiled
def relayed(x, credit, out, arrived, sent):
    """Adds x [rows, tokens, channels] to `out` where `credit` is above 0 (or empty); `arrived` += its events, `sent` = those of out."""
    for m in range(x.shape[0]):
        came, goes = np.int64(0), np.int64(0)
        for p in range(x.shape[1]):
            if credit.size and credit[m, p] <= 0:
                continue
            comes, into, some, more = x[m, p], out[m, p], np.int32(0), np.int32(0)
            for c in range(len(comes)):
                value = np.int32(into[c] + comes[c])
                into[c] = value
                some = np.int32(some + np.int32(comes[c] != 0))
                more = np.int32(more + np.int32(value != 0))
            came += some
            goes += more
        arrived[m] += came
        sent[m] = goes


@compiled
def carried(x, credit, kept, absorbed, mark, out, pairs, arrived, sent):
    """Adds the rows of absorbed tokens (credit `mark`) of x to the rows of the tokens that they merged into; number of `pairs` by row."""
    for m in range(x.shape[0]):
        both, came, goes = np.int64(0), np.int64(0), np.int64(0)
        for i in range(len(kept)):
            a, b = kept[i], absorbed[i]
            if credit[m, b] != mark or credit[m, a] <= 0:
                continue
            both += 1
            for c in range(x.shape[2]):
                came += x[m, b, c] != 0
                out[m, a, c] += x[m, b, c]
                goes += out[m, a, c] != 0
        pairs[m], sent[m] = both, goes
        arrived[m] += came


@compiled
def merging(x, events, credit, t, kept, absorbed, delta, mark, decided, out, came, synops, met, lives):
    """`spikegate.ops.token_merge.TokenMerge` for sums x [rows, tokens, channels] with `events` [rows, tokens], credit [rows, tokens].

    `decided` bool [samples, pairs] is the state. Writes credits `out` and, by row, events of the pairs, spikes and coincidences counted
    (zero after the first timestep) and credits above 0.
    """
    span = len(x) // len(decided)
    for m in range(len(x)):
        pairs, pair_events, counted, both = decided[m // span], np.int64(0), np.int64(0), np.int64(0)
        out[m] = credit[m]
        for i in range(len(kept)):
            a, b = kept[i], absorbed[i]
            if t[m] == 1:
                pair_events += events[m, a] + events[m, b]
                left_bits, right_bits, of_both, of_each = x[m, a], x[m, b], np.int32(0), np.int32(0)
                for c in range(len(left_bits)):
                    one, other = np.int32(left_bits[c] > 0), np.int32(right_bits[c] > 0)
                    of_both = np.int32(of_both + (one & other))
                    of_each = np.int32(of_each + one + other)
                counted += of_each
                both += of_both
                pairs[i] = 2 * of_both >= of_each - delta and credit[m, a] > 0 and credit[m, b] > 0
                if pairs[i]:
                    out[m, a] = min(credit[m, a], credit[m, b])
            if pairs[i]:
                out[m, b] = mark
        left = 0
        for p in range(out.shape[1]):
            left += out[m, p] > 0
        came[m], synops[m], met[m], lives[m] = pair_events, counted, both, left
