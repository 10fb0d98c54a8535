"""Triton passes that sum over rows: the batch's statistics, and the ends of sums of gradients. Arrays are [rows, C], contiguous."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["P"])
def moments(X, PART, n_rows, P, C, BR: tl.constexpr, BC: tl.constexpr):
    """Partial sums over rows of x - x[0] and of its square: PART [2, P, C]."""
    p, cb = tl.program_id(0), tl.program_id(1)
    c = cb * BC + tl.arange(0, BC)
    centre = tl.load(X + c).to(tl.float32)
    one = tl.zeros([BC], tl.float32)
    two = tl.zeros([BC], tl.float32)
    for block in range(p, tl.cdiv(n_rows, BR), P):
        r = (block * BR + tl.arange(0, BR)).to(tl.int64)
        inside = (r < n_rows)[:, None]
        x = tl.load(X + r[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32) - centre[None, :]
        x = tl.where(inside, x, 0.0)
        one += tl.sum(x, 0)
        two += tl.sum(x * x, 0)
    tl.store(PART + p * C + c, one)
    tl.store(PART + (P + p) * C + c, two)


@triton.jit(do_not_specialize=["P"])
def moments_end(
    X, PART, GAMMA, BETA, MEAN, VAR, A, B, OFFSET, GAIN, count, P, momentum, eps, C, BP: tl.constexpr, BC: tl.constexpr
):
    """Mean, gain, folded scale and shift of each channel; running statistics move by `momentum`."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    one = tl.zeros([BC], tl.float32)
    two = tl.zeros([BC], tl.float32)
    for start in range(0, P, BP):
        p = start + tl.arange(0, BP)
        inside = (p < P)[:, None]
        one += tl.sum(tl.load(PART + p[:, None] * C + c[None, :], mask=inside, other=0.0), 0)
        two += tl.sum(tl.load(PART + (P + p[:, None]) * C + c[None, :], mask=inside, other=0.0), 0)
    off = one / count
    var = tl.maximum(two / count - off * off, 0.0)
    mean = tl.load(X + c).to(tl.float32) + off
    gain = 1.0 / tl.sqrt(var + eps)
    a = tl.load(GAMMA + c) * gain
    tl.store(A + c, a)
    tl.store(B + c, tl.load(BETA + c) - a * mean)
    tl.store(OFFSET + c, mean)
    tl.store(GAIN + c, gain)
    old = tl.load(MEAN + c)
    tl.store(MEAN + c, old + momentum * (mean - old))
    old = tl.load(VAR + c)
    tl.store(VAR + c, old + momentum * (var * (count / tl.maximum(count - 1.0, 1.0)) - old))


@triton.jit(do_not_specialize=["P"])
def sums_end(PART, A, OFFSET, GAIN, SLOPE, REST, DSCALE, DSHIFT, count, P, C, NORM: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr):
    """Gradients of scale and shift from the partial sums, and what batch statistics add to that of x."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    plain = tl.zeros([BC], tl.float32)
    weighted = tl.zeros([BC], tl.float32)
    for start in range(0, P, BP):
        p = start + tl.arange(0, BP)
        inside = (p < P)[:, None]
        plain += tl.sum(tl.load(PART + p[:, None] * C + c[None, :], mask=inside, other=0.0), 0)
        weighted += tl.sum(tl.load(PART + (P + p[:, None]) * C + c[None, :], mask=inside, other=0.0), 0)
    if NORM:
        gain = tl.load(GAIN + c)
        a = tl.load(A + c)
        weighted = weighted * gain
        slope = -(a * weighted / count) * gain
        tl.store(SLOPE + c, slope)
        tl.store(REST + c, -a * plain / count - slope * tl.load(OFFSET + c))
    tl.store(DSCALE + c, weighted)
    tl.store(DSHIFT + c, plain)


