"""A net with early exit, and the same net with an op that fails, hangs or lies."""

from __future__ import annotations

import time

import numpy as np

from spikegate.graph.ir import OPS, Graph, Op, Payload, nonzero, register
from spikegate.ops.exit_gate import NEVER, ExitGate
from tests.graphs import CLASSES, TIMESTEPS, halting_graph


def halting_net() -> Graph:
    """The shared net with early exit: samples end after 1 to 4 timesteps."""
    graph = halting_graph()
    graph.ops["exit"] = ExitGate(CLASSES, TIMESTEPS, np.array([400, 300, 200, NEVER]), "threshold_then_argmax")
    graph.check()
    return graph


@register
class Troubled(Op):
    """Passes its input on until `at`; then does what a test wants."""

    kind = "troubled_for_tests"
    at: int
    trouble: str

    @property
    def out_shape(self):
        return (9, 8)

    @property
    def payload(self):
        return Payload(0, 3)

    def step(self, state, inputs, t):
        if (t >= self.at).any():
            if self.trouble == "sleep":
                time.sleep(1000)
            if self.trouble == "raise":
                raise ZeroDivisionError("on purpose")
            if self.trouble == "lie":
                return inputs["x"][0] + 300
        return inputs["x"][0]

    def events(self, inputs, out, t):
        return {"spike_out": nonzero([out])}


OPS.pop("troubled_for_tests")  # not one of the project's ops


def troubled(trouble: str) -> Graph:
    """`halting_net` with an op in trouble from the second timestep on."""
    graph = halting_net()
    graph.ops["mid"] = Troubled(2, trouble)
    for i, edge in enumerate(graph.edges):
        if edge.source == "inject":
            graph.edges[i] = type(edge)("mid", edge.target, edge.slot, edge.delay)
    graph.edges.append(type(graph.edges[0])("inject", "mid", "x"))
    graph.ops = {n: graph.ops[n] for n in ("inject", "mid", *(n for n in graph.ops if n not in ("inject", "mid")))}
    return graph
