"""The compiled path of every op against its NumPy semantics: spans of timesteps, events counted on the way, any density of events."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spikegate.engine import injector, integer
from spikegate.graph.ir import Graph, Op, Sources, load_ops
from spikegate.graph.signals import merged
from spikegate.neurons.cuba import Cuba, Strict
from spikegate.neurons.leaky import VOLTAGE, Leaky
from spikegate.neurons.sigma_delta import Delta, SigmaDelta
from spikegate.ops.conv import Conv
from spikegate.ops.dense import Dense
from spikegate.ops.spiking_attention import SpikingAttention
from spikegate.synapses.taps import Taps, convolution, transposed
from tests.graphs import chain_graph, halting_graph, halting_input

pytestmark = pytest.mark.filterwarnings("ignore:.*leaves its 24 bits")


@pytest.fixture(autouse=True)
def overflows_are_allowed(monkeypatch):
    """Wrapping and clipping is part of what must be equal."""
    monkeypatch.setattr(Strict, "raises", False)


seeds = st.integers(0, 2**32 - 1)
density = st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0])
case = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def cases():
    for kind, cls in load_ops().items():
        for i, (op, steps) in enumerate(cls.examples(np.random.default_rng(7))):
            yield pytest.param(op, steps, id=f"{kind}-{i}")


def rows_of(inputs) -> int:
    first = next(iter(inputs.values()), np.zeros(2))
    return len(first[0] if isinstance(first, tuple) else first)


def slow(op: Op, steps):
    """Outputs [batch, T, ...] and events {counter: [batch, T]} by `step` and `events`."""
    state, outs, counts = op.state(rows_of(steps[0])), [], []
    for k, inputs in enumerate(steps):
        t = np.full(rows_of(inputs), k + 1)
        outs.append(op.step(state, inputs, t))
        counts.append(op.events(inputs, outs[-1], t))
    return np.stack(outs, 1), {n: np.stack([np.broadcast_to(c[n], len(outs[0])) for c in counts], 1) for n in counts[0]}, state


def fast(op: Op, steps, spans):
    """The same by `advance`, so many timesteps at a time."""
    batch = rows_of(steps[0])
    state, outs, counts, at = op.state(batch), [], [], 0
    for span in spans:
        now = steps[at : at + span]

        def joined(arrays):
            return np.stack(arrays, 1).reshape(-1, *arrays[0].shape[1:])

        inputs = {s: Sources(joined([n[s][i] for n in now]) for i in range(len(v))) if isinstance(v, tuple) else joined([n[s] for n in now])
                  for s, v in now[0].items()}
        t = np.tile(np.arange(at, at + span) + 1, batch)
        out, events = op.advance(state, inputs, t, span)
        outs.append(out.reshape(batch, span, *op.out_shape))
        counts.append({n: np.broadcast_to(v, len(t)).reshape(batch, span) for n, v in events.items()})
        at += span
    return np.concatenate(outs, 1), {n: np.concatenate([c[n] for c in counts], 1) for n in counts[0]}, state


def same(op: Op, steps, spans) -> None:
    (a, x, kept), (b, y, left) = slow(op, steps), fast(op, steps, spans)
    assert a.dtype == b.dtype == np.int32 and np.array_equal(a, b)
    assert x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) for n in x)
    assert all(np.array_equal(kept[n], left[n]) for n in kept)


@pytest.mark.parametrize("op, steps", cases())
def test_any_span_of_timesteps_equals_step_after_step(op, steps):
    """Outputs, every counter and the state left behind; also in uneven spans, as at the end of a sample."""
    same(op, steps, [1] * len(steps))
    same(op, steps, [len(steps)])
    same(op, steps, [2] * (len(steps) // 2) + [1] * (len(steps) % 2))


def drawn(rng, share, shape, high):
    return ((rng.random(shape) < share) * rng.integers(1, high + 1, shape)).astype(np.int32)


@case
@given(seeds, density, st.sampled_from([1, 3, 40]), st.integers(1, 3), st.booleans(), st.integers(1, 70), st.integers(1, 70))
def test_conv_and_dense_at_any_density_and_with_dead_tokens(seed, share, high, sources, gated, channels, outputs):
    """Property: event by event and as a product, graded and binary, widths that are no multiple of what is added at a time."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.integers(-40, 40, (outputs, channels, 1, 1)) * 2, rng.integers(-40, 40, outputs)
    soft = [Cuba(4096, 2048, 40, "subtract"), Cuba(1024, 300, 50, "subtract", 70, 3), Cuba(4096, 0, 5, "subtract", 9, 127)]
    neuron = [Cuba(4096, 2048, 60), Cuba(1024, 300, 90), Cuba(4096, 4096, 5), *soft][seed % 6]
    steps = []
    for _ in range(4):
        inputs = {"x": tuple(drawn(rng, share, (2, 6, channels), high) for _ in range(sources))}
        if gated:
            inputs["alive"] = rng.integers(-1, 3, (2, 6)).astype(np.int32)
        steps.append(inputs)
    same(Conv(weight, bias, grid=(2, 3), neuron=neuron), steps, [1, 3])
    if not gated:
        flat = rng.integers(-40, 40, (outputs, 6 * channels)) * 2
        same(Dense(flat, bias, Cuba(4096, 2048, 200)), steps, [4])


@case
@given(seeds, density, st.booleans(), st.sampled_from([(1, 1), (2, 1)]), st.sampled_from([(1, 1), (1, 2)]), st.sampled_from([1, 2]))
def test_every_geometry_event_by_event_equals_the_product(seed, share, turned, stride, dilation, groups):
    """Property: convolution and transposed convolution, graded events of either sign, 32-bit sums."""
    rng = np.random.default_rng(seed)
    inner, outer = 3 * groups, 4 * groups
    shape = (inner, outer // groups, 3, 2) if turned else (outer, inner // groups, 3, 2)
    make = transposed if turned else convolution
    taps = make(rng.integers(-256, 255, shape), (4, 5), stride, (1, 0), dilation, groups)
    x = drawn(rng, share, (3, 20, inner), 500) * rng.choice([-1, 1], (3, 20, inner)).astype(np.int32)
    wanted = taps.current(x)
    for limit in (0.0, 2.0):  # as a product, event by event
        taps.__dict__["_share"] = limit
        sums, synops, arrived = taps.sums(merged((x,)))
        assert np.array_equal(sums, wanted)
        assert np.array_equal(synops, np.abs(x.reshape(3, -1).astype(np.int64)) @ taps.fanout.ravel())
        assert np.array_equal(arrived, np.count_nonzero(x, axis=(1, 2)))


def test_sums_beyond_32_bits_are_exact():
    taps = Taps(np.full((2, 30, 1, 1), 254))
    x = np.full((1, 1, 30), 1 << 22, np.int32)
    assert taps.sums(merged((x,)))[0].astype(np.int64).tolist() == [[[254 * 30 << 22] * 2]]


@case
@given(seeds, density, st.sampled_from(["qk", "kv"]), st.booleans(), st.sampled_from([1, 3]))
def test_attention_counts_coincidences(seed, share, order, gated, heads):
    """Property: also where a dead token's bits arrive, which its layers would not have sent."""
    rng = np.random.default_rng(seed)
    op = SpikingAttention(5, 12, heads, order=order, neuron=Cuba(4096, 2048, 23))
    steps = [{s: drawn(rng, share, (2, 5, 12), 1) for s in "qkv"} for _ in range(3)]
    for inputs in steps if gated else ():
        inputs["alive"] = rng.integers(0, 2, (2, 5)).astype(np.int32)
    same(op, steps, [1, 2])


@case
@given(seeds, st.booleans(), st.sampled_from([0, 3, -2]), st.sampled_from([200, 60_000]))
def test_neurons_of_netx_layers_sweep_as_they_step(seed, each, exponent, reach):
    """Property: decays for each channel, exponents, wrapping currents, sigma-delta residues."""
    rng, n = np.random.default_rng(seed), 5
    decay = rng.integers(0, 4097, n) if each else int(rng.integers(0, 4097))
    soft = Leaky(decay, decay, 70, exponent, reset="subtract", v_step=int(rng.integers(0, 200)), levels=int(rng.integers(1, 9)))
    for neuron in (Leaky(decay, decay, 70, exponent), soft, Leaky(300, decay, 70, 0, VOLTAGE), SigmaDelta(2), Delta(1, 0)):
        current, bias = rng.integers(-reach, reach, (6, 4, n)), rng.integers(-90, 90, n)
        slow_state, fast_state = neuron.state((2, 4, n)), neuron.state((2, 4, n))
        for span in (1, 2):
            wanted = np.stack([neuron.step(slow_state, current[k : 2 * span : span], bias) for k in range(span)], 1)
            found, fired = neuron.steps(fast_state, current[: 2 * span], bias, span)
            assert np.array_equal(found, wanted.reshape(found.shape)) and np.array_equal(fired, np.count_nonzero(found, axis=(1, 2)))
        assert all(np.array_equal(fast_state[k], v) for k, v in slow_state.items())


def by_steps(graph: Graph, x: np.ndarray, batch: int):
    """The same run with one timestep in each chunk."""
    before = injector.CHUNK_VALUES
    injector.CHUNK_VALUES = 0
    try:
        return integer.run(graph, x, batch=batch, spikes=True)
    finally:
        injector.CHUNK_VALUES = before


@pytest.mark.parametrize("values", [1000, 1 << 17])
def test_a_run_in_long_chunks_is_the_run_step_by_step(values, monkeypatch):
    rng = np.random.default_rng(0)
    monkeypatch.setattr("spikegate.engine.injector.CHUNK_VALUES", values)
    for graph, x in ((chain_graph(), rng.integers(0, 2, (5, 6, 20, 2)).astype(np.int32)), (halting_graph(gated=False), halting_input(5))):
        assert injector.span_of(graph, 2) > 1
        a, b = integer.run(graph, x, batch=2, spikes=True), by_steps(graph, x, 2)
        for name in ("counts", "logits", "exit_step", "alive"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        for found in ("spikes", "activity", "values"):
            assert all(np.array_equal(v, getattr(b, found)[n]) for n, v in getattr(a, found).items()), found


def test_what_decides_about_the_next_timestep_is_not_run_ahead():
    assert injector.span_of(halting_graph(), 4) == 1
    early = halting_graph(gated=False)
    early.ops["exit"] = dataclasses.replace(early.ops["exit"], policy="threshold_then_argmax")
    assert injector.span_of(early, 4) == 1
