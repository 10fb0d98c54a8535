"""Triton passes over whole maps: OR over windows, attention's counts, thresholds on counts."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pool_forward(X, S, COUNT, n, H, W, HO, WO, stride, padding, C: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr):
    """OR over windows of [images, H, W, C]: S [images, HO, WO, C], and how many spikes each window held."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    c = i % C
    at = i // C
    ox = at % WO
    oy = (at // WO) % HO
    image = at // WO // HO
    total = tl.zeros([BLOCK], tl.float32)
    for ky in tl.static_range(K):
        for kx in tl.static_range(K):
            y = oy * stride - padding + ky
            x = ox * stride - padding + kx
            ok = inside & (y >= 0) & (y < H) & (x >= 0) & (x < W)
            total += tl.load(X + ((image * H + y) * W + x) * C + c, mask=ok, other=0.0).to(tl.float32)
    tl.store(S + i, (total >= 1.0).to(S.dtype.element_ty), mask=inside)
    tl.store(COUNT + i, total.to(tl.int16), mask=inside)


@triton.jit
def pool_backward(
    GRAD, COUNT, OUT, n, H, W, HO, WO, stride, padding, alpha, C: tl.constexpr, K: tl.constexpr, REACH: tl.constexpr, BLOCK: tl.constexpr
):
    """Each site of a window gets the surrogate's slope at the window's count. REACH: windows along an axis that hold a site."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    c = i % C
    at = i // C
    x = at % W
    y = (at // W) % H
    image = at // W // H
    total = tl.zeros([BLOCK], tl.float32)
    for a in tl.static_range(REACH):
        for b in tl.static_range(REACH):
            oy = (y + padding) // stride - a
            ox = (x + padding) // stride - b
            ok = inside & (oy >= 0) & (oy < HO) & (ox >= 0) & (ox < WO)
            ok = ok & (oy * stride - padding + K > y) & (ox * stride - padding + K > x)
            o = ((image * HO + oy) * WO + ox) * C + c
            z = (tl.load(COUNT + o, mask=ok, other=0).to(tl.float32) - 0.5) * (1.5707963 * alpha)
            total += tl.load(GRAD + o, mask=ok, other=0.0).to(tl.float32) * (0.5 * alpha) / (1.0 + z * z)
    tl.store(OUT + i, total.to(OUT.dtype.element_ty), mask=inside)


@triton.jit
def reached_forward(X, OUT, n, bound, BLOCK: tl.constexpr):
    """OUT = 1 where a count reaches `bound`, else 0."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    x = tl.load(X + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(OUT + i, (x >= bound).to(OUT.dtype.element_ty), mask=inside)


@triton.jit
def reached_backward(X, GRAD, OUT, n, bound, alpha, BLOCK: tl.constexpr):
    """The arctan surrogate's slope times GRAD."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    z = (tl.load(X + i, mask=inside, other=0.0).to(tl.float32) - (bound - 0.5)) * (1.5707963 * alpha)
    g = tl.load(GRAD + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(OUT + i, (g * (0.5 * alpha) / (1.0 + z * z)).to(OUT.dtype.element_ty), mask=inside)


@triton.jit
def attention_forward(
    Q, K, V, Y, N: tl.constexpr, C: tl.constexpr, WIDTH: tl.constexpr, BN: tl.constexpr, BW: tl.constexpr, FORM: tl.constexpr
):
    """q (k^T v) of bits for one image, timestep and head. FORM ``tf32`` holds integers up to 2048, so all counts of N tokens."""
    image, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, col = tl.arange(0, BN), tl.arange(0, BW)
    at = image * N * C + row[:, None] * C + head * WIDTH + col[None, :]
    inside = (row < N)[:, None] & (col < WIDTH)[None, :]
    q = tl.load(Q + at, mask=inside, other=0.0).to(tl.float32)
    k = tl.load(K + at, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(V + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.dot(q, tl.dot(tl.trans(k), v, input_precision=FORM), input_precision=FORM)
    tl.store(Y + at, y, mask=inside)


@triton.jit
def attention_backward(
    Q, K, V, G, DQ, DK, DV, N: tl.constexpr, C: tl.constexpr, WIDTH: tl.constexpr, BN: tl.constexpr, BW: tl.constexpr, FORM: tl.constexpr
):
    """Gradients of `attention_forward`."""
    image, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, col = tl.arange(0, BN), tl.arange(0, BW)
    at = image * N * C + row[:, None] * C + head * WIDTH + col[None, :]
    inside = (row < N)[:, None] & (col < WIDTH)[None, :]
    q = tl.load(Q + at, mask=inside, other=0.0).to(tl.float32)
    k = tl.load(K + at, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(V + at, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(G + at, mask=inside, other=0.0)
    kv = tl.dot(tl.trans(k), v, input_precision=FORM)
    tl.store(DQ + at, tl.dot(g, tl.trans(kv), input_precision=FORM).to(DQ.dtype.element_ty), mask=inside)
    dkv = tl.dot(tl.trans(q), g, input_precision=FORM)
    tl.store(DK + at, tl.dot(v, tl.trans(dkv), input_precision=FORM).to(DK.dtype.element_ty), mask=inside)
    tl.store(DV + at, tl.dot(k, dkv, input_precision=FORM).to(DV.dtype.element_ty), mask=inside)
