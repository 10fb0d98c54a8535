"""Design rules of credits: what reaches an attention comes from ops with its credit, and gates have the head's tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from spikegate.ops.inject import Inject
from spikegate.ops.spiking_attention import SpikingAttention
from tests.graphs import CHANNELS, CLASSES, TOKENS, halting_graph, halting_input


def without_credit(graph, name: str):
    """The graph with one op's credit taken away."""
    edges = [e for e in graph.edges if not (e.target == name and e.slot == "alive")]
    return dataclasses.replace(graph, edges=edges, ops=dict(graph.ops))


@pytest.mark.parametrize("order", ["serial", "rectangle"])
@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_an_attention_refuses_what_may_hold_spikes_of_dead_tokens(part, order):
    graph = halting_graph(order=order)
    graph.check()
    with pytest.raises(DeployError, match=f"takes {part} of 'block1.{part}'") as e:
        without_credit(graph, f"block1.{part}").check()
    assert f"connect slot 'alive' of 'block1.{part}'" in str(e.value)


def test_another_gates_credit_is_refused_too():
    graph = halting_graph()
    edges = [dataclasses.replace(e, source="gate2") if (e.target, e.slot) == ("block2.k", "alive") else e for e in graph.edges]
    with pytest.raises(DeployError, match=r"block2\.k"):
        dataclasses.replace(graph, edges=edges).check()


def test_the_rule_is_needed():
    """Without it a dead token's spikes are counted: the coincidences differ from those of the net that keeps it."""
    graph = halting_graph(scores=400)
    kept, broken = (integer.run(g, halting_input(), spikes=True) for g in (graph, without_credit(graph, "block2.v")))
    at = kept.ops.index("block2.attention")
    assert not np.array_equal(kept.counts[:, :, at], broken.counts[:, :, at])


def test_gates_have_the_heads_tokens():
    graph = halting_graph()
    head = graph.ops["readout"]
    for slot in ("before", "after"):
        given = {"x": [(TOKENS, CHANNELS)], "before": [(TOKENS,)], "after": [(TOKENS,)], slot: [(TOKENS + 1,)]}
        found = [what for what, _ in head.problems(given, {})]
        assert found == [f"credit of shape {(TOKENS + 1,)} in slot {slot!r} does not match {TOKENS} tokens"]
    assert not list(head.problems({"x": [(TOKENS, CHANNELS)], "before": [(TOKENS,)], "after": [(TOKENS,)]}, {}))
    assert head.classes == CLASSES


@pytest.mark.parametrize("op", [SpikingAttention(TOKENS, CHANNELS, 2), Inject((TOKENS, CHANNELS), 0, 3)])
def test_a_credit_of_other_tokens_is_refused_by_each_op(op):
    assert not list(op.problems({"alive": [(TOKENS,)]}, {}))
    assert ["credit of shape" in what for what, _ in op.problems({"alive": [(4,)]}, {})] == [True]
