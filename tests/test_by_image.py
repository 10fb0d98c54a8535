"""Times and packets image by image: each as if it had been placed alone, together the means that all images give."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from spikegate.command import cli
from spikegate.engine.integer import run
from spikegate.graph.ir import DeployError
from spikegate.hw_sim import place
from spikegate.hw_sim.by_image import by_image
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.workload import workload_of
from tests.graphs import halting_graph, halting_input
from tests.test_hardware import LOIHI2, export


@pytest.fixture(scope="module")
def placed():
    """A halting net, its input, and its placement on cores of nine neurons."""
    graph, x = halting_graph(), halting_input(6)
    limits = {n: e.model_copy(update={"value": 9.0}) if n.startswith("neurons_per") else e for n, e in LOIHI2.limits.items()}
    record = run(graph, x)
    return graph, x, record, on_chip(workload_of(graph, record), load_chip("loihi2").model_copy(update={"limits": limits}), [])


def test_packets_of_the_images_add_up_to_the_mean(placed):
    graph, x, record, hw = placed
    found = by_image(graph, x, hw, record.counts)
    assert found["packets"].mean() == pytest.approx(hw.load.packets, rel=1e-6) and len(set(found["packets"])) > 1
    assert (found["packets"] == found["packets"].round()).all()  # whole events, no shares


def test_an_image_is_timed_with_its_own_events(placed):
    """The slowest core of an image is at least as slow as if its events were spread as those of all images are on average."""
    graph, x, _, hw = placed
    found = by_image(graph, x, hw)
    alone = on_chip(workload_of(graph, run(graph, x[2:3])), hw.chip, [], schedule=hw.schedule, mapping=None)
    assert found["latency_s"][2] == pytest.approx(alone.times.sum_ns[0] * 1e-9)
    assert hw.times is not None and found["latency_s"].sum() >= hw.times.sum_ns.sum() * 1e-9 * (1 - 1e-9)
    assert not np.allclose(found["latency_s"], hw.times.sum_ns * 1e-9)


def test_events_that_are_not_the_records_are_refused(placed):
    graph, x, record, hw = placed
    with pytest.raises(DeployError, match="image 0 does not give the recorded events"):
        by_image(graph, x, hw, record.counts + 1)


def test_without_events_there_are_no_images(tmp_path, monkeypatch, capsys):
    export(tmp_path, halting_graph(), events=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["place.py", "runs/mine", "--by-image", "4"])
    with pytest.raises(SystemExit) as e:
        cli.run(place.main)
    assert e.value.code == 1 and "needs recorded events" in capsys.readouterr().err
