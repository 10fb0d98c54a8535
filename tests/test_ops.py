"""Conformance: every registered op, whatever it is, keeps these promises. A new op is covered once its file exists."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikegate.convert.checks.audit import Alu
from spikegate.engine.record import Record
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import COUNTERS, INPUT, DeployError, Graph, Op, Payload, load_ops
from tests.edge_cases import edges
from tests.test_lava_ops import run_in_stages

OPS = load_ops()
ALLOWED = {"add", "and", "shift", "compare", "leak"}


def cases(ends: bool = True):
    """Every op's own examples, and with `ends` those at the ends of their ranges."""
    for kind, cls in OPS.items():
        for i, (op, steps) in enumerate(cls.examples(np.random.default_rng(7))):
            yield pytest.param(op, steps, id=f"{kind}-{i}")
    for i, (op, steps) in enumerate(edges(np.random.default_rng(7)) if ends else ()):
        yield pytest.param(op, steps, id=f"{op.kind}-edge{i}")


def batch_of(inputs) -> int:
    if not inputs:  # an op that follows its clock alone
        return 2
    first = next(iter(inputs.values()))
    return len(first[0] if isinstance(first, tuple) else first)


def play(op: Op, steps) -> tuple[list[np.ndarray], list[dict]]:
    """Outputs and events of all timesteps."""
    state, outs, events = op.state(batch_of(steps[0])), [], []
    for k, inputs in enumerate(steps):
        t = np.full(batch_of(inputs), k + 1)
        outs.append(op.step(state, inputs, t))
        events.append(op.events(inputs, outs[-1], t))
    return outs, events


def take(inputs, rows):
    return {k: tuple(a[rows] for a in v) if isinstance(v, tuple) else v[rows] for k, v in inputs.items()}


def test_registry_has_examples_for_every_op():
    for kind, cls in OPS.items():
        assert list(cls.examples(np.random.default_rng(0))), f"{kind} has no examples, so nothing tests it"
        assert set(cls.arithmetic) <= ALLOWED, f"{kind} declares {set(cls.arithmetic) - ALLOWED}"
        assert cls.__doc__ and ".. math::" in cls.__doc__, f"{kind} does not state its equation"


@pytest.mark.parametrize("op, steps", cases())
def test_output_fits_shape_payload_and_counters(op, steps):
    outs, events = play(op, steps)
    for out, counted in zip(outs, events):
        assert out.dtype == np.int32 and out.shape[1:] == op.out_shape
        assert out.min() >= op.payload.low and out.max() <= op.payload.high
        assert set(counted) <= set(COUNTERS)
        assert all((np.asarray(v) >= 0).all() for v in counted.values())


@pytest.mark.parametrize("op, steps", cases(ends=False))
def test_an_axis_too_many_is_refused(op, steps):
    """Of every source of every slot: a design rule names it, before anything is computed."""
    shapes = {s: [a.shape[1:] for a in (v if isinstance(v, tuple) else (v,))] for s, v in steps[0].items()}
    known = len(list(op.problems(shapes, {})))
    for slot, given in shapes.items():
        for i, shape in enumerate(given):
            odd = shapes | {slot: [*given[:i], (*shape, shape[-1]), *given[i + 1 :]]}
            assert len(list(op.problems(odd, {}))) > known, f"slot {slot} takes shape {odd[slot][i]}"


@pytest.mark.parametrize("op, steps", cases())
def test_reset_leaves_no_trace_of_the_sample_before(op, steps):
    fresh, _ = play(op, steps)
    state = op.state(batch_of(steps[0]))
    for k, inputs in enumerate([*steps, *steps]):
        if k == len(steps):
            for array in state.values():
                array[:] = 0
        out = op.step(state, inputs, np.full(batch_of(inputs), k % len(steps) + 1))
        if k >= len(steps):
            assert np.array_equal(out, fresh[k - len(steps)])


@pytest.mark.parametrize("op, steps", cases())
def test_a_sample_does_not_depend_on_its_batch_mates(op, steps):
    together, counted = play(op, steps)
    for row in range(batch_of(steps[0])):
        alone, events = play(op, [take(s, slice(row, row + 1)) for s in steps])
        for k in range(len(steps)):
            assert np.array_equal(alone[k][0], together[k][row])
            assert {n: int(np.asarray(v)[0]) for n, v in events[k].items()} == {n: int(np.asarray(v)[row]) for n, v in counted[k].items()}


@pytest.mark.parametrize("op, steps", cases())
def test_event_by_event_equals_kernel_and_its_count(op, steps):
    """The accumulate-only form, on a unit without a multiplier, gives the kernel's sums with as many adds as were counted."""
    _, counted = play(op, steps)
    for k, inputs in enumerate(steps):
        alu = Alu()
        slow, fast = op.accumulate(alu, take(inputs, slice(0, 1)), k + 1)
        assert np.array_equal(slow, fast)
        assert all(np.array_equal(a, b) for a, b in zip(op.accumulate(Alu(), inputs, k + 1), (slow, fast)))  # of a batch, the first sample
        events = {n: int(np.asarray(v)[0]) for n, v in counted[k].items()}
        assert alu.used["add"] == events.get("synop", 0) + events.get("attention_ac", 0)
        assert {n for n, v in alu.used.items() if v} <= set(op.arithmetic)


def graph_around(op: Op, steps) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph that holds the op alone, and the arrays that its slots read from outside."""
    graph, arrays = Graph(timesteps=len(steps)), {}
    graph.ops["op"] = op
    for slot, value in steps[0].items():
        many = isinstance(value, tuple)
        for i in range(len(value) if many else 1):
            arrays[f"{slot}{i}"] = np.stack([s[slot][i] if many else s[slot] for s in steps], 1)
    return graph, arrays


@pytest.mark.parametrize("op, steps", cases())
def test_netx_round_trip_keeps_every_field(op, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(Graph, "check", lambda self: None)  # the op alone has no sources; its fields are the matter here
    graph, _ = graph_around(op, steps)
    if op.kind in ("conv", "dense"):
        graph.input_shape = (op.grid[0] * op.grid[1], op.weight.shape[1] * op.groups) if op.kind == "conv" else (op.weight.shape[1],)
        graph.edges.append(dataclasses.replace(Graph_edge, slot="x"))
    write_graph(graph, tmp_path / "op.net")
    again = read_graph(tmp_path / "op.net").ops["op"]
    assert type(again) is type(op)
    for f in dataclasses.fields(op):
        assert np.array_equal(getattr(op, f.name), getattr(again, f.name)), f.name
    assert all(np.array_equal(a, b) for a, b in zip(play(op, steps)[0], play(again, steps)[0]))


@pytest.mark.parametrize("op", [pytest.param(c.values[0], id=c.id) for c in cases() if c.values[0].slots])
def test_design_rules_refuse_a_foreign_shape_by_name(op):
    graph = Graph(timesteps=1, input_shape=(3, 17), input_payload=Payload(-3, 3))
    graph.ops["odd"] = op
    graph.edges = [dataclasses.replace(Graph_edge, target="odd", slot=s.rstrip("*?")) for s in op.slots]
    with pytest.raises(DeployError) as e:
        graph.check()
    assert "odd" in str(e.value)


@pytest.mark.lava
@pytest.mark.timeout(120)
@pytest.mark.parametrize("op, steps", cases(ends=False))
def test_lava_process_equals_reference(op, steps):
    """Spikes and counters of the op inside a Lava process equal those of the reference."""
    outs, counted = play(op, steps)
    spikes, counts = run_in_stages(op, steps)
    assert np.array_equal(spikes, np.stack(outs, 1))
    for k, events in enumerate(counted):
        for name, value in events.items():
            assert np.array_equal(counts[:, k, COUNTERS.index(name)], value), name


Graph_edge = __import__("spikegate.graph.ir", fromlist=["Edge"]).Edge(INPUT, "op", "x")
assert Record
