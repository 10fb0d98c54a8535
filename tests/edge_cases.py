"""Ops at the ends of their ranges: equal to a threshold, one token, one class, busy maps, weight 0, signed events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from spikegate.graph.ir import OPS, Inputs, Op, load_ops
from spikegate.neurons.cuba import Cuba
from spikegate.neurons.leaky import Alif, Leaky
from spikegate.neurons.resonator import Adrf, RfIz
from spikegate.neurons.sigma_delta import Delta, Passive, SigmaDelta

load_ops()
NONE = np.zeros(0, np.int32)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def repeated(steps: int, make: Any) -> list[Inputs]:
    return [make() for _ in range(steps)]


def edges(rng: np.random.Generator) -> Iterator[tuple[Op, list[Inputs]]]:
    """(op, inputs for each timestep), as `Op.examples` yields them."""
    yield from gates(rng)
    yield from layers(rng)
    yield from blocks(rng)


def gates(rng: np.random.Generator) -> Iterator[tuple[Op, list[Inputs]]]:
    z = rng.integers(-50, 50, (6, 10)).astype(np.int32)
    z[0], z[1, :3] = 7, 90
    z[2] = ints(*range(10)) * 10
    margins = ints(10, 10, 0)
    yield OPS["exit_gate"](10, 3, margins, "threshold_then_argmax"), [{"logits": z}, {"logits": z[::-1].copy()}, {"logits": z}]
    yield OPS["exit_gate"](1, 3, margins, "threshold_then_argmax"), [{"logits": z[:, :1]} for _ in range(3)]
    many = rng.integers(0, 300, (50, 60)).astype(np.int32)
    yield OPS["exit_gate"](60, 2, ints(5, 0), "threshold_then_argmax"), [{"logits": many}]
    two = OPS["exit_gate"](2, 2, ints(10, 10), "threshold_then_argmax")
    yield two, [{"logits": ints([3, 13], [13, 3], [4, 13]), "alive": ints([1], [0], [-1])}]
    table = ints(0, 1, 2, 900)
    x = rng.integers(0, 4, (3, 5, 2)).astype(np.int32)
    credits = ints([1, 2, 3, 900, -1], [0, 1, 2, 901, 5], [2, 2, 2, 2, 2])
    for kind in ("token_gate", "rectangle_gate"):
        yield OPS[kind](5, table, 901, 1), [{"x": (y,), "chain": c} for y, c in ((x, credits), (x, credits[::-1].copy()), (x, credits))]
        yield OPS[kind](5, table, 3), [{"x": (x,)}, {"x": (x,)}]
    after = ints([1, -1, 0, -1], [2, -1, -1, 1], [1, 0, 1, -1])
    yield OPS["token_move"]((2, 2), 3, 4), repeated(2, lambda: {"x": (rng.integers(0, 3, (3, 4, 3)).astype(np.int32),), "after": after})
    alike = np.tile(rng.integers(0, 2, (3, 3, 1, 4)), (1, 1, 2, 1)).reshape(3, 6, 4).astype(np.int32)
    for chain in (ints([1, 1, 0, 1, 1, 0], [2, 1, 1, 2, -1, 1], [1, 9, 9, 1, 0, 0]), rng.integers(0, 3, (3, 6)).astype(np.int32)):
        yield OPS["token_merge"]((3, 2), 4, 0, 9), [{"x": (alike,), "chain": chain}, {"x": (alike,), "chain": np.maximum(chain - 1, 0)}]
    for mask in ([0, 0, 1], [0, 1, 0]):
        yield OPS["timestep_gate"](ints(*mask), "hold"), [{} for _ in range(3)]
    head = OPS["readout"](rng.integers(-30, 30, (3, 4, 5)) * 2, rng.integers(-9, 9, 3), 5)
    walk = [ints([1, 1, -1, 5]), ints([1, 0, -1, 5]), ints([0, 0, -1, 5]), ints([0, 0, -1, 0])]
    bits = lambda alive: rng.integers(0, 2, (1, 4, 5)).astype(np.int32) * (alive > 0)[..., None]  # noqa: E731
    yield head, [{"x": (bits(a), bits(a)), "before": a, "after": b} for a, b in pairwise(walk)]
    unmasked = lambda: rng.integers(0, 2, (1, 4, 5)).astype(np.int32)  # noqa: E731
    yield head, [{"x": (unmasked(),), "before": a, "after": b} for a, b in pairwise(walk)]


def layers(rng: np.random.Generator) -> Iterator[tuple[Op, list[Inputs]]]:
    def busy(*shape: int, high: int = 1) -> np.ndarray:
        return rng.integers(1 if high > 1 else 0, high + 1, shape).astype(np.int32)

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-20, 21, shape) * 2

    alive = ints([1, 0, 2, 0, 5, 1], [0, 0, 0, 0, 0, 0], [1] * 6)
    mixed = OPS["conv"](weight(40, 70, 1, 1), rng.integers(-9, 9, 40), (2, 3), neuron=Cuba(1000, 2048, 60))
    yield mixed, repeated(3, lambda: {"x": (busy(3, 6, 70), busy(3, 6, 70)), "alive": alive})
    yield mixed, repeated(2, lambda: {"x": (busy(3, 6, 70, high=9),)})
    yield mixed, repeated(2, lambda: {"x": (busy(3, 6, 70, high=9),), "alive": alive})
    wide = OPS["conv"](weight(20, 18, 3, 3), rng.integers(-9, 9, 20), (4, 4), 1, 1, neuron=Cuba(4096, 300, 60))
    yield wide, repeated(2, lambda: {"x": (busy(2, 16, 18, high=5),)})
    grouped = OPS["conv"](weight(8, 4, 2, 2), rng.integers(-9, 9, 8), (4, 4), 2, 0, 2, Cuba(4096, 4096, 20))
    yield grouped, repeated(2, lambda: {"x": (busy(2, 16, 8, high=6),)})
    exact = OPS["lif"]((4, 9), Cuba(4096, 4096, 10))  # equal to the threshold, one above it
    yield exact, [{"x": (np.full((1, 4, 9), v, np.int32),)} for v in (10, 11, -10)]
    steps = OPS["lif"]((4, 9), Cuba(4096, 4096, 10, "subtract", 5, 3))  # each threshold, one above it, above the last
    yield steps, [{"x": (np.full((1, 4, 9), v, np.int32),)} for v in (10, 11, 15, 16, 20, 21, 26, -10)]
    for levels, theta in ((20, 3), (2, 40), (1, 1)):
        op = OPS["level_conv"](np.full((3, 1, 1, 1), 2), ints(-1, 0, 3), (3, 3), theta, levels)
        yield op, [{"x": (np.arange(9).reshape(1, 9, 1).astype(np.int32) * 10,)}, {"x": (busy(1, 9, 1),)}]
    dense = OPS["dense"](weight(33, 50), rng.integers(-9, 9, 33), Cuba(4096, 2048, 30))
    yield dense, repeated(3, lambda: {"x": (busy(2, 50), busy(2, 50))})
    for heads, exponent, order in ((1, 0, "kv"), (3, 2, "qk"), (3, 4, "kv")):
        attention = OPS["spiking_attention"](5, 30, heads, exponent, Cuba(4096, 2048, 2**exponent * 2 - 1), order)
        yield attention, repeated(2, lambda: {s: busy(2, 5, 30) for s in "qkv"})
    yield OPS["max_pool"]((3, 5), 4, 3, 2, 1), repeated(2, lambda: {"x": (rng.random((2, 15, 4)) < 0.15).astype(np.int32)})
    word = lambda w: np.full((2, 1), w, np.int32)  # noqa: E731
    held = OPS["lif"]((2, 3), Cuba(1000, 300, 5))
    yield held, [{"x": (busy(2, 2, 3, high=9),), "open": word(w)} for w in (1, 3, 3, 1)]


def blocks(rng: np.random.Generator) -> Iterator[tuple[Op, list[Inputs]]]:
    def signed(*shape: int) -> np.ndarray:
        return rng.integers(-3, 4, shape).astype(np.int32)

    w, imag, bias = rng.integers(-60, 61, (7, 12)), rng.integers(-60, 61, (7, 12)), rng.integers(-9, 10, 7)
    dense = OPS["block_dense"]
    real = [Leaky(3000, 100, 90, -2), Leaky(900, 100, 90, 1, "voltage"), Alif(1024, 300, 4000, 200, 2, 30, 1), SigmaDelta(1, 0), Passive()]
    for neuron in real:
        yield dense(w, NONE, bias, neuron), repeated(4, lambda: {"x": (signed(2, 12), signed(2, 12))})
        yield dense(w, NONE, bias[:1], neuron), repeated(3, lambda: {"x": (signed(2, 12),)})
    for neuron in (RfIz(900, 3900, 3), Adrf(1500, 3700, rng.integers(0, 4097, 7), 900, 2, 10)):
        yield dense(w, imag, np.zeros(7, np.int32), neuron), repeated(9, lambda: {"x": (signed(2, 12),)})
    for weight, shift in ((0, 5), (1, 0), (-3, -2)):
        for neuron in (Leaky(4096, 1024, 1), Delta(1, 0), Delta(0, 2)):
            op = OPS["block_input"]((4, 2), weight, shift, neuron)
            yield op, repeated(3, lambda: {"x": (rng.integers(-64, 65, (2, 4, 2)).astype(np.int32),)})
    exact = dense(np.eye(3, dtype=np.int32), NONE, np.zeros(1, np.int32), SigmaDelta(1, 0))  # changes of 64 and of one less
    yield exact, [{"x": (ints([64, 63, -64]),)}, {"x": (ints([-64, 1, 200]),)}]
    reset = dense(np.eye(3, dtype=np.int32), NONE, np.zeros(1, np.int32), Alif(4096, 4096, 4096, 4096, 5, 2))
    yield reset, [{"x": (ints([5, 4, 6]),)}, {"x": (ints([5, 7, 17]),)}]
    yield OPS["axon_delay"]((5,), ints(0, 1, 2, 3, 0)), repeated(5, lambda: {"x": (rng.integers(0, 2, (2, 5)).astype(np.int32),)})
    yield OPS["block_average"]((6,), 3, 9), repeated(2, lambda: {"x": (signed(2, 6), signed(2, 6))})
    pool = OPS["block_pool"](rng.integers(1, 40, (1, 1, 2, 3)), NONE, ints(3, -2), (3, 4), 2, (2, 1), (0, 1), neuron=Leaky(4096, 1000, 60))
    yield pool, repeated(3, lambda: {"x": (rng.integers(0, 2, (2, 12, 2)).astype(np.int32),)})
