r"""Exit margins with a guarantee: with stated confidence, at most a stated share of all answers is changed by leaving early.

Learn then test (Angelopoulos et al., arXiv 2110.01052): the first half of the validation samples shapes a sequence of margins,
from "never leave" to bold ones. The other half tests them in that order. A candidate that changes k of n answers is accepted while

.. math:: P\big(\mathrm{Bin}(n, \alpha) \le k\big) \le \delta

with :math:`\alpha` the share and :math:`1 - \delta` the confidence; the first one that fails ends the tests. The last accepted one is
used. The statement holds for samples drawn as the validation samples were, whatever the net.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spikegate.convert.calibrate import Answers, answers, margins
from spikegate.graph.ir import DeployError, Graph
from spikegate.ops.exit_gate import NEVER

DROPS = (0.0, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
CONFIDENCE = 0.9


@dataclass(frozen=True)
class Guarantee:
    """Share of changed answers `risk` that is not exceeded, with `confidence`; the margins [T]; how many of `tested` samples changed."""

    risk: float
    confidence: float
    margin: np.ndarray
    changed: int
    tested: int

    @property
    def facts(self) -> dict[str, float | int]:
        """What a manifest keeps, JSON ready."""
        return {"risk": self.risk, "confidence": self.confidence, "changed": self.changed, "tested": self.tested}


def guaranteed_margin(graph: Graph, inputs: np.ndarray, risk: float, confidence: float = CONFIDENCE) -> Guarantee:
    """The boldest margins of the sequence that keep the promise.

    Parameters
    ----------
    inputs : int [N, *graph.input_shape], embedded validation samples, none of them made from another
    risk : largest share of answers that may differ from those at the end, above 0
    confidence : probability, over draws of the validation samples, that the share holds

    Raises
    ------
    DeployError
        Shares outside (0, 1); too few samples to promise anything, with the number that it takes.
    """
    for name, value in (("--exit-risk", risk), ("--exit-confidence", confidence)):
        if not 0 < value < 1:
            raise DeployError(name, f"{value} is no share between 0 and 1", "give for instance 0.02 with confidence 0.9")
    half = len(inputs) // 2
    least = math.ceil(math.log(1 - confidence) / math.log(1 - risk))
    if len(inputs) - half < least:
        raise DeployError("--exit-risk", f"{len(inputs)} validation samples cannot show a share of {risk:g} with confidence {confidence:g}",
                          f"it takes {2 * least} at least: raise data.validation, the risk, or lower the confidence")
    found = answers(graph, inputs[np.random.default_rng(0).permutation(len(inputs))])  # data sets come sorted
    return passing(found.part(slice(half)), found.part(slice(half, None)), risk, confidence)


def passing(shaping: Answers, testing: Answers, risk: float, confidence: float) -> Guarantee:
    """The last of the margins shaped on some samples that passes on the others."""
    from scipy.stats import binom

    n, steps = len(testing.end), testing.logits.shape[1]
    best = Guarantee(risk, confidence, np.full(steps, NEVER, np.int64), 0, n)
    for drop in DROPS:
        margin = margins(shaping, drop)
        changed = int((testing.early(margin)[0] != testing.answer).sum())
        if binom.cdf(changed, n, risk) > 1 - confidence:
            break
        best = Guarantee(risk, confidence, margin, changed, n)
    return best
