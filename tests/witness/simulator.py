"""Runs a net: one sample after the other, one timestep after the other, one op after the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tests.witness import attention, blocks, gates, layers
from tests.witness.common import MUTE, SKIP, Result, Slots, State
from tests.witness.files import Net, Op

COUNTERS = ("spike_in", "synop", "attention_ac", "neuron_update", "gate_update", "spike_out", "message")
CREDITS = ("token_gate", "rectangle_gate", "contrast_gate", "token_merge")
MODULES = (layers, attention, gates, blocks)


@dataclass
class Sample:
    """What one sample did. Timesteps after the exit are missing."""

    counts: list[list[list[int]]] = field(default_factory=list)  # [t][op][counter]
    spikes: list[dict[str, np.ndarray]] = field(default_factory=list)  # [t][op]
    alive: list[list[np.ndarray]] = field(default_factory=list)  # [t][gate]
    logits: np.ndarray | None = None


def function(kind: str):  # type: ignore[no-untyped-def]
    """The function that computes ops of a kind."""
    return next(getattr(m, kind) for m in MODULES if hasattr(m, kind))


def step(op: Op, state: State, slots: Slots, t: int) -> Result:
    """One op in one timestep, with its timestep mask."""
    compute = function(op.kind)
    word = int(slots["open"][0][0]) if "open" in slots else None
    if word == SKIP:
        return None, layers.write_bias(state, slots, t) if op.kind == "biased" else {}  # type: ignore[return-value]
    y, counts = compute(op.fields, state, slots, t)
    if word == MUTE:
        kept = {k: v for k, v in counts.items() if k != "spike_out"}
        return np.zeros_like(y), kept
    return y, counts


def initial(op: Op, like: np.ndarray) -> np.ndarray:
    """What a delayed edge from an op carries at t = 1."""
    return np.full_like(like, op.fields["theta"] if op.kind in CREDITS else 0)


def shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Shapes of all outputs, found by computing a timestep of zeros.

    What is fed back alone says its shape itself; fed back beside other sources of a slot it has theirs.
    """
    known: dict[str, tuple[int, ...]] = {"input": net.input_shape}
    for op in net.ops:
        if op.kind in CREDITS:
            known[op.name] = (int(op.fields["tokens"]) if "tokens" in op.fields else int(np.prod(op.fields["grid"])),)
        if op.kind == "block_recurrent":
            known[op.name] = (len(op.fields["weight"]),)
    for op in net.ops:
        slots: Slots = {}
        for source, slot, _ in op.sources:
            if slot != "open" and source in known:
                slots.setdefault(slot, []).append(np.zeros(known[source], np.int64))
        known.setdefault(op.name, function(op.kind)(op.fields, {}, slots, 1)[0].shape)
    return known


def fanout(net: Net, name: str) -> int:
    """Slots that an op's events go to, copies counted."""
    return sum(int(reader.fields.get("copies", 1)) for reader in net.ops for source, _, _ in reader.sources if source == name)


def run(net: Net, inputs: np.ndarray) -> list[Sample]:
    """All samples of inputs [samples, ...], sent once, or [samples, T, ...], sent step by step."""
    known = shapes(net)
    stepwise = inputs.shape[1:] == (net.timesteps, *net.input_shape)
    return [one(net, x.astype(np.int64), stepwise, known) for x in inputs]


def one(net: Net, x: np.ndarray, stepwise: bool, known: dict[str, tuple[int, ...]]) -> Sample:
    sample, total = Sample(), 0
    state: dict[str, State] = {op.name: {} for op in net.ops}
    credits = [op for op in net.ops if op.kind in CREDITS]
    start = [s for op in credits[:1] for s, slot, delay in op.sources if slot == "chain" and delay]
    reads = [op for op in net.ops if op.kind == "readout"]
    exits = [op for op in net.ops if op.kind == "exit_gate"]
    last = {op.name: initial(op, np.zeros(known[op.name], np.int64)) for op in net.ops}
    for t in range(1, net.timesteps + 1):
        now = {"input": x[t - 1] if stepwise else x if t == 1 else np.zeros_like(x)}
        rows = []
        for op in net.ops:
            slots: Slots = {}
            for source, slot, delay in op.sources:
                slots.setdefault(slot, []).append(last[source] if delay else now[source])
            y, counts = step(op, state[op.name], slots, t)
            now[op.name] = np.zeros(known[op.name], np.int64) if y is None else y
            counts = {**counts, "message": counts.get("spike_out", 0) * fanout(net, op.name)}
            rows.append([counts.get(c, 0) for c in COUNTERS])
        sample.counts.append(rows)
        sample.spikes.append({op.name: now[op.name] for op in net.ops})
        tokens = reads[0].fields["weight"].shape[1] if reads else len(now[credits[0].name]) if credits else 1
        entry = last[start[0]] > 0 if start else np.ones(tokens, bool)
        sample.alive.append([entry, *(now[op.name] > 0 for op in credits)])
        if reads:
            sample.logits = now[reads[0].name]
        else:
            total = now[net.ops[-1].name].ravel() + total
            sample.logits = total
        last = now
        if exits and now[exits[0].name][0] > 0:
            break
    return sample
