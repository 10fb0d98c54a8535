"""Compiled kernels of gates, of what the host sends once, and of the class accumulators; each is the loop form of its op's equation."""

from __future__ import annotations

import numpy as np

from convert.kernels import compiled


@compiled
def ladder(sums, bias, theta, levels, out):  # type: ignore[no-untyped-def]
    """``out = clip((sums + bias) // theta, 0, levels)`` for sums [rows, positions, channels]."""
    for m in range(sums.shape[0]):
        for p in range(sums.shape[1]):
            for c in range(sums.shape[2]):
                drive = np.int64(sums[m, p, c]) + bias[c]
                out[m, p, c] = min(drive // theta, levels) if drive > 0 else 0


@compiled
def halting(x, credit, channel, width, n, seen, synops):  # type: ignore[no-untyped-def]
    """Adds what halting channels hold of x [rows, tokens, channels] to `n` [rows, tokens]; events and accumulates of living tokens."""
    for m in range(x.shape[0]):
        for p in range(x.shape[1]):
            for c in range(channel, channel + width):
                value = x[m, p, c]
                n[m, p] += value
                if credit[m, p] > 0:
                    seen[m] += value != 0
                    synops[m] += value


@compiled
def spent(credit, n, table, out, before, after):  # type: ignore[no-untyped-def]
    """Credit less ``table[n]``, never below 0, for tokens that live; how many lived `before` and live `after`, by row."""
    for m in range(credit.shape[0]):
        a, b = 0, 0
        for p in range(credit.shape[1]):
            left = max(credit[m, p] - table[n[m, p]], 0) if credit[m, p] > 0 else 0
            out[m, p] = left
            a += credit[m, p] > 0
            b += left > 0
        before[m], after[m] = a, b


@compiled
def replayed(held, span, credit, out, sent):  # type: ignore[no-untyped-def]
    """`held` [samples, tokens, channels] `span` times where tokens live (`credit` above 0, or empty), else 0; events `sent` by row."""
    for m in range(out.shape[0]):
        a, count = m // span, np.int64(0)
        for p in range(held.shape[1]):
            if credit.size and credit[m, p] <= 0:
                out[m, p] = 0
                continue
            here = np.int32(0)
            for c in range(held.shape[2]):
                out[m, p, c] = held[a, p, c]
                here += np.int32(held[a, p, c] != 0)
            count += here
        sent[m] = count


@compiled
def deaths(before, after, died):  # type: ignore[no-untyped-def]
    """Tokens that live `before` and not `after`, into `died` [rows, tokens]; returns how many."""
    n = 0
    for m in range(before.shape[0]):
        for p in range(before.shape[1]):
            gone = before[m, p] > 0 and after[m, p] == 0
            died[m, p] = gone
            n += gone
    return n


@compiled
def class_sums(now, more, before, after, z, held, bias, steps, t, out, holding):  # type: ignore[no-untyped-def]
    """Accumulators of `convert.ops.readout.Readout` over timesteps: contributions `now` [rows, classes], those of tokens that die `more`.

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
