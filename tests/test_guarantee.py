"""Exit margins with a guarantee: the share of changed answers stays below the promise as often as promised."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.convert.calibrate import Answers, answers, calibrate_margin, margins, with_margin
from spikegate.convert.guarantee import guaranteed_margin, passing
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from spikegate.ops.exit_gate import NEVER
from tests.graphs import TIMESTEPS, halting_graph, halting_input


def noisy(rng: np.random.Generator, number: int, steps: int = 4, classes: int = 5) -> Answers:
    """Logits that wander: the longer, the nearer to the answer at the end."""
    drift = rng.normal(0, 30, (number, 1, classes)) + rng.normal(0, 60, (number, steps, classes)).cumsum(1)
    logits = np.rint(drift * np.arange(1, steps + 1)[None, :, None]).astype(np.int64)
    return Answers(logits, np.full(number, steps), logits[:, -1].argmax(1))


def test_the_rule_is_the_gates_own():
    """What `early` says of recorded logits is what the net does with these margins."""
    graph, x = halting_graph(), halting_input(120)
    margin = calibrate_margin(graph, x, 0.2)
    answer, step = answers(graph, x).early(margin)
    real = integer.run(with_margin(graph, margin), x)
    assert np.array_equal(answer, real.prediction) and np.array_equal(step, real.exit_step) and (step < TIMESTEPS).any()


@pytest.mark.parametrize("risk, confidence", [(0.05, 0.9), (0.2, 0.8)])
def test_the_promise_is_kept_as_often_as_promised(risk, confidence):
    """300 draws of 400 validation samples; the true share from 20,000 others. Without tests on samples of their own it breaks."""
    rng = np.random.default_rng(0)
    world = noisy(rng, 20_000)
    broken = naive = early = 0
    for _ in range(300):
        drawn = noisy(rng, 400)
        found = passing(drawn.part(slice(200)), drawn.part(slice(200, None)), risk, confidence)
        answer, step = world.early(found.margin)
        broken += (answer != world.answer).mean() > risk
        early += (step < 4).mean()
        naive += (world.early(margins(drawn, risk))[0] != world.answer).mean() > risk
    # 300 draws of probability 1 - confidence: four standard deviations of slack
    assert broken <= 300 * (1 - confidence) + 4 * np.sqrt(300 * confidence * (1 - confidence))
    assert early > 0 and naive > 300 * (1 - confidence) + 4 * np.sqrt(300 * confidence * (1 - confidence))


def test_no_exit_where_nothing_can_be_promised_of_it():
    rng = np.random.default_rng(1)
    logits = rng.integers(0, 1000, (400, 4, 5))  # early answers are chance
    found = Answers(logits, np.full(400, 4), logits[:, -1].argmax(1))
    assert (passing(found.part(slice(200)), found.part(slice(200, None)), 0.02, 0.95).margin > 900).all()


def test_too_few_samples_and_odd_wishes_are_refused():
    graph = halting_graph()
    with pytest.raises(DeployError, match="takes 460 at least"):
        guaranteed_margin(graph, halting_input(100), 0.01, 0.9)
    for risk, confidence in ((0.0, 0.9), (0.1, 1.0), (-1, 0.5)):
        with pytest.raises(DeployError, match="between 0 and 1"):
            guaranteed_margin(graph, halting_input(10), risk, confidence)
    found = guaranteed_margin(graph, halting_input(200), 0.3, 0.8)
    assert found.margin[-1] == NEVER and found.facts["tested"] == 100
