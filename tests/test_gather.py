"""Event-driven sums by target: equal to the convolution itself for any geometry, density and number of channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.graph.ir import Sources, merged
from spikegate.graph.signals import NO_CREDIT
from spikegate.kernels import gather, scatter
from spikegate.kernels.coincidences import attention
from spikegate.kernels.compiling import compiled
from spikegate.kernels.cuba_loops import LANES
from spikegate.kernels.lanes import RUN, above, address, occupied, padded, rows_added
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.synapses.taps import Taps, convolution


@compiled
def _listed(values, than, into):
    return above(address(values), len(values), than, address(into)), occupied(address(values), len(values))


@compiled
def _added(begin, rows, lines, found, out):
    rows_added(address(out), address(begin), address(rows), rows.shape[1], address(lines), found)


@settings(deadline=None)
@given(st.integers(0, 200), st.floats(0, 1), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_values_above_a_bound_are_found_in_order(n, density, than, seed):
    rng = np.random.default_rng(seed)
    values = ((rng.random(n) < density) * rng.integers(-9, 10, n)).astype(np.int32)
    into = np.full(n + gather.BLOCK, -1, np.int32)
    found, count = _listed(values, than, into)
    assert count == np.count_nonzero(values)
    assert np.array_equal(into[:found], np.flatnonzero(values > than))
    assert (into[n + gather.BLOCK - 1 :] == -1).all()  # no more than the room behind the last one is used


@settings(deadline=None)
@given(st.integers(1, 9), st.sampled_from([1, 10, 16, 24, 33, 64, 100, 208]), st.integers(0, 3 * RUN), st.integers(0, 2**32 - 1))
def test_rows_are_added_whatever_their_width(many, n, found, seed):
    rng = np.random.default_rng(seed)
    rows = padded(rng.integers(-1024, 1017, (many, n)))  # as large as the sums of four weights are
    lines = rng.integers(0, many, found + 1).astype(np.int32)
    begin, out = rng.integers(-4095, 4096, rows.shape[1]).astype(np.int32), np.empty(rows.shape[1], np.int32)
    _added(begin, rows, lines, found, out)
    assert np.array_equal(out, begin + rows[lines[:found]].astype(np.int64).sum(0))


def test_the_largest_weights_do_not_overflow_16_bits():
    rows, lines = padded(np.full((1, 16), -1024)), np.zeros(10 * RUN, np.int32)
    out = np.empty(16, np.int32)
    _added(np.zeros(16, np.int32), rows, lines, len(lines), out)
    assert (out == -10240 * RUN).all()


@st.composite
def layers(draw) -> tuple[Taps, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kernel, stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3))), (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding, dilation = (draw(st.integers(0, 2)), draw(st.integers(0, 2))), (draw(st.integers(1, 2)), 1)
    grid = draw(st.integers(5, 8)), draw(st.integers(5, 8))
    channels, outputs = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    taps = convolution(rng.integers(-128, 128, (outputs, channels, *kernel)) * 2, grid, stride, padding, dilation, 1)
    high = draw(st.sampled_from([1, 1, 2, 8, 9]))
    shape = (draw(st.integers(1, 3)), *taps.inputs)
    x = (rng.random(shape) < draw(st.floats(0, 1))) * rng.integers(1, high + 1, shape)
    return taps, x.astype(np.int32)


@settings(deadline=None)
@given(layers())
def test_sums_and_counts_are_those_of_the_convolution(layer):
    taps, x = layer
    taps.__dict__["share"] = 2.0  # never as a product
    whole = Sources((x,)).merged
    sums, synops, arrived = taps.sums(whole)
    assert np.array_equal(sums, taps.current(x))
    assert np.array_equal(synops, (x.reshape(len(x), -1) * taps.fanout.ravel()).sum(1))
    assert np.array_equal(arrived, np.count_nonzero(x, axis=(1, 2)))
    assert (whole.found, whole.high, whole.units) == (np.count_nonzero(x), x.max(initial=0), x.sum())
    assert (taps.arguments(whole, NO_CREDIT) is None) == (x.max(initial=0) > gather.UNITS)


def test_weights_that_16_bits_cannot_add_go_another_way():
    taps = Taps(np.full((2, 60, 1, 1), 30_000))
    x = np.ones((1, 1, 60), np.int32)
    assert np.array_equal(taps.sums(Sources((x,)).merged)[0], np.full((1, 1, 2), 1_800_000))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_sums_of_sources_and_their_ends(sources, seed):
    rng = np.random.default_rng(seed)
    maps = [rng.integers(-3, 4, (2, 5, 11)).astype(np.int32) * (rng.random((2, 5, 11)) < 0.5) for _ in range(sources)]
    found = Sources(maps).merged
    whole = sum(maps)
    assert np.array_equal(found.total, whole)
    assert np.array_equal(found.events, sum(np.count_nonzero(m, axis=2) for m in maps))
    assert (found.high, found.low, found.units) == (max(0, whole.max()), min(0, whole.min()), whole.sum())
    assert scatter.first(whole.astype(np.int32), np.empty((2, 5), np.int32))[0] == np.count_nonzero(whole)


@pytest.mark.parametrize("heads", [1, 2, 4])
@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0, 1))
def test_attention_counts_the_same_in_both_orders(heads, seed, density):
    rng = np.random.default_rng(seed)
    q, k, v = ((rng.random((2, 6, 8)) < density).astype(np.int32) for _ in range(3))
    credit = rng.integers(0, 2, (2, 6)).astype(np.int32)
    wanted = np.einsum("mihc,mjhc,mjhe->mihe", *(x.reshape(2, 6, heads, -1) for x in (q, k, v))).reshape(q.shape) * credit[..., None]
    for order in (True, False):
        y, work, arrived = np.full_like(q, -1), np.empty(2, np.int64), np.empty(2, np.int64)
        attention(q, k, v, credit, heads, order, y, work, arrived)
        assert np.array_equal(y * credit[..., None], wanted)
        assert np.array_equal(arrived, (q + k + v).sum((1, 2)))
        split = [x.reshape(2, 6, heads, -1).astype(np.int64) for x in (q, k, v)]
        first = np.einsum("mjhc,mjhe->mhce", *split[1:]) if order else np.einsum("mihc,mjhc->mhij", *split[:2])
        second = (np.einsum("mihc,mhc->m", split[0], (first != 0).sum(3)) if order
                  else np.einsum("mjhe,mhj->m", split[2], (first != 0).sum(2)))
        assert np.array_equal(work, first.sum((1, 2, 3)) + second)


def test_compiled_kernels_are_kept_by_the_text_of_all_their_files(tmp_path, monkeypatch):
    import re
    from pathlib import Path

    from spikegate.kernels import compiling

    folder = Path(compiling.__file__).parent
    kernels = {p.stem for p in folder.rglob("*.py") if re.search(r"^@(compiled|inlined|intrinsic)", p.read_text(), re.M)}
    assert kernels | {"compiling", "counters"} == set(compiling.FILES)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    first = compiling.place()
    first.mkdir()
    for name in compiling.FILES:
        (tmp_path / f"{name}.py").write_text((folder / f"{name}.py").read_text() + ("# other\n" if name == "lanes" else ""))
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "compiling.py"))
    assert compiling.place() != first and not first.exists()


def test_more_positions_than_are_summed_together_with_dead_ones_between():
    """What each neuron gets is its own position's sum, also behind the first part of the map."""
    rng, neuron = np.random.default_rng(3), Cuba(4096, 2048, 90)
    op = Conv(rng.integers(-60, 61, (40, 24, 1, 1)) * 2, rng.integers(-50, 50, 40), (15, 20), neuron=neuron)
    plain, fast = op.state(3), op.state(3)
    assert op.out_shape[0] > 4 * LANES // 40
    for k in range(3):
        x = (rng.random((3, 300, 24)) < 0.1).astype(np.int32)
        inputs, t = {"x": (x,), "alive": rng.integers(0, 2, (3, 300)).astype(np.int32)}, np.full(3, k + 1)
        assert op.taps.event_driven(merged((x,)))
        out, events = op.advance(fast, inputs, t)
        assert np.array_equal(out, op.step(plain, inputs, t))
        assert all(np.array_equal(events[n], v) for n, v in op.events(inputs, out, t).items())
        assert np.array_equal(fast["v"], plain["v"])
