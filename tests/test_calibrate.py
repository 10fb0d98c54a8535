"""Exit margins: no more answers changed than allowed, and real exits from what is left."""

from __future__ import annotations

import numpy as np
import pytest

from spikegate.convert.calibrate import calibrate_margin, with_margin
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from spikegate.ops.exit_gate import NEVER
from tests.graphs import TIMESTEPS, halting_graph, halting_input


@pytest.mark.parametrize("drop", [0.0, 0.05, 0.2])
def test_calibrated_margins_change_no_more_answers_than_allowed(drop):
    graph, x = halting_graph(), halting_input(200)
    full = integer.run(graph, x)
    margin = calibrate_margin(graph, x, drop)
    assert margin[-1] == NEVER and (margin[:-1] >= 1).all()
    early = integer.run(with_margin(graph, margin), x)
    assert (full.prediction != early.prediction).sum() <= drop * 200
    assert early.mean_timesteps < full.mean_timesteps and early.chip_events.sum() < full.chip_events.sum()
    assert np.array_equal(full.prediction[early.exit_step == TIMESTEPS], early.prediction[early.exit_step == TIMESTEPS])


def test_more_may_be_lost_for_earlier_exits():
    graph, x = halting_graph(), halting_input(200)
    means = [integer.run(with_margin(graph, calibrate_margin(graph, x, d)), x).mean_timesteps for d in (0.0, 0.1, 0.5)]
    assert means[0] > means[1] > means[2]


def test_impossible_wishes_are_refused():
    with pytest.raises(DeployError, match="exit-drop"):
        calibrate_margin(halting_graph(), halting_input(), -0.1)
    with pytest.raises(DeployError, match="no exit gate"):
        with_margin(halting_graph().without(["exit_gate"]), np.full(TIMESTEPS, NEVER))
