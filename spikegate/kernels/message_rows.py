"""Compiled packing of messages: rows without events take no room, spikes take a bit each.

Values are int32 [A, n], one row for each sample and timestep; `at` [A] are the places of their event counts.
"""

from __future__ import annotations

import numpy as np

from spikegate.kernels.compiling import compiled


@compiled
def packed_bits(values, at, events, out, place):
    """Rows of 0 and 1 as bits from `place` on in `out`, uint8; returns where the next goes, -1 if there is another value."""
    rows, n = values.shape
    whole = n // 8
    for a in range(rows):
        row, found, odd = values[a], np.int32(0), np.int32(0)
        for i in range(n):
            found += row[i]
            odd |= row[i]
        if odd & ~1:
            return -1
        events[at[a]] = found
        if found == 0:
            continue
        for b in range(whole):
            i = b * 8
            out[place + b] = (
                row[i] | row[i + 1] << 1 | row[i + 2] << 2 | row[i + 3] << 3 | row[i + 4] << 4 | row[i + 5] << 5 | row[i + 6] << 6
                | row[i + 7] << 7
            )  # fmt: skip
        place += whole
        if n % 8:
            byte = 0
            for i in range(whole * 8, n):
                byte |= row[i] << (i - whole * 8)
            out[place] = byte
            place += 1
    return place


@compiled
def unpacked_bits(out, at, events, values, place):
    """The reverse of `packed_bits`."""
    rows, n = values.shape
    whole = n // 8
    for a in range(rows):
        row = values[a]
        if events[at[a]] == 0:
            row[:] = 0
            continue
        for b in range(whole):
            byte, i = np.int32(out[place + b]), b * 8
            row[i], row[i + 1], row[i + 2], row[i + 3] = byte & 1, byte >> 1 & 1, byte >> 2 & 1, byte >> 3 & 1
            row[i + 4], row[i + 5], row[i + 6], row[i + 7] = byte >> 4 & 1, byte >> 5 & 1, byte >> 6 & 1, byte >> 7
        place += whole
        if n % 8:
            byte = np.int32(out[place])
            for i in range(whole * 8, n):
                row[i] = byte >> (i - whole * 8) & 1
            place += 1
    return place


@compiled
def packed_values(values, at, events, out, place, low, high):
    """Rows of values from `low` to `high` from `place` on in `out`; returns where the next goes, -1 if one is beyond that."""
    rows, n = values.shape
    for a in range(rows):
        row, found, least, most = values[a], 0, np.int32(0), np.int32(0)
        for i in range(n):
            found += row[i] != 0
            least, most = min(least, row[i]), max(most, row[i])
        if least < low or most > high:
            return -1
        events[at[a]] = found
        if found == 0:
            continue
        for i in range(n):
            out[place + i] = row[i]
        place += n
    return place


@compiled
def unpacked_values(out, at, events, values, place):
    """The reverse of `packed_values`."""
    rows, n = values.shape
    for a in range(rows):
        row = values[a]
        if events[at[a]] == 0:
            row[:] = 0
            continue
        for i in range(n):
            row[i] = out[place + i]
        place += n
    return place
