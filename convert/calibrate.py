"""Margins of the exit gate: when is the leading class far enough ahead that waiting would not change the answer?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from spikegate.engine import integer
from spikegate.graph.ir import DeployError, Graph
from spikegate.ops.exit_gate import NEVER, ExitGate

ENOUGH = 1000  # validation images; below, shifted copies join


def with_margin(graph: Graph, margin: np.ndarray) -> Graph:
    """The graph with other margins in its exit gate; all `NEVER` is policy ``fixed_window``."""
    name = _gate(graph)
    policy = "fixed_window" if (margin >= NEVER).all() else "threshold_then_argmax"
    gate = dataclasses.replace(graph.ops[name], margin=np.asarray(margin, np.int64), policy=policy)  # type: ignore[type-var]
    return dataclasses.replace(graph, ops={**graph.ops, name: gate})


def calibrate_margin(graph: Graph, inputs: np.ndarray, drop: float) -> np.ndarray:
    """Smallest margins that change at most the share `drop` of the answers on a validation split.

    Timestep by timestep, the margin is set just above the lead of the samples whose answer would differ from the one at
    their end, but for the share `drop` (of all samples, over all timesteps). Answers that change, right or wrong, are
    counted rather than errors: errors are too few on a small split to tell much. Labels are not needed.

    Parameters
    ----------
    inputs : int [N, *graph.input_shape], the embedded validation images
    drop : share of the validation images, 0 or more

    Returns
    -------
    int64 [T], `NEVER` at T
    """
    if not 0 <= drop < 1:
        raise DeployError("--exit-drop", f"{drop} is no share of images", "give for instance 0.002 for 0.2 points")
    if not len(inputs):
        raise DeployError("--exit-drop", "there are no validation images", "train with data.validation above 0")
    return margins(answers(graph, inputs), drop)


@dataclass(frozen=True)
class Answers:
    """Of samples that run to their end: logits [N, T, classes] after each timestep, the last timestep [N], the answer there [N]."""

    logits: np.ndarray
    end: np.ndarray
    answer: np.ndarray

    def part(self, rows: slice | np.ndarray) -> Answers:
        return Answers(self.logits[rows], self.end[rows], self.answer[rows])

    def lead(self, rows: np.ndarray, t: int) -> np.ndarray:
        """Logit of the leading class less that of the next one, after timestep `t` (from 1)."""
        top = np.sort(self.logits[rows, t - 1], axis=1)
        lead: np.ndarray = top[:, -1] - top[:, -2]
        return lead

    def early(self, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(answer, timestep it is given at), each [N], with the exit margins `margin` [T]."""
        answer, step = self.answer.copy(), self.end.copy()
        for t in range(len(margin) - 1, 0, -1):
            rows = np.flatnonzero(self.end > t)
            rows = rows[self.lead(rows, t) >= margin[t - 1]]
            answer[rows], step[rows] = self.logits[rows, t - 1].argmax(1), t
        return answer, step


def answers(graph: Graph, inputs: np.ndarray) -> Answers:
    """Run samples to their end, without exit margins."""
    readout = graph.only("readout")[0]
    record = integer.run(with_margin(graph, np.full(graph.timesteps, NEVER, np.int64)), inputs, spikes=[readout])
    return Answers(record.spikes[readout], record.exit_step, record.prediction)


def margins(found: Answers, drop: float) -> np.ndarray:
    """Margins of `calibrate_margin` from what the samples answered."""
    timesteps, number = found.logits.shape[1], len(found.end)
    margin = np.full(timesteps, NEVER, np.int64)
    budget = int(drop * number)
    going = np.ones(number, bool)
    for t in range(1, timesteps):
        candidates = np.flatnonzero(going & (found.end > t))
        if not len(candidates):
            break
        lead = found.lead(candidates, t)
        changed = found.logits[candidates, t - 1].argmax(1) != found.answer[candidates]
        share = budget // (timesteps - t)
        worst = np.sort(lead[changed])[::-1]
        margin[t - 1] = max(1, int(worst[share]) + 1) if len(worst) > share else 1
        leaves = lead >= margin[t - 1]
        budget -= int(changed[leaves].sum())
        going[candidates[leaves]] = False
    return margin


def with_shifts(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, ..., H, W] and their copies moved by one pixel in eight directions, zero filled, [9 N, ..., H, W].

    A small validation split says too little of rare cases; what training draws from at random stands in for them.
    """
    framed = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(1, 1)] * 2)
    h, w = images.shape[-2:]
    return np.concatenate([framed[..., y : y + h, x : x + w] for y in range(3) for x in range(3)])


def _gate(graph: Graph) -> str:
    gates = [n for n, op in graph.ops.items() if isinstance(op, ExitGate)]
    if not gates:
        raise DeployError("graph", "has no exit gate", "only nets with a readout and an exit gate can end early")
    return gates[0]
