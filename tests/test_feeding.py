"""A net that one process holds decides by itself: samples are fed ahead, and everything is as in the integer reference."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from spikegate.deploy.network import feeding
from spikegate.deploy.network.messages import FLUSH
from spikegate.deploy.network.network import Network
from spikegate.engine import integer
from spikegate.graph.ir import INPUT, DeployError
from tests.faults.troubled import halting_net, troubled
from tests.graphs import TIMESTEPS, halting_graph, halting_input
from tests.test_lava import assert_equal, nothing_left, samples  # noqa: F401  # the fixture watches here, too

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]


def stepwise(n: int) -> np.ndarray:
    """Another input in each timestep, int32 [n, TIMESTEPS, ...]."""
    return np.stack([halting_input(n, seed) for seed in range(TIMESTEPS)], 1)


@pytest.mark.parametrize("args, fed", [(("chip",), True), (("block",), False), (("chip", 4, "loihi"), False)])
def test_samples_are_streamed_only_to_nets_in_one_process(args, fed):
    with Network(halting_net(), *args) as network:  # in the protocol of the chip its step is the timestep
        assert network.one_process == fed


@pytest.mark.parametrize("batch", [1, 3, 50])
@pytest.mark.parametrize("make", [samples, stepwise])
@pytest.mark.parametrize("net", [halting_net, lambda: halting_graph(gated=False)])
def test_samples_of_many_messages_and_both_kinds_of_input(net, make, batch, monkeypatch):
    monkeypatch.setattr(feeding, "SAMPLES", 6)  # rows in a message: more than a stepwise sample's, not a multiple of them
    monkeypatch.setattr(feeding, "PART", 5)
    graph = net()
    with Network(graph, "chip", batch) as network:
        assert network.one_process
        for n in (1, 20, 7):
            x = make(n)
            assert_equal(network.run(x, spikes=True), integer.run(graph, x, spikes=True))


def test_a_run_costs_one_message_for_many_timesteps():
    graph, x = halting_net(), samples(40)
    reference = integer.run(graph, x, batch=1)
    with Network(graph, "chip", 1) as network:
        record = network.run(x)
        taken = network.pulses.table[1, 3]
    assert_equal(record, reference)
    assert network.steps["chip"] == reference.exit_step.sum() > len(x)  # a sample that halts costs no more timesteps
    assert taken == 2  # one with all samples, one that says that the run is over


def test_a_slot_takes_the_next_sample_when_one_ends():
    graph, x = halting_net(), samples(10)
    ends = integer.run(graph, x).exit_step
    with Network(graph, "chip", 2) as network:
        network.run(x)
    assert network.steps["chip"] < sum(max(a, b) for a, b in zip(ends[::2], ends[1::2]))  # fewer than if both slots waited


@pytest.mark.parametrize("trouble, words", [("raise", "process chip: op mid failed: ZeroDivisionError: on purpose"),
                                            ("sleep", "process chip: hangs: it computes op mid")])
def test_trouble_is_named(trouble, words):
    network = Network(troubled(trouble), "chip", 4, patience_s=3)
    assert network.one_process
    with pytest.raises(DeployError) as caught:
        network.run(samples(300))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["chip", "injector"])
@pytest.mark.parametrize("how, words", [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "hangs: a signal")])
def test_killed_or_stopped_process_is_named(name, how, words):
    network = Network(halting_net(), "chip", 1, patience_s=3)
    pid = {n: p for p, n in network.pulses.pids().items()}[name]
    killer = threading.Timer(0.3, os.kill, (pid, how))
    killer.start()
    with pytest.raises(DeployError) as caught:
        while True:
            network.run(samples(4000))
    killer.join()
    assert f"process {name}: " in str(caught.value) and words in str(caught.value)


def test_slots_wait_for_samples_that_are_on_their_way():
    graph, x = halting_net(), samples(5)
    messages = iter([(0, chunk(x, [3, 4])), (FLUSH, chunk(x, []))])
    slots = feeding.ArrivingSlots(graph, 2, 1, False, chunk(x, [0, 1, 2]), lambda: next(messages))
    assert slots.sample.tolist() == [0, 1] and np.array_equal(slots.chunk().signals[INPUT], x[:2])
    assert slots.advance(np.array([True, True])).all() and slots.sample.tolist() == [2, 3]
    slots.advance(np.array([False, True]))
    assert slots.sample.tolist() == [2, 4] and np.array_equal(slots.chunk().signals[INPUT], np.stack([0 * x[2], x[4]]))
    slots.advance(np.array([True, True]))
    assert slots.finished and not slots.place and len(slots.free) == len(slots.kept) == 3  # places are used again


def chunk(x: np.ndarray, numbers: list[int]) -> integer.Chunk:
    """A message's samples."""
    rows = np.arange(len(numbers))
    return integer.Chunk(rows, np.array(numbers, np.int64), np.ones(len(rows), np.int64), {INPUT: x[numbers]})
