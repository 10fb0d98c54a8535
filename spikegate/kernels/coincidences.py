"""Compiled spiking attention: counts of coincidences of bits, event by event."""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled
from spikegate.kernels.lanes import above, address


@compiled
def attention(q, k, v, credit, heads, by_values, y, work, arrived):
    """Counts of coincidences ``y`` int32 of bits q, k, v [rows, tokens, channels]; `work` and `arrived` int64 [rows]: accumulates, events.

    `by_values`: K^T V first, then a row of it for each q; otherwise Q K^T first, then a column of it for each v. Tokens whose `credit` is
    not above 0 send no bits; their rows of `y` are not computed.
    """
    if by_values:
        values_first(q, k, v, credit, heads, y, work, arrived)
    else:
        scores_first(q, k, v, credit, heads, y, work, arrived)


@compiled
def values_first(q, k, v, credit, heads, y, work, arrived):
    """`attention` with ``K^T V`` first: a pair of k and v bits of a token and head is one accumulate; each q bit adds its row."""
    rows, tokens, channels = q.shape
    width = channels // heads
    inner, filled = np.empty((channels, width), np.int32), np.empty(channels, np.int64)
    head = np.arange(channels) // width
    keys, values = np.empty(channels + 8, np.int32), np.empty(channels + 8, np.int32)
    at_q, at_k, at_v, into_k, into_v = address(q), address(k), address(v), address(keys), address(values)
    for m in range(rows):
        steps, bits = np.int64(0), np.int64(0)
        inner[:], filled[:] = 0, 0
        for j in range(tokens):
            place = (m * tokens + j) * channels * 4
            some, more = above(at_k + place, channels, 0, into_k), above(at_v + place, channels, 0, into_v)
            bits += some + more
            begin = 0
            for a in range(some if more else 0):
                c = keys[a]
                while begin < more and head[values[begin]] < head[c]:
                    begin += 1
                b = begin
                while b < more and head[values[b]] == head[c]:
                    e = values[b] - head[c] * width
                    filled[c] += inner[c, e] == 0
                    inner[c, e] += 1
                    b += 1
                steps += b - begin
        for i in range(tokens):
            some = above(at_q + (m * tokens + i) * channels * 4, channels, 0, into_k)
            bits += some
            lives = not credit.size or credit[m, i] > 0
            for e in range(channels if lives else 0):
                y[m, i, e] = 0
            for a in range(some):
                c = keys[a]
                steps += filled[c]
                if filled[c] and lives:
                    first = head[c] * width
                    for e in range(width):
                        y[m, i, first + e] += inner[c, e]
        work[m], arrived[m] = steps, bits


@compiled
def scores_first(q, k, v, credit, heads, y, work, arrived):
    """`attention` with ``Q K^T`` first."""
    rows, tokens, channels = q.shape
    width = channels // heads
    inner, filled = np.empty((tokens, tokens), np.int32), np.empty(tokens, np.int64)
    for m in range(rows):
        steps, bits = np.int64(0), np.int64(0)
        for h in range(heads):
            a, b = h * width, (h + 1) * width
            inner[:] = 0
            for i in range(tokens):
                for c in range(width):
                    bits += q[m, i, a + c] + k[m, i, a + c] + v[m, i, a + c]
                    if q[m, i, a + c]:
                        for j in range(tokens):
                            inner[i, j] += k[m, j, a + c]
                for j in range(tokens):
                    steps += inner[i, j]
            for j in range(tokens):
                n = 0
                for i in range(tokens):
                    n += inner[i, j] != 0
                filled[j] = n
            for i in range(tokens):
                lives = not credit.size or credit[m, i] > 0
                out = y[m, i, a:b]
                out[:] = 0
                for j in range(tokens):
                    if inner[i, j] and lives:
                        for e in range(width):
                            out[e] += inner[i, j] * v[m, j, a + e]
            for j in range(tokens):
                for e in range(width):
                    steps += filled[j] * v[m, j, a + e]
        work[m], arrived[m] = steps, bits
