"""Compiled passes over CUBA neurons: normalisation, leak, spikes and their gradients in one pass each.

Arrays are float32 [T, rows, channels], contiguous. A current is ``scale[c] * x + shift[c]``; `x` may have one timestep
that stands for all. Only what the backward pass cannot recompute is kept: the potentials are not. A pass works on the rows from
`first` to before `last`, so that threads can share it (`share`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from spikegate.train.backends.seam import HELD, IDLE, RUNS

F = np.float32
ZERO, ONE = F(0), F(1)
STATE, GRAIN = F(4096), F(1 / 4096)  # SLAYER's states are integers / 4096
FLUSH = 64  # rows summed in float32 before they go to float64

POOL = ThreadPoolExecutor(thread_name_prefix="neurons")  # its threads start when they are first needed
LARGE = 1 << 18  # numbers of an array from which on threads share a pass

compiled = njit(cache=True, nogil=True, error_model="numpy")


def share(kernel: Callable[..., Any], threads: int, x: np.ndarray, *more: Any) -> list[Any]:
    """What `kernel` returns for each thread's part of the rows of its first array `x` [T, rows, channels]."""
    rows = x.shape[1]
    parts = min(threads, rows) if x.size >= LARGE else 1
    ends = [rows * k // parts for k in range(parts + 1)]
    others = [POOL.submit(kernel, a, b, x, *more) for a, b in pairwise(ends[1:])]
    return [kernel(0, ends[1], x, *more), *(other.result() for other in others)]


@compiled
def moments(first, last, x):  # type: ignore[no-untyped-def]
    """Of each channel of [T, rows, channels], about its first value: the sum and the sum of squares, float64."""
    steps, _, channels = x.shape
    one, two = np.zeros(channels), np.zeros(channels)
    part1, part2 = np.zeros(channels, F), np.zeros(channels, F)
    centre = x[0, 0].copy()
    for t in range(steps):
        for m in range(first, last):
            row = x[t, m]
            for c in range(channels):
                y = row[c] - centre[c]
                part1[c] += y
                part2[c] += y * y
            if m % FLUSH == FLUSH - 1 or m == last - 1:
                for c in range(channels):
                    one[c] += part1[c]
                    two[c] += part2[c]
                    part1[c] = ZERO
                    part2[c] = ZERO
    return one, two


@compiled
def several_spikes(u, bound, step, levels, spikes, left):  # type: ignore[no-untyped-def]
    """Write `spikes` of neurons that subtract and the voltages `left` after them, both [channels]; returns the number of spikes."""
    fired = np.int32(0)
    for c in range(len(u)):
        s, y = np.int32(0), u[c]
        while s < levels and y > bound:
            s += np.int32(1)
            y -= step
        spikes[c], left[c] = F(s), y
        fired += s
    return fired


@compiled
def forward(  # type: ignore[no-untyped-def]
    first, last, x, v, scale, shift, keep, theta, step, levels, exact, modes, alive, waits, spikes, out_v
):
    """Write `spikes` and the last voltages `out_v` (empty: not wanted), return the number of spikes; `v`: the first ones (empty: zero).

    `step` 0: a spike sets the voltage to 0; else it takes `step`, and up to `levels` spikes leave in a timestep. `exact` rounds the
    decayed voltage towards zero as the chip does. `modes` [T]: RUNS, HELD or IDLE. `alive` [T, rows]
    multiplies the spikes (empty: all live). Where `waits` [T, rows] is set (empty: nowhere) the voltage stays as it was.
    """
    steps, _, channels = spikes.shape
    several = x.shape[0] > 1
    u, left, state = np.empty(channels, F), np.empty(channels, F), np.empty(channels, F)
    total = 0.0
    for m in range(first, last):
        for c in range(channels):
            state[c] = v[m, c] if v.size else ZERO
        for t in range(steps):
            if modes[t] == IDLE:
                for c in range(channels):
                    spikes[t, m, c] = ZERO
                continue
            tx = t if several else 0
            if exact:
                for c in range(channels):
                    u[c] = np.trunc(state[c] * keep * STATE) * GRAIN + (x[tx, m, c] * scale[c] + shift[c])
            else:
                for c in range(channels):
                    u[c] = state[c] * keep + (x[tx, m, c] * scale[c] + shift[c])
            bound = F(np.inf) if modes[t] == HELD else theta
            fired = np.int32(0)
            if step > ZERO:
                fired = several_spikes(u, bound, step, levels, spikes[t, m], left)
                if not (waits.size and waits[t, m]):
                    for c in range(channels):
                        state[c] = left[c]
            elif waits.size and waits[t, m]:
                for c in range(channels):
                    s = u[c] > bound
                    spikes[t, m, c] = ONE if s else ZERO
                    fired += np.int32(1) if s else np.int32(0)
            else:
                for c in range(channels):
                    s = u[c] > bound
                    spikes[t, m, c] = ONE if s else ZERO
                    state[c] = ZERO if s else u[c]
                    fired += np.int32(1) if s else np.int32(0)
            if alive.size:
                share = alive[t, m]
                total += fired * share
                if share != ONE:
                    for c in range(channels):
                        spikes[t, m, c] *= share
            else:
                total += fired
        if out_v.size:
            for c in range(channels):
                out_v[m, c] = state[c]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})  # a sum in several lanes
def fired_gradient(grad, more, u, bound):  # type: ignore[no-untyped-def]
    """Sum of the gradients ``grad + more`` of the neurons that fire."""
    total = ZERO
    for c in range(len(u)):
        total += (grad[c] + more) if u[c] > bound else ZERO
    return total


@compiled
def several_gradients(grad, more, u, theta, step, levels, width, height, out):  # type: ignore[no-untyped-def]
    """Write the surrogate gradients `out` [channels] of neurons of several levels: the sum of those of all thresholds."""
    for c in range(len(u)):
        slope = ZERO
        for k in range(levels):
            z = (u[c] - theta - F(k) * step) * width
            slope += height / (ONE + z * z)
        out[c] = slope * (grad[c] + more)


@compiled
def backward(  # type: ignore[no-untyped-def]
    first, last, x, v, scale, shift, keep, theta, step, levels, exact, modes, alive, waits, alpha, grad, grad_count, grad_v, out, out_v,
    out_alive,
):
    """Gradients of `forward`, from those of the spikes (`grad`), of their number and of the last voltage (`grad_v`, empty: zero).

    Writes the gradient of the currents to `out` (summed over time where `x` has one timestep), of the first voltage to
    `out_v` and of `alive` to `out_alive` (empty: not wanted). Returns, float64 [channels], the sums of the currents' gradient and of its
    product with `x`.
    """
    steps, _, channels = grad.shape
    several = x.shape[0] > 1
    state, u, g = np.empty(channels, F), np.empty((steps, channels), F), np.empty(channels, F)
    sent, left = np.empty(channels, F), np.empty(channels, F)
    plain, weighted = np.zeros(channels), np.zeros(channels)
    part1, part2 = np.zeros(channels, F), np.zeros(channels, F)
    width, height = F(1.5707963) * alpha / theta, F(0.5) * alpha / theta
    for m in range(first, last):
        for c in range(channels):
            state[c] = v[m, c] if v.size else ZERO
        for t in range(steps):
            if modes[t] == IDLE:
                if out_alive.size:
                    out_alive[t, m] = ZERO
                continue
            tx = t if several else 0
            bound = F(np.inf) if modes[t] == HELD else theta
            if exact:
                for c in range(channels):
                    u[t, c] = np.trunc(state[c] * keep * STATE) * GRAIN + (x[tx, m, c] * scale[c] + shift[c])
            else:
                for c in range(channels):
                    u[t, c] = state[c] * keep + (x[tx, m, c] * scale[c] + shift[c])
            if step > ZERO:
                several_spikes(u[t], bound, step, levels, sent, left)
            if not (waits.size and waits[t, m]):
                for c in range(channels):
                    state[c] = left[c] if step > ZERO else ZERO if u[t, c] > bound else u[t, c]
            if out_alive.size and step > ZERO:
                out_alive[t, m] = ZERO
                for c in range(channels):
                    out_alive[t, m] += (grad[t, m, c] + grad_count) * sent[c]
            elif out_alive.size:
                out_alive[t, m] = fired_gradient(grad[t, m], grad_count, u[t], bound)
        for c in range(channels):
            g[c] = ZERO
        if grad_v.size:
            for c in range(channels):
                g[c] = grad_v[m, c]
        for back in range(steps):
            t = steps - 1 - back
            tx = t if several else 0
            if not several and back:
                for c in range(channels):
                    state[c] = out[0, m, c]
            else:
                for c in range(channels):
                    state[c] = ZERO
            share = alive[t, m] if alive.size else ONE
            waiting = modes[t] == IDLE or (waits.size and waits[t, m])
            if modes[t] == RUNS and levels > 1:
                several_gradients(grad[t, m], grad_count, u[t], theta, step, levels, width, height * share, out[tx, m])
            elif modes[t] == RUNS:
                for c in range(channels):
                    z = (u[t, c] - theta) * width
                    out[tx, m, c] = height / (ONE + z * z) * ((grad[t, m, c] + grad_count) * share)
            else:
                for c in range(channels):
                    out[tx, m, c] = ZERO
            if waiting:
                if modes[t] == RUNS and share != ZERO:
                    for c in range(channels):
                        g[c] += out[tx, m, c] * keep
            else:
                bound = F(np.inf) if modes[t] == HELD else theta
                for c in range(channels):
                    du = out[tx, m, c] + (g[c] if step > ZERO or u[t, c] <= bound else ZERO)
                    out[tx, m, c] = du
                    g[c] = du * keep
            for c in range(channels):
                part1[c] += out[tx, m, c]
                part2[c] += out[tx, m, c] * x[tx, m, c]
            if not several:
                for c in range(channels):
                    out[tx, m, c] += state[c]
        if out_v.size:
            for c in range(channels):
                out_v[m, c] = g[c]
        if m % FLUSH == FLUSH - 1 or m == last - 1:
            for c in range(channels):
                plain[c] += part1[c]
                weighted[c] += part2[c]
                part1[c] = ZERO
                part2[c] = ZERO
    return plain, weighted


@compiled
def affine(first, last, g, x, a, b, d):  # type: ignore[no-untyped-def]
    """In place ``g = a[c] g + b[c] x + d[c]``: what batch statistics do to the gradient."""
    steps, _, channels = g.shape
    for t in range(steps):
        for m in range(first, last):
            to, row = g[t, m], x[t, m]
            for c in range(channels):
                to[c] = a[c] * to[c] + b[c] * row[c] + d[c]
