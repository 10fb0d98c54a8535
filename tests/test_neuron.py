"""The compiled neuron step against the equations of its docstring, number by number, and the compiled counters against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spikegate.kernels import counting
from spikegate.kernels.cuba_loops import cuba, update_all
from spikegate.neurons.cuba import LIMIT, SHIFTS, Cuba, RegisterOverflow, Strict, decay
from spikegate.neurons.leaky import Leaky

SHAPE = 3, 2, 5  # batch, tokens, channels
DECAYS = st.one_of(st.sampled_from([0, 2048, 4095, 4096, *SHIFTS]), st.integers(0, 4096))


def dec(x: int, d: int) -> int:
    return (1 if x >= 0 else -1) * (abs(x) * (4096 - d) >> 12)


def one(neuron: Cuba, u: int, v: int, x: int, b: int, hold: bool) -> tuple[int, int, int]:
    """u, v and spike of one neuron after a timestep, in Python's integers."""
    u = (dec(u, neuron.i_decay) + 64 * x + LIMIT - 1) % (2 * LIMIT) - LIMIT + 1
    v = max(1 - LIMIT, min(LIMIT - 1, dec(v, neuron.v_decay) + u + 64 * b))
    if neuron.reset == "subtract":
        above = [k for k in range(neuron.levels) if v - 64 * k * (neuron.v_step or neuron.vth) > 64 * neuron.vth and not hold]
        return u, v - 64 * len(above) * (neuron.v_step or neuron.vth), len(above)
    s = int(v > 64 * neuron.vth and not hold)
    return u, 0 if s else v, s


RESETS = st.one_of(st.just({}), st.builds(lambda step, levels: {"reset": "subtract", "v_step": step, "levels": levels},
                                          st.sampled_from([0, 1, 50, 4095, 9000]), st.sampled_from([1, 1, 2, 5, 127])))  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    i_decay=st.one_of(st.just(4096), DECAYS), v_decay=DECAYS, vth=st.integers(1, 4095), seed=st.integers(0, 2**32 - 1),
    reach=st.sampled_from([3, 300, 20_000, 200_000]), masked=st.booleans(), held=st.booleans(),
    kind=st.sampled_from([np.int32, np.float32]), reset=RESETS,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*leaves its 24 bits")
def test_the_compiled_step_is_the_equation(i_decay, v_decay, vth, seed, reach, masked, held, kind, reset):
    """Any decay and reset, overflow included; rows that are not selected keep their state."""
    rng, neuron = np.random.default_rng(seed), Cuba(i_decay, v_decay, vth, **reset)
    state, bias = neuron.state(SHAPE), rng.integers(-4095, 4096, SHAPE[-1])
    expected = {n: a.copy() for n, a in state.items()}
    for _ in range(4):
        rows = rng.random(SHAPE[:2]) < 0.6 if masked else None
        hold = rng.random(SHAPE[0]) < 0.5 if held else None
        x = rng.integers(-reach, reach + 1, SHAPE)
        Strict.raises = False
        try:
            found = neuron.step(state, (x if rows is None else x[rows]).astype(kind), bias, rows, hold)
        finally:
            Strict.raises = True
        spikes = np.zeros(SHAPE, np.int32)
        for at in np.ndindex(SHAPE):
            if rows is not None and not rows[at[:2]]:
                continue
            before = int(expected["u"][at]) if "u" in expected else 0
            u, expected["v"][at], spikes[at] = one(
                neuron, before, int(expected["v"][at]), int(x[at]), int(bias[at[2]]), hold is not None and bool(hold[at[0]])
            )
            if "u" in expected:
                expected["u"][at] = u
        assert np.array_equal(found, spikes if rows is None else spikes[rows])
        assert all(np.array_equal(state[name], value) for name, value in expected.items())


@pytest.mark.parametrize("v_decay", [2048, 1000])
@pytest.mark.parametrize("current, what", [(1 << 17, "current u"), ((1 << 17) - 1, "voltage v")])
def test_an_overflow_is_told_by_register(v_decay, current, what):
    neuron = Cuba(4096, v_decay, 64)
    with pytest.raises(RegisterOverflow, match=what):
        neuron.step(neuron.state((1, 1)), np.array([[current]]), 4095, None)


@settings(deadline=None)
@given(x=hnp.arrays(np.int32, (4, 7), elements=st.integers(-(2**31) + 1, 2**31 - 1)), d=st.integers(0, 4096))
def test_decay_rounds_towards_zero(x, d):
    assert np.array_equal(decay(x, d), np.vectorize(dec, otypes=[np.int64])(x.astype(object), d))


@settings(deadline=None)
@given(x=hnp.arrays(st.sampled_from([np.bool_, np.int32, np.int64]), (4, 9)), seed=st.integers(0, 99))
def test_counters_are_numpys(x, seed):
    fanout = np.random.default_rng(seed).integers(0, 600, 9)
    small = x % 1000 if x.dtype != np.bool_ else x
    assert np.array_equal(counting.nonzeros(x), np.count_nonzero(x, axis=1))
    assert np.array_equal(counting.sums(small), small.sum(1, dtype=np.int64))
    assert np.array_equal(counting.weighted(small, fanout), small.astype(np.int64) @ fanout)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([1, 7, 8, 31, 33, 64, 100]), DECAYS, st.integers(0, 4096), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1),
    RESETS,
)  # fmt: skip
def test_blocks_of_neurons_equal_the_loop_in_64_bits(n, v_decay, i_decay, current, gated, seed, reset):
    """Any width, living positions anywhere, registers up to their ends: spikes, state, counts and flags."""
    rng, positions, neuron = np.random.default_rng(seed), 5, Cuba(i_decay, v_decay, 900, **reset)
    x = rng.integers(1 - (1 << 17), 1 << 17, (6, positions, n)).astype(np.int32)
    credit = rng.integers(0, 2, (6, positions if gated else 0)).astype(np.int32)
    hold, bias = rng.integers(0, 2, 6).astype(bool), rng.integers(-100, 100, n)
    v = rng.integers(1 - LIMIT, LIMIT, (3, positions, n)).astype(np.int32)
    u = rng.integers(1 - LIMIT, LIMIT, (3, positions, n)).astype(np.int32) if current else np.zeros((3, 0, n), np.int32)
    found = []
    for wide in (False, True):
        state, spikes, fired = (u.copy(), v.copy()), np.full(x.shape, -1, np.int32), np.zeros(6, np.int64)
        args = x, credit, *state, 2
        if wide:
            flags = cuba(*args, bias, i_decay, v_decay, neuron.rule, LIMIT, hold, spikes, fired)
        else:
            flags = update_all(*args, bias.astype(np.int32), *neuron.keeps, neuron.rule, hold, spikes, fired)
        found.append((*state, spikes, fired, flags))
    assert all(np.array_equal(a, b) for a, b in zip(*found))


@pytest.mark.parametrize("current, what", [(1 << 17, "current u"), ((1 << 17) - 1, "voltage v")])
def test_a_block_tells_its_overflow_by_register(current, what):
    neuron, x = Leaky(4096, 2048, 64), np.full((1, 1, 1), current, np.int64)
    for call in (lambda: neuron.step(neuron.state((1, 1, 1)), x, 4095), lambda: neuron.steps(neuron.state((1, 1, 1)), x, 4095, 1)):
        with pytest.raises(RegisterOverflow, match=what):
            call()


@pytest.mark.filterwarnings("ignore:.*leaves its 24 bits")
def test_a_sent_voltage_clips_at_both_ends():
    neuron, most = Leaky(4096, 0, 64, 0, "voltage"), (1 << 17) - 1
    Strict.raises = False
    try:
        for sign in (1, -1):
            x = np.full((2, 1, 1), sign * most, np.int64)
            swept, _ = neuron.steps(neuron.state((1, 1, 1)), x, sign * 4095, 2)
            assert swept.ravel().tolist() == [sign * (LIMIT - 1)] * 2
            assert neuron.step(neuron.state((1, 1, 1)), x[:1], sign * 4095).item() == sign * (LIMIT - 1)
    finally:
        Strict.raises = True
