"""The accumulate-only audit: passes honest nets, and catches a kernel, a count or an operation that lies."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikegate.convert.checks.audit import Alu, audit
from spikegate.graph.ir import DeployError
from spikegate.ops.conv import Conv
from spikegate.ops.spiking_attention import SpikingAttention
from tests.graphs import halting_graph, halting_input


def test_a_halting_net_passes_with_no_multiply_attention_included():
    rows = {r.name: r for r in audit(halting_graph(), halting_input())}
    assert all(r.macs == 0 and r.exact for r in rows.values())
    assert rows["block1.attention"].used["and"] > 0 and rows["block1.q"].used["add"] > 1000 and rows["gate1"].used["compare"] > 0


def test_the_unit_cannot_multiply():
    assert not [name for name in dir(Alu) if "mul" in name or "mac" in name or "prod" in name]
    with pytest.raises(DeployError, match="not an integer"):
        Alu().add(np.zeros(3), (np.array([0]),), 1.5)
    with pytest.raises(DeployError, match="not bits"):
        Alu().coincide(np.array([2]), np.array([1]))


def swapped(name: str, cls: type, **methods):
    """The example net with one op whose class has other methods."""
    graph = halting_graph()
    lying = dataclasses.dataclass(frozen=True, eq=False)(type("Lying", (cls,), {"kind": cls.kind, **methods}))
    op = graph.ops[name]
    graph.ops[name] = lying(**{f.name: getattr(op, f.name) for f in dataclasses.fields(op)})
    return graph


def test_a_kernel_that_differs_from_its_events_is_named():
    graph = swapped("block1.q", Conv, current=lambda self, x: Conv.current(self, x) * 2)
    with pytest.raises(DeployError, match=r"block1\.q.*timestep 1"):
        audit(graph, halting_input())


def test_a_count_that_is_too_small_is_named():
    def fewer(self, state, inputs, t, span=1):
        out, events = SpikingAttention.advance(self, state, inputs, t, span)
        return out, {**events, "attention_ac": events["attention_ac"] // 2}

    with pytest.raises(DeployError, match=r"block1\.attention.*counted"):
        audit(swapped("block1.attention", SpikingAttention, advance=fewer), halting_input())


def test_a_compiled_output_that_differs_from_the_semantics_is_named():
    def silent(self, state, inputs, t, span=1):
        out, events = SpikingAttention.advance(self, state, inputs, t, span)
        return out * 0, events

    with pytest.raises(DeployError, match=r"block1\.attention.*compiled output"):
        audit(swapped("block1.attention", SpikingAttention, advance=silent), halting_input())


def test_an_undeclared_operation_is_named():
    with pytest.raises(DeployError, match=r"block1\.attention.*'and'"):
        audit(swapped("block1.attention", SpikingAttention, arithmetic=("add", "shift", "compare", "leak")), halting_input())
