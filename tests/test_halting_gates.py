"""Token gates and merging alone, against their formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.graph.ir import Payload
from spikegate.ops.base.pairs import neighbours
from spikegate.ops.rectangle_gate import RectangleGate
from spikegate.ops.token_gate import TokenGate
from spikegate.ops.token_merge import ABSORBED, TokenMerge


def play_rectangle(counts: np.ndarray, tables: np.ndarray, theta: int) -> np.ndarray:
    """Credits [gates, T, tokens] of gate 0 and rectangle gates fed with counts [gates, T, tokens]."""
    tokens = counts.shape[2]
    first, *others = [TokenGate(tokens, tables[0], theta), *(RectangleGate(tokens, t, theta) for t in tables[1:])]
    states, out, before = [g.state(1) for g in others], np.zeros_like(counts), first.initial(1)
    for t in range(counts.shape[1]):
        chain = before = first.step({}, {"x": (counts[0, t][None, :, None],), "chain": before}, np.array([t + 1]))
        out[0, t] = chain
        for g, (gate, state) in enumerate(zip(others, states), 1):
            chain = gate.step(state, {"x": (counts[g, t][None, :, None],), "chain": chain}, np.array([t + 1]))
            out[g, t] = chain
    return out


@st.composite
def scores(draw):
    gates, steps, tokens, theta = draw(st.integers(1, 4)), draw(st.integers(1, 5)), 3, draw(st.integers(1, 200))
    tables = np.array(draw(st.lists(st.lists(st.integers(0, 90), min_size=4, max_size=4), min_size=gates, max_size=gates)), np.int32)
    n = draw(st.lists(st.integers(0, 3), min_size=gates * steps * tokens, max_size=gates * steps * tokens))
    return np.array(n, np.int32).reshape(gates, steps, tokens), tables, theta


@settings(max_examples=150, deadline=None)
@given(scores())
def test_rectangle_credits_are_the_double_sum_and_never_come_back(drawn):
    """Property: credit = theta - sum of all scores of blocks so far and timesteps so far, clipped at 0; it only falls."""
    counts, tables, theta = drawn
    credits = play_rectangle(*drawn)
    h = np.stack([tables[g][counts[g]] for g in range(len(tables))])
    assert np.array_equal(credits, np.maximum(theta - h.cumsum(0).cumsum(1), 0))
    assert (np.diff(credits, axis=1) <= 0).all() and (np.diff(credits, axis=0) <= 0).all()


@settings(max_examples=80, deadline=None)
@given(scores())
def test_serial_credits_are_the_running_sum(drawn):
    counts, tables, theta = drawn
    gates = [TokenGate(counts.shape[2], t, theta) for t in tables]
    left, total = gates[0].initial(1), np.zeros(counts.shape[2])
    for t, g in itertools.product(range(counts.shape[1]), range(len(gates))):
        left = gates[g].step({}, {"x": (counts[g, t][None, :, None],), "chain": left}, np.array([t + 1]))
        total += tables[g][counts[g, t]]
        assert np.array_equal(left[0], np.maximum(theta - total, 0))


@pytest.mark.parametrize("kind", [TokenGate, RectangleGate])
def test_a_wide_score_is_the_sum_over_its_channels(kind):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 99, 13).astype(np.int32)
    x, y = (rng.integers(0, 3, (2, 5, 6)).astype(np.int32) for _ in range(2))
    wide, narrow = kind(5, table, 500, channel=2, width=3), kind(5, table, 500)
    chain = np.array([[500, 3, 0, 40, 500], [1, 500, 500, -1, 9]], np.int32)
    one = np.array([1, 1])
    summed = (x + y)[..., 2:5].sum(-1, keepdims=True)
    a = wide.step(wide.state(2), {"x": (x, y), "chain": chain}, one)
    assert np.array_equal(a, narrow.step(narrow.state(2), {"x": (summed,), "chain": chain}, one))
    short = list(kind(5, table[:-1], 500, channel=2, width=3).problems({"x": [(5, 6)]}, {"x": [Payload(0, 2), Payload(0, 2)]}))
    assert len(short) == 1 and "reaches 12" in short[0][0]
    assert not list(wide.problems({"x": [(5, 6)]}, {"x": [Payload(0, 2), Payload(0, 2)]}))
    assert "channel 4" in next(iter(wide.problems({"x": [(5, 4)]}, {})))[0]


def test_candidate_pairs_are_neighbours_in_a_row():
    kept, absorbed = neighbours((2, 5))
    assert kept.tolist() == [0, 2, 5, 7] and absorbed.tolist() == [1, 3, 6, 8]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_merging_equals_its_formula_and_the_decision_stays(data):
    """Property, against plain loops: decision at t = 1 from spikes, smaller credit for the pair, absorbed for good."""
    height, width, channels = 2, data.draw(st.integers(2, 5)), 4
    tokens, delta, theta = height * width, data.draw(st.integers(-1, 5)), 20
    size = tokens * channels
    x = np.array(data.draw(st.lists(st.integers(0, 2), min_size=2 * size, max_size=2 * size))).reshape(2, tokens, channels).astype(np.int32)
    first, later = (np.array(data.draw(st.lists(st.integers(0, theta), min_size=tokens, max_size=tokens)), np.int32) for _ in range(2))
    op = TokenMerge((height, width), channels, delta, theta)
    state = op.state(1)
    outs = [op.step(state, {"x": (x[t][None],), "chain": c[None]}, np.array([t + 1]))[0] for t, c in enumerate((first, later))]
    for row, column in itertools.product(range(height), range(width // 2)):
        a = row * width + 2 * column
        b = a + 1
        p, q = set(np.flatnonzero(x[0, a])), set(np.flatnonzero(x[0, b]))
        merged = first[a] > 0 and first[b] > 0 and 2 * len(p & q) >= len(p) + len(q) - delta
        want = [(min(first[a], first[b]), ABSORBED), (later[a], ABSORBED)] if merged else [(first[a], first[b]), (later[a], later[b])]
        assert [(o[a], o[b]) for o in outs] == want
    if width % 2:
        assert all(np.array_equal(o[width - 1 :: width], c[width - 1 :: width]) for o, c in zip(outs, (first, later)))
