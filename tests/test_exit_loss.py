"""Exit margins for a stated loss of accuracy: never more on images that did not shape them, and bolder where errors allow it."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.convert.calibrate import margins
from spikegate.convert.exit_loss import margin_within, within
from spikegate.convert.guarantee import DROPS
from spikegate.graph.ir import DeployError
from spikegate.ops.exit_gate import NEVER
from tests.graphs import halting_graph, halting_input
from tests.test_guarantee import noisy


def of_half(found, labels, loss):
    return within(found, labels, loss, np.arange(len(labels)) % 2)


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05])
def test_the_loss_is_kept_on_images_that_did_not_shape_the_margins(loss):
    """60 draws of 600 validation samples, a fifth of whose answers are wrong; the loss itself from 20,000 others."""
    rng = np.random.default_rng(0)

    def drawn(number):
        found = noisy(rng, number)
        return found, np.where(rng.random(number) < 0.2, (found.answer + 1) % 5, found.answer)

    world, right = drawn(20_000)
    losses, steps = [], []
    for _ in range(60):
        chosen = of_half(*drawn(600), loss)
        answer, step = world.early(chosen.margin)
        losses.append((world.answer == right).mean() - (answer == right).mean())
        steps.append(step.mean())
        assert chosen.drop in (None, *DROPS) and chosen.accuracy >= chosen.accuracy_before - loss
    assert np.mean(steps) < 4 or loss == 0
    assert np.mean(losses) <= loss + 0.005  # chosen by 600 noisy answers: half a point of slack


def test_more_loss_never_leaves_later():
    found = noisy(np.random.default_rng(1), 1000)
    steps = [of_half(found, found.answer, loss).timesteps for loss in (0.0, 0.01, 0.03, 0.1, 0.3)]
    assert steps == sorted(steps, reverse=True) and steps[-1] < steps[0]


def test_of_a_net_that_errs_much_more_answers_may_change():
    """Labels that have nothing to do with the answers: nothing can be lost, so the boldest margins are taken."""
    rng = np.random.default_rng(2)
    found = noisy(rng, 4000)
    chance = of_half(found, rng.integers(0, 5, 4000), 0.05)
    sure = of_half(found, found.answer, 0.05)
    assert chance.drop == DROPS[-1] and chance.timesteps < sure.timesteps
    assert np.array_equal(sure.margin, margins(found, sure.drop))


def test_nothing_is_chosen_where_the_most_cautious_exit_loses_more():
    """Answers before the end are chance: leaving is never worth it."""
    rng = np.random.default_rng(3)
    found = noisy(rng, 400)
    found.logits[:, :-1] = rng.integers(0, 1000, found.logits[:, :-1].shape)
    chosen = of_half(found, found.answer, 0.0)
    assert chosen.accuracy >= chosen.accuracy_before and (chosen.drop is None or chosen.timesteps > 3.9)
    assert chosen.margin[-1] == NEVER


def test_odd_wishes_are_refused():
    graph, x = halting_graph(), halting_input(4)
    for loss in (-0.1, 1.0):
        with pytest.raises(DeployError, match="no share of images"):
            margin_within(graph, x, np.zeros(4, int), loss)
    with pytest.raises(DeployError, match="no two validation images"):
        margin_within(graph, x[:1], np.zeros(1, int), 0.1)
