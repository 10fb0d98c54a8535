"""Proof that a net is accumulate-only: its synaptic work, redone event by event on a unit that cannot multiply."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spikegate.engine.injector import Injector
from spikegate.engine.integer import Stage, chunks
from spikegate.graph.ir import COUNTERS, DeployError, Graph


class Alu:
    """Adds, ANDs, shifts and compares integers, and counts each. There is no other operation on it."""

    def __init__(self) -> None:
        self.used = {"add": 0, "and": 0, "shift": 0, "compare": 0}

    def add(self, acc: np.ndarray, index: tuple, values: np.ndarray | int) -> None:
        """``acc[index] += values``, one accumulate for each element; an index that occurs twice adds twice."""
        self._integers(acc, np.asarray(values))
        self.used["add"] += int(acc[index].size)
        np.add.at(acc, index, values)

    def coincide(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """AND of bits; counts the coincidences, which is what an event-driven AND does."""
        if ((a | b) & ~1).any():
            raise DeployError("audit", "an AND met values that are not bits", "this op's input must be binary")
        met = a & b
        self.used["and"] += int(met.sum())
        return met

    def shift(self, x: np.ndarray, places: int) -> np.ndarray:
        self._integers(x)
        self.used["shift"] += int(np.count_nonzero(x)) if places else 0
        return x << places

    def at_least(self, x, bound: int):
        """``x >= bound``."""
        self.used["compare"] += int(np.size(x))
        return np.asarray(x) >= bound

    @staticmethod
    def _integers(*arrays: np.ndarray) -> None:
        if not all(np.issubdtype(a.dtype, np.integer) for a in arrays):
            raise DeployError("audit", "an accumulate met a value that is not an integer", "quantise it before export")


@dataclass
class OpAudit:
    """What one op did for one sample: operations used, accumulates counted by the record, multiplies (MACs)."""

    name: str
    kind: str
    declared: tuple[str, ...]
    used: dict[str, int] = field(default_factory=lambda: {"add": 0, "and": 0, "shift": 0, "compare": 0})
    counted: int = 0
    macs: int = 0

    @property
    def exact(self) -> bool:
        return self.used["add"] == self.counted


def audit(graph: Graph, inputs: np.ndarray) -> list[OpAudit]:
    """Redo the synaptic work of the first sample, every op and timestep, without a multiply; compare with the fast kernels.

    `inputs` is int [1 or more, *graph.input_shape]. Membrane leak (`decay`, a per-neuron shift or 12-bit multiply in
    the neuron's update, as on Loihi) is not on the synaptic path and stands in `declared` as "leak". Graded events of a foreign net are
    redone as repeated adds; `macs` says how many of them a chip multiplies.

    Raises
    ------
    DeployError
        Naming op and timestep where the result or the number of accumulates differs, or an operation is undeclared.
    """
    rows = {n: OpAudit(n, op.kind, op.arithmetic) for n, op in graph.ops.items()}
    injector = Injector(graph, inputs[:1], 1)
    stage = Stage(graph, list(graph.ops), 1)

    def watch(name: str, slots: dict, t: np.ndarray) -> None:
        alu = Alu()
        slow, fast = graph.ops[name].accumulate(alu, slots, int(t[0]))
        if not np.array_equal(np.asarray(slow), np.asarray(fast)):
            raise DeployError(name, f"event-by-event result differs from the kernel's at timestep {int(t[0])}", "the kernel is wrong")
        rows[name].macs += graph.ops[name].macs(slots)
        for key, n in alu.used.items():
            rows[name].used[key] += n
            if n and key not in graph.ops[name].arithmetic:
                raise DeployError(name, f"uses {key!r}, which it does not declare", "state it in the op's `arithmetic`")

        if "open" not in slots:
            kept = {k: v.copy() for k, v in stage.state[name].items()}
            plain[name] = graph.ops[name].step(kept, slots, t)

    plain: dict[str, np.ndarray] = {}  # outputs by the ops' NumPy semantics
    stage.tap = watch
    for chunk, _ in chunks(injector, stage):
        for name, out in plain.items():
            if not np.array_equal(out, chunk.signals[name]):
                what = f"compiled output differs from the op's semantics at timestep {int(chunk.t[0])}"
                raise DeployError(name, what, "the kernel is wrong")
        plain.clear()
        for name, counts in stage.counts.items():
            rows[name].counted += int(counts[0, COUNTERS.index("synop")] + counts[0, COUNTERS.index("attention_ac")])
    for row in rows.values():
        if not row.exact:
            raise DeployError(
                row.name, f"counted {row.counted} accumulates, doing them took {row.used['add']}", "the op's `events` is wrong"
            )
    return list(rows.values())
