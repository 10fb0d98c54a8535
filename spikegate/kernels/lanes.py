"""Sums of rows of weights with the running sum in vector registers, written as LLVM code because numba does not vectorise them.

Rows are int16, padded with zeros to whole blocks of `BLOCKS[-1]` lanes. A block of lanes is summed over all rows before the next is begun;
16-bit sums are widened before they could overflow. An event costs one add for each of its synapses; nothing is multiplied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from spikegate.kernels.compiling import compiled, inlined

BLOCKS = (64, 32, 16)  # lanes that are summed together
FEW = 6  # up to so many set bits of 64 are written one by one
RUN = 31  # rows between two widenings: 31 sums of four weights of 8 bits and a sign stay below 2^15


def summing(lanes: int) -> Any:
    """Intrinsic (out, begin, weight, stride, lines, found): ``out = begin + sum of weight[line * stride]`` for one block of lanes.

    Addresses of int32 [lanes], int32 [lanes], int16, int32 [found]; `stride` in values.
    """

    @intrinsic
    def block(typingctx, out, begin, weight, stride, lines, found):
        signature = types.void(types.uintp, types.uintp, types.uintp, types.int64, types.uintp, types.int64)

        def build(context, b, sig, args):
            out, begin, weight, stride, lines, found = args
            i16, i32, i64 = (ir.IntType(n) for n in (16, 32, 64))
            narrow, wide = ir.VectorType(i16, lanes), ir.VectorType(i32, lanes)
            zero, none = ir.Constant(i64, 0), ir.Constant(narrow, [0] * lanes)
            rows, numbers = b.inttoptr(weight, i16.as_pointer()), b.inttoptr(lines, i32.as_pointer())
            first = b.load(b.inttoptr(begin, wide.as_pointer()), align=4)
            entry = b.block
            outer, inner, widen, end = (b.append_basic_block(n) for n in ("outer", "inner", "widen", "end"))
            b.cbranch(b.icmp_signed(">", found, zero), outer, end)

            b.position_at_end(outer)  # up to RUN rows in 16 bits
            start, total = b.phi(i64), b.phi(wide)
            stop = b.add(start, ir.Constant(i64, RUN))
            stop = b.select(b.icmp_signed("<", stop, found), stop, found)
            b.branch(inner)

            b.position_at_end(inner)
            i, run = b.phi(i64), b.phi(narrow)
            line = b.sext(b.load(b.gep(numbers, [i])), i64)
            row = b.bitcast(b.gep(rows, [b.mul(line, stride)]), narrow.as_pointer())
            run_next, i_next = b.add(run, b.load(row, align=2)), b.add(i, ir.Constant(i64, 1))
            i.add_incoming(start, outer)
            i.add_incoming(i_next, inner)
            run.add_incoming(none, outer)
            run.add_incoming(run_next, inner)
            b.cbranch(b.icmp_signed("<", i_next, stop), inner, widen)

            b.position_at_end(widen)
            more = b.add(total, b.sext(run_next, wide))
            start.add_incoming(zero, entry)
            start.add_incoming(stop, widen)
            total.add_incoming(first, entry)
            total.add_incoming(more, widen)
            b.cbranch(b.icmp_signed("<", stop, found), outer, end)

            b.position_at_end(end)
            result = b.phi(wide)
            result.add_incoming(first, entry)
            result.add_incoming(more, widen)
            b.store(result, b.inttoptr(out, wide.as_pointer()), align=4)
            return context.get_dummy_value()

        return signature, build

    return block


_most, _some, _least = (summing(n) for n in BLOCKS)


@inlined
def address(x):
    """Where an array's values begin, int64 (the unsigned number would make floats of sums with signed ones)."""
    return np.int64(x.ctypes.data)


@compiled
def rows_added(out, begin, weight, stride, lines, found):
    """``out = begin + weight[lines[0]] + .. + weight[lines[found - 1]]`` for `stride` lanes, whole blocks; all are addresses."""
    k = 0
    while k + 64 <= stride:
        _most(np.uintp(out + 4 * k), np.uintp(begin + 4 * k), np.uintp(weight + 2 * k), np.int64(stride), np.uintp(lines), np.int64(found))
        k += 64
    if k + 32 <= stride:
        _some(np.uintp(out + 4 * k), np.uintp(begin + 4 * k), np.uintp(weight + 2 * k), np.int64(stride), np.uintp(lines), np.int64(found))
        k += 32
    if k + 16 <= stride:
        _least(np.uintp(out + 4 * k), np.uintp(begin + 4 * k), np.uintp(weight + 2 * k), np.int64(stride), np.uintp(lines), np.int64(found))


def padded(rows: np.ndarray) -> np.ndarray:
    """int16 rows [lines, n] with zeros up to whole blocks."""
    lanes = -(-rows.shape[1] // BLOCKS[-1]) * BLOCKS[-1]
    out = np.zeros((len(rows), lanes), np.int16)
    out[:, : rows.shape[1]] = rows
    return out


def comparing(lanes: int, relation: str) -> Any:
    """Intrinsic (values, than): compares int32 [lanes] at this address with `than`; bit k of the uint64 says whether lane k holds."""

    @intrinsic
    def mask(typingctx, values, than):
        def build(context, b, sig, args):
            given = b.load(b.inttoptr(args[0], ir.VectorType(ir.IntType(32), lanes).as_pointer()), align=4)
            bits = b.bitcast(b.icmp_signed(relation, given, everywhere(b, args[1], lanes)), ir.IntType(lanes))
            return bits if lanes == 64 else b.zext(bits, ir.IntType(64))

        return types.uint64(types.uintp, types.int32), build

    return mask


def everywhere(b: Any, value: Any, lanes: int) -> Any:
    """A vector that holds an int32 in each lane."""
    i32 = ir.IntType(32)
    nothing = ir.Constant(ir.VectorType(i32, lanes), ir.Undefined)
    one = b.insert_element(nothing, value, ir.Constant(i32, 0))
    return b.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(i32, lanes), [0] * lanes))


@intrinsic
def byte_noted(typingctx, bits, base, into):
    """Writes `base` + the number of each bit that is set in the byte `bits` to the address `into`, in 8 lanes (the rest is garbage).

    A table holds the numbers of each byte's set bits, so that there is no branch to predict.
    """

    def build(context, b, sig, args):
        bits, base, into = args
        row = ir.VectorType(ir.IntType(32), 8)
        table = b.module.globals.get("numbers_of_bits")
        if table is None:
            rows = [[i for i in range(8) if byte >> i & 1] for byte in range(256)]
            table = ir.GlobalVariable(b.module, ir.ArrayType(row, 256), "numbers_of_bits")
            table.initializer = ir.Constant(table.value_type, [ir.Constant(row, r + [0] * (8 - len(r))) for r in rows])
            table.linkage, table.global_constant = "internal", True
        zero = ir.Constant(ir.IntType(64), 0)
        numbers = b.load(b.gep(table, [zero, bits]), align=4)
        b.store(b.add(numbers, everywhere(b, base, 8)), b.inttoptr(into, row.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.uint64, types.int32, types.uintp), build


@intrinsic
def lowest(typingctx, mask):
    """Number of the lowest bit that is set, of a uint64 that is not 0."""

    def build(context, b, sig, args):
        return b.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), build


_most_of, _some_of, _least_of, _eight_of = (comparing(n, "!=") for n in (*BLOCKS, 8))
_most_above, _some_above, _least_above, _eight_above = (comparing(n, ">") for n in (*BLOCKS, 8))


@intrinsic
def many(typingctx, mask):
    """How many bits of a uint64 are set."""

    def build(context, b, sig, args):
        return b.ctpop(args[0])

    return types.int64(types.uint64), build


@intrinsic
def get(typingctx, address):
    """The int32 at an address."""

    def build(context, b, sig, args):
        return b.load(b.inttoptr(args[0], ir.IntType(32).as_pointer()), align=4)

    return types.int32(types.uintp), build


@intrinsic
def looked_up(typingctx, address):
    """`get` that stays a load of its own: a loop of them is not turned into gathers, which are slower on many processors."""

    def build(context, b, sig, args):
        return b.load_atomic(b.inttoptr(args[0], ir.IntType(32).as_pointer()), "monotonic", 4)

    return types.int32(types.uintp), build


@intrinsic
def put(typingctx, address, value):
    """Write an int32 to an address."""

    def build(context, b, sig, args):
        b.store(args[1], b.inttoptr(args[0], ir.IntType(32).as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.uintp, types.int32), build


@inlined
def noted(mask, base, lanes, into):
    """Writes `base` + the number of each set bit of `mask` to the address `into`; returns the address behind the last."""
    if lanes == 64 and many(mask) <= FEW:
        while mask:
            put(np.uintp(into), np.int32(base + lowest(mask)))
            into += 4
            mask &= mask - np.uint64(1)
        return into
    for i in range(0, lanes, 8):
        byte = (mask >> np.uint64(i)) & np.uint64(255)
        byte_noted(byte, np.int32(base + i), np.uintp(into))
        into += 4 * many(byte)
    return into


@inlined
def above(at, n, than, into):
    """Numbers of the values int32 [n] at an address that are more than `than`, written to the address `into`; returns how many.

    Behind the last one there has to be room for 8 more.
    """
    c, begin, k = 0, into, np.int32(than)
    while c + 64 <= n:
        into = noted(_most_above(np.uintp(at + 4 * c), k), c, 64, into)
        c += 64
    if c + 32 <= n:
        into = noted(_some_above(np.uintp(at + 4 * c), k), c, 32, into)
        c += 32
    if c + 16 <= n:
        into = noted(_least_above(np.uintp(at + 4 * c), k), c, 16, into)
        c += 16
    if c + 8 <= n:
        into = noted(_eight_above(np.uintp(at + 4 * c), k), c, 8, into)
        c += 8
    while c < n:
        put(np.uintp(into), np.int32(c))
        into += 4 * (get(np.uintp(at + 4 * c)) > k)
        c += 1
    return (into - begin) // 4


@inlined
def occupied(at, n):
    """How many of the values int32 [n] at an address are not 0."""
    c, found = 0, 0
    while c + 64 <= n:
        found += many(_most_of(np.uintp(at + 4 * c), np.int32(0)))
        c += 64
    if c + 32 <= n:
        found += many(_some_of(np.uintp(at + 4 * c), np.int32(0)))
        c += 32
    if c + 16 <= n:
        found += many(_least_of(np.uintp(at + 4 * c), np.int32(0)))
        c += 16
    if c + 8 <= n:
        found += many(_eight_of(np.uintp(at + 4 * c), np.int32(0)))
        c += 8
    while c < n:
        found += get(np.uintp(at + 4 * c)) != 0
        c += 1
    return found
