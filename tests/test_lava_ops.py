"""One op inside a Lava process, fed by the injector's process, for the conformance test."""

from __future__ import annotations

import numpy as np

from spikegate.deploy.network.network import Network
from spikegate.graph.ir import INPUT, OPS, Graph, Op, Payload, register, total


@register
class Piece(Op):
    """One of the op's inputs, cut out of the host's signal."""

    kind = "piece_for_tests"
    start: int
    shape: tuple[int, ...]
    span: Payload

    @property
    def out_shape(self):
        return self.shape

    @property
    def payload(self):
        return self.span

    def step(self, state, inputs, t):
        x = total(inputs["x"])
        return x[:, self.start : self.start + int(np.prod(self.shape))].reshape(len(x), *self.shape)

    def events(self, inputs, out, t):
        return {"spike_out": np.zeros(len(out), np.int64)}


OPS.pop(Piece.kind)  # not one of the project's ops


def disguised(op: Op) -> Op:
    """The same op under another kind: the drivers must not take it for the net's own gate or readout."""
    copy = object.__new__(type("UnderTest", (type(op),), {"kind": "under_test", "gates_tokens": False}))
    copy.__dict__.update(op.__dict__)
    return copy


def graph_around(op: Op, steps) -> tuple[Graph, np.ndarray]:
    """Graph of the op with one source for each input, and the host's signal [batch, T, values] that makes `steps`."""
    named = [(slot, i, slot if listed else "", v) for slot, given in steps[0].items()
             for listed in [isinstance(given, tuple)] for i, v in enumerate(given if listed else (given,))]
    graph = Graph(timesteps=len(steps))
    columns, at, wiring = [], 0, {}
    for slot, i, listed, first in named:
        values = [s[slot][i] if listed else s[slot] for s in steps]
        flat = np.stack([v.reshape(len(v), -1) for v in values], 1)
        span = Payload(int(flat.min()), int(flat.max()))
        graph.add(f"{slot}{i}", Piece(at, first.shape[1:], span), x=INPUT)
        wiring.setdefault(slot, []).append(f"{slot}{i}")
        columns.append(flat)
        at += flat.shape[2]
    if not columns:  # an op that follows its clock alone
        columns, at = [np.zeros((2, len(steps), 1))], 1
    signal = np.concatenate(columns, 2).astype(np.int32)
    graph.input_shape, graph.input_payload = (at,), Payload(int(signal.min()), int(signal.max()))
    graph.add("op", disguised(op), **wiring)
    return graph, signal


def run_in_stages(op: Op, steps) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [batch, T, ...] and counts [batch, T, counters] of `op` fed with `steps` through Lava."""
    graph, signal = graph_around(op, steps)
    with Network(graph, "op", batch=max(1, len(signal) - 1)) as network:  # one sample more than slots: state must not leak
        record = network.run(signal, spikes=True)
    return record.spikes["op"], record.counts[:, :, -1]
