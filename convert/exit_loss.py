"""Exit margins for a stated loss of accuracy: what leaving early saves for that many right answers fewer.

Answers that change are often as wrong as before, or right now: of a net that errs much, far more may change than accuracy is lost. So
the boldness of the margins is chosen by right answers, and on images that did not shape the margins (two folds), or the choice
would flatter itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.convert.calibrate import Answers, answers, margins
from spikegate.convert.guarantee import DROPS
from spikegate.graph.ir import DeployError, Graph
from spikegate.ops.exit_gate import NEVER


@dataclass(frozen=True)
class WithinLoss:
    """The margins [T]: those that change at most the share `drop` of the answers; None where even the most cautious ones lose more.

    `accuracy` and `timesteps` are of images that did not shape the margins, `accuracy_before` is that at full length.
    """

    loss: float
    margin: np.ndarray
    drop: float | None
    accuracy: float
    accuracy_before: float
    timesteps: float

    @property
    def facts(self) -> dict[str, float | None]:
        """What a manifest keeps, JSON ready."""
        return {k: v for k, v in vars(self).items() if k != "margin"}


def margin_within(graph: Graph, inputs: np.ndarray, labels: np.ndarray, loss: float) -> WithinLoss:
    """The boldest margins of the sequence `DROPS` up to which no more accuracy is lost than that.

    Parameters
    ----------
    inputs : int [N, *graph.input_shape], embedded validation images, none made from another: what is right is only known of real ones
    labels : int [N]
    loss : of accuracy, 0 or more

    Raises
    ------
    DeployError
        A loss that is no share; fewer than two images; no margins that lose as little.
    """
    if not 0 <= loss < 1:
        raise DeployError("--exit-loss", f"{loss:g} is no share of images", "give for instance 0.01 for a point of accuracy")
    if len(inputs) < 2:
        raise DeployError("--exit-loss", "there are no two validation images", "train with data.validation above 0")
    found = within(answers(graph, inputs), labels, loss, np.arange(len(inputs)) % 2)
    if found.drop is None:
        raise DeployError("--exit-loss", f"even the most cautious exits lose more than {loss:.2%} of {len(inputs):,} validation images",
                          "allow more, hold more images back (data.validation), or count changed answers: --exit-drop")
    return found


def within(found: Answers, labels: np.ndarray, loss: float, fold: np.ndarray) -> WithinLoss:
    """`margin_within` from what the samples answered; `fold` [N] says which of the two halves a sample is in."""
    halves = [np.flatnonzero(fold == k) for k in (0, 1)]
    before = float((found.answer == labels).mean())
    best = WithinLoss(loss, np.full(found.logits.shape[1], NEVER, np.int64), None, before, before, float(found.end.mean()))
    for drop in DROPS:
        right, steps = 0, 0
        for shaping, testing in (halves, halves[::-1]):
            answer, step = found.part(testing).early(margins(found.part(shaping), drop))
            right, steps = right + int((answer == labels[testing]).sum()), steps + int(step.sum())
        if right / len(labels) < before - loss:
            break
        best = WithinLoss(loss, margins(found, drop), drop, right / len(labels), before, steps / len(labels))
    return best
