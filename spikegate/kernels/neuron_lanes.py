"""Voltages of CUBA neurons in vector registers, block by block: state and inputs are read once, spikes are counted as bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from spikegate.kernels.compiling import inlined
from spikegate.kernels.lanes import everywhere, get, put

LIMIT = 1 << 23  # of the chip's 24-bit registers
CLIPPED = 1 << 32  # added to a number of spikes where a voltage was clipped


def updating(lanes: int, shifts: bool) -> Any:
    """Intrinsic (acc, up, v, keep, theta, step, fires, out) for one block: ``v = dec(v) + 2^up acc``, spikes, reset; see `update_voltages`.

    Addresses of int32 [lanes] for `acc`, `v` and `out`. Returns the number of spikes, plus `CLIPPED` where a voltage was clipped.
    """

    @intrinsic
    def block(typingctx, acc, up, v, keep, theta, step, fires, out):
        def build(context, b, sig, args):
            acc, up, v, keep, theta, step, fires, out = args
            i32, i64 = ir.IntType(32), ir.IntType(64)
            vector = ir.VectorType(i32, lanes)

            def same(value: int) -> Any:
                return ir.Constant(vector, [value] * lanes)

            def bits(mask: Any) -> Any:
                return b.zext(b.bitcast(mask, ir.IntType(lanes)), i64)

            state = b.inttoptr(v, vector.as_pointer())
            x = b.load(state, align=4)
            sign = b.ashr(x, same(31))
            if shifts:
                by = b.sub(keep, ir.Constant(i32, 4096))
                rest = b.sub(b.shl(ir.Constant(i32, 1), by), ir.Constant(i32, 1))
                left = b.ashr(b.add(x, b.and_(sign, everywhere(b, rest, lanes))), everywhere(b, by, lanes))
            else:
                part, size = everywhere(b, keep, lanes), b.sub(b.xor(x, sign), sign)
                low = b.lshr(b.mul(b.and_(size, same(4095)), part), same(12))
                kept = b.add(b.mul(b.lshr(size, same(12)), part), low)
                left = b.sub(b.xor(kept, sign), sign)
            current = b.shl(b.load(b.inttoptr(acc, vector.as_pointer()), align=4), everywhere(b, up, lanes))
            raw = b.add(left, current)
            below = b.select(b.icmp_signed("<", raw, same(LIMIT - 1)), raw, same(LIMIT - 1))
            within = b.select(b.icmp_signed(">", below, same(1 - LIMIT)), below, same(1 - LIMIT))
            may = b.icmp_signed("!=", everywhere(b, fires, lanes), same(0))
            spikes = b.and_(b.icmp_signed(">", within, everywhere(b, theta, lanes)), may)
            b.store(b.zext(spikes, vector), b.inttoptr(out, vector.as_pointer()), align=4)
            soft = b.sext(b.icmp_signed("!=", step, ir.Constant(i32, 0)), i32)  # all bits where a spike subtracts
            after = b.sub(b.and_(within, everywhere(b, soft, lanes)), everywhere(b, step, lanes))
            b.store(b.select(spikes, after, within), state, align=4)
            clipped = b.icmp_unsigned("!=", bits(b.icmp_signed("!=", within, raw)), ir.Constant(i64, 0))
            return b.add(b.ctpop(bits(spikes)), b.select(clipped, ir.Constant(i64, CLIPPED), ir.Constant(i64, 0)))

        places, number = types.uintp, types.int32
        return types.int64(places, number, places, number, number, number, number, places), build

    return block


_many_shift, _some_shift = updating(32, True), updating(8, True)
_many_keep, _some_keep = updating(32, False), updating(8, False)


@inlined
def update_voltages(acc, up, v, n, v_keep, rule, fires, out):
    """Voltages ``v = dec(v) + 2^up acc`` of n neurons, and their spikes; all are addresses of int32 [n].

    Returns how many neurons fire, and in how many blocks a voltage was clipped. `rule` as of `neurons.cuba.Cuba.rule`.
    `v_keep` below 4096 is 4096 minus the decay: |v| is multiplied by ``v_keep / 4096``; from 4096 on, the voltage is shifted right by
    ``v_keep - 4096``.
    """
    k, found, theta, step = 0, np.int64(0), np.int32(rule[0]), np.int32(rule[1])
    if v_keep >= np.int32(4096):
        while k + 32 <= n:
            found += _many_shift(np.uintp(acc + 4 * k), up, np.uintp(v + 4 * k), v_keep, theta, step, fires, np.uintp(out + 4 * k))
            k += 32
        while k + 8 <= n:
            found += _some_shift(np.uintp(acc + 4 * k), up, np.uintp(v + 4 * k), v_keep, theta, step, fires, np.uintp(out + 4 * k))
            k += 8
    else:
        while k + 32 <= n:
            found += _many_keep(np.uintp(acc + 4 * k), up, np.uintp(v + 4 * k), v_keep, theta, step, fires, np.uintp(out + 4 * k))
            k += 32
        while k + 8 <= n:
            found += _some_keep(np.uintp(acc + 4 * k), up, np.uintp(v + 4 * k), v_keep, theta, step, fires, np.uintp(out + 4 * k))
            k += 8
    while k < n:
        raw = np.int32(left(get(np.uintp(v + 4 * k)), v_keep) + (get(np.uintp(acc + 4 * k)) << up))
        within = min(max(raw, np.int32(1 - LIMIT)), np.int32(LIMIT - 1))
        spike = np.int32(within > theta) & fires
        put(np.uintp(out + 4 * k), spike)
        put(np.uintp(v + 4 * k), within if not spike else within - step if step else np.int32(0))
        found += np.int64(spike) + (CLIPPED if within != raw else 0)
        k += 1
    if rule[2] > 1 and found & (CLIPPED - 1):
        fire_again(v, n, theta, step, np.int32(rule[2]), out)
    return found & (CLIPPED - 1), found >> 32


@inlined
def fire_again(v, n, theta, step, levels, out):
    """The second and further spikes of neurons that fired: one more for each step that the voltage stays above the threshold."""
    for k in range(n):
        s, x = get(np.uintp(out + 4 * k)), get(np.uintp(v + 4 * k))
        if s and x > theta:
            while s < levels and x > theta:
                s += np.int32(1)
                x -= step
            put(np.uintp(out + 4 * k), s)
            put(np.uintp(v + 4 * k), x)


@inlined
def left(x, keep):
    """One voltage after its decay."""
    if keep >= np.int32(4096):
        by = keep - np.int32(4096)
        return np.int32((x + ((x >> np.int32(31)) & ((np.int32(1) << by) - np.int32(1)))) >> by)
    return kept(x, keep)


@inlined
def kept(x, keep):
    """``sign(x) * (|x| keep >> 12)`` of a 24-bit x in 32 bits: ``|x| = 4096 h + l`` gives ``h keep + (l keep >> 12)``."""
    sign = x >> np.int32(31)
    size = (x ^ sign) - sign
    rest = (size >> np.int32(12)) * keep + (((size & np.int32(4095)) * keep) >> np.int32(12))
    return np.int32((rest ^ sign) - sign)
