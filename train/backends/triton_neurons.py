"""Triton passes over CUBA neurons and ladders of thresholds: the GPU's form of `spikegate.train.backends.kernels`.

Arrays are [T, rows, channels], contiguous, of 32 or 16 bits; all arithmetic is float32. Where every product is by a power of
two (the deployed form: scale 1 or a power of two), results equal the compiled CPU kernels bit by bit.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _u(v, x, a, b, keep, EXACT: tl.constexpr):
    """Potential after leak and input; `EXACT` rounds the decayed voltage towards zero on the grid of 1 / 4096."""
    if EXACT:
        kept = (v * keep * 4096.0).to(tl.int32).to(tl.float32) * 0.000244140625
    else:
        kept = v * keep
    return kept + (x * a + b)


@triton.jit
def _sent(u, theta, step, SOFT: tl.constexpr, MOST: tl.constexpr):
    """Spikes of neurons at potential `u`, and the voltage after them: 0, or with SOFT less `step` for each of up to MOST spikes."""
    fires = u > theta
    s = fires.to(tl.float32)
    if SOFT:
        after = tl.where(fires, u - step, u)
        for _ in range(1, MOST):
            fires = after > theta
            s += fires.to(tl.float32)
            after = tl.where(fires, after - step, after)
    else:
        after = tl.where(fires, 0.0, u)
    return s, after


@triton.jit
def forward(
    X, V, A, B, ALIVE, WAITS, MODES, S, VOUT, COUNT, n_rows, C, keep, theta, step, low, high,
    STEPS: tl.constexpr, SOFT: tl.constexpr, MOST: tl.constexpr,
    SEVERAL: tl.constexpr, HAS_V: tl.constexpr, KEEP_V: tl.constexpr, EXACT: tl.constexpr,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_ALIVE: tl.constexpr, HAS_WAITS: tl.constexpr, HAS_MODES: tl.constexpr,
    COUNTS: tl.constexpr, LEVELS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
):
    """Spikes S [T, rows, C] and last voltage VOUT, as `kernels.forward`. HAS_A: 0 none, 1 for each channel, 2 one for all.

    LEVELS: no neurons, S = clip(floor(current * theta), low, high) instead.
    """
    p, cb = tl.program_id(0), tl.program_id(1)
    c = cb * BC + tl.arange(0, BC)
    rows = tl.full([], 0, tl.int64) + n_rows
    size = rows * C
    r = (p * BR + tl.arange(0, BR)).to(tl.int64)
    here = r < rows
    inside = here[:, None] & (c < C)[None, :]
    at = r[:, None] * C + c[None, :]
    a = 1.0
    b = 0.0
    if HAS_A == 1:
        a = tl.load(A + c)[None, :]
    if HAS_A == 2:
        a = tl.load(A)
    if HAS_B:
        b = tl.load(B + c)[None, :]
    if HAS_V:
        v = tl.load(V + at, mask=inside, other=0.0)
    else:
        v = tl.zeros([BR, BC], tl.float32)
    x = tl.load(X + at, mask=inside, other=0.0).to(tl.float32)
    total = 0.0
    for t in tl.static_range(STEPS):
        if SEVERAL and t > 0:
            x = tl.load(X + t * size + at, mask=inside, other=0.0).to(tl.float32)
        if LEVELS:
            s = tl.minimum(tl.maximum(tl.floor((x * a + b) * theta), low), high)
        else:
            u = _u(v, x, a, b, keep, EXACT)
            s, after = _sent(u, theta, step, SOFT, MOST)
            if HAS_MODES:
                mode = tl.load(MODES + t)
                s = tl.where(mode == 0, s, 0.0)
                after = tl.where(mode == 0, after, tl.where(mode == 1, u, v))
            if HAS_WAITS:
                after = tl.where(tl.load(WAITS + t * rows + r, mask=here, other=0)[:, None] != 0, v, after)
            v = after
            if HAS_ALIVE:
                s = s * tl.load(ALIVE + t * rows + r, mask=here, other=0.0).to(tl.float32)[:, None]
        s = tl.where(inside, s, 0.0)
        if COUNTS:
            total += tl.sum(tl.sum(s, 1), 0)
        tl.store(S + t * size + at, s.to(S.dtype.element_ty), mask=inside)
    if KEEP_V:
        tl.store(VOUT + at, v, mask=inside)
    if COUNTS:
        tl.store(COUNT + p * tl.num_programs(1) + cb, total)


@triton.jit(do_not_specialize=["P"])
def backward(
    X, V, A, B, ALIVE, WAITS, MODES, GRAD, GCOUNT, GV, OFFSET, SLOPE, REST, OUT, OUTV, OUTALIVE, PART,
    n_rows, P, C, keep, theta, step, alpha, low, high,
    STEPS: tl.constexpr, SOFT: tl.constexpr, MOST: tl.constexpr,
    SEVERAL: tl.constexpr, HAS_V: tl.constexpr, EXACT: tl.constexpr,
    HAS_A: tl.constexpr, HAS_B: tl.constexpr, HAS_ALIVE: tl.constexpr, HAS_WAITS: tl.constexpr, HAS_MODES: tl.constexpr,
    HAS_GCOUNT: tl.constexpr, HAS_GV: tl.constexpr, NORM: tl.constexpr, SUMS: tl.constexpr, WRITE: tl.constexpr,
    TO_V: tl.constexpr, TO_ALIVE: tl.constexpr, LEVELS: tl.constexpr, BR: tl.constexpr, BC: tl.constexpr,
):
    """Gradients as `kernels.backward`, potentials recomputed.

    SUMS: PART [2, P, C] gets sums over rows and time of the currents' gradient and of its product with x (less OFFSET, with NORM).
    WRITE: OUT gets the gradient of x, with NORM through the batch's statistics (SLOPE, REST from `sums_end`).
    """
    p, cb = tl.program_id(0), tl.program_id(1)
    c = cb * BC + tl.arange(0, BC)
    rows = tl.full([], 0, tl.int64) + n_rows
    size = rows * C
    a = tl.full([BC], 1.0, tl.float32)
    b = tl.zeros([BC], tl.float32)
    if HAS_A == 1:
        a = tl.load(A + c)
    if HAS_A == 2:
        a = a * tl.load(A)
    if HAS_B:
        b = tl.load(B + c)
    a, b = a[None, :], b[None, :]
    offset = tl.zeros([BC], tl.float32)
    slope = tl.zeros([BC], tl.float32)
    rest = tl.zeros([BC], tl.float32)
    if NORM:
        offset = tl.load(OFFSET + c)
        if WRITE:
            slope = tl.load(SLOPE + c)
            rest = tl.load(REST + c)
    more = 0.0
    if HAS_GCOUNT:
        more = tl.load(GCOUNT)
    width = 1.5707963 * alpha / theta
    height = 0.5 * alpha / theta
    one = tl.zeros([BC], tl.float32)
    two = tl.zeros([BC], tl.float32)
    for block in range(p, tl.cdiv(n_rows, BR), P):
        r = (block * BR + tl.arange(0, BR)).to(tl.int64)
        here = r < rows
        inside = here[:, None] & (c < C)[None, :]
        at = r[:, None] * C + c[None, :]
        if HAS_V:
            v = tl.load(V + at, mask=inside, other=0.0)
        else:
            v = tl.zeros([BR, BC], tl.float32)
        x = tl.load(X + at, mask=inside, other=0.0).to(tl.float32)
        us = ()
        xs = ()
        for t in tl.static_range(STEPS):
            if SEVERAL and t > 0:
                x = tl.load(X + t * size + at, mask=inside, other=0.0).to(tl.float32)
            if LEVELS:
                u = x * a + b
            else:
                u = _u(v, x, a, b, keep, EXACT)
                sent, after = _sent(u, theta, step, SOFT, MOST)
                if HAS_MODES:
                    mode = tl.load(MODES + t)
                    after = tl.where(mode == 0, after, tl.where(mode == 1, u, v))
                if HAS_WAITS:
                    after = tl.where(tl.load(WAITS + t * rows + r, mask=here, other=0)[:, None] != 0, v, after)
                v = after
            us = us + (u,)  # type: ignore[assignment]
            if SEVERAL:
                xs = xs + (x,)  # type: ignore[assignment]
        if HAS_GV:
            g = tl.load(GV + at, mask=inside, other=0.0).to(tl.float32)
        else:
            g = tl.zeros([BR, BC], tl.float32)
        held = tl.zeros([BR, BC], tl.float32)
        for back in tl.static_range(STEPS):
            t = STEPS - 1 - back
            u = us[STEPS - 1 - back]
            ds = tl.load(GRAD + t * size + at, mask=inside, other=0.0).to(tl.float32) + more
            if TO_ALIVE:
                sent, after = _sent(u, theta, step, SOFT, MOST)
                if HAS_MODES:
                    sent = tl.where(tl.load(MODES + t) == 0, sent, 0.0)
                felt = tl.sum(tl.where(inside, ds * sent, 0.0), 1)
                tl.store(OUTALIVE + (t * rows + r) * (C // BC) + cb, felt, mask=here)
            if LEVELS:
                level = u * theta
                du = tl.where((level > low) & (level < high + 1.0), ds * theta, 0.0)
            else:
                if HAS_ALIVE:
                    ds = ds * tl.load(ALIVE + t * rows + r, mask=here, other=0.0).to(tl.float32)[:, None]
                z = (u - theta) * width
                rise = height / (1.0 + z * z)
                for k in range(1, MOST):
                    z = (u - theta - k * step) * width
                    rise += height / (1.0 + z * z)
                out = rise * ds
                passes = u <= theta
                if SOFT:
                    passes = u == u
                if HAS_MODES:
                    mode = tl.load(MODES + t)
                    out = tl.where(mode == 0, out, 0.0)
                    du = out + tl.where(passes | (mode == 1), g, 0.0)
                    waiting = mode == 2
                    du = tl.where(waiting, out, du)
                    nxt = tl.where(waiting, g, du * keep)
                else:
                    du = out + tl.where(passes, g, 0.0)
                    nxt = du * keep
                if HAS_WAITS:
                    idle = tl.load(WAITS + t * rows + r, mask=here, other=0)[:, None] != 0
                    du = tl.where(idle, out, du)
                    nxt = tl.where(idle, g + out * keep, nxt)
                g = nxt
            du = tl.where(inside, du, 0.0)
            if SEVERAL:
                x = xs[STEPS - 1 - back]
            if SUMS:
                one += tl.sum(du, 0)
                two += tl.sum(du * (x - offset[None, :]), 0)
            if WRITE:
                dx = du * a
                if NORM:
                    dx = dx + slope[None, :] * x + rest[None, :]
                if SEVERAL:
                    tl.store(OUT + t * size + at, dx.to(OUT.dtype.element_ty), mask=inside)
                else:
                    held += dx
        if WRITE and not SEVERAL:
            tl.store(OUT + at, held.to(OUT.dtype.element_ty), mask=inside)
        if TO_V:
            tl.store(OUTV + at, g, mask=inside)
    if SUMS:
        tl.store(PART + p * C + c, one, mask=c < C)
        tl.store(PART + (P + p) * C + c, two, mask=c < C)


