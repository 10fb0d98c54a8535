"""Lava processes in chip time, one Lava step per chip step: equal to the integer simulation and to algorithmic timing; they end."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
import torch

from spikegate.deploy.network.chip_mapping import Frames, plan
from spikegate.deploy.network.mapping import INJECTOR
from spikegate.deploy.network.network import Network
from spikegate.engine import integer
from spikegate.engine.chip_time import chip_run
from spikegate.engine.chip_time.schedule import pipeline_safe, schedule
from spikegate.engine.integer import Chunk
from spikegate.graph.ir import DeployError, Graph, Payload
from tests.faults.troubled import halting_net, troubled
from tests.graphs import halting_graph, halting_input
from tests.test_chip_time import long_graph
from tests.test_lava import nothing_left
from tests.test_layers import ALL, MERGE, RECTANGLE, lively

pytestmark = [pytest.mark.lava, pytest.mark.timeout(180)]
__all__ = ["nothing_left"]
PATIENCE_S = 60  # many processes on few cores
NETS = {
    "serial with exits": (halting_net, "wait"),
    "rectangle": (lambda: halting_graph(order="rectangle"), "pipelined"),
    "embedding spikes": (lambda: halting_graph(gated=False, spiking=True), "pipelined"),
    "dead early": (long_graph, "pipelined"),
}
SYSTEMS = {
    "spike_driven": {"halting": {"enabled": True, "width": 3, "beta": -5.0, "order": "rectangle"}}, "stmixer": ALL,
    "at_snn": RECTANGLE | MERGE, "msvit": {}, "dts_vit": {},
}


def assert_equal(record, simulated, reference) -> None:
    """Record of Lava in chip time, of the simulation in chip time, of algorithmic timing."""
    for name, spikes in reference.spikes.items():
        assert np.array_equal(record.spikes[name], spikes), name
    for field in ("alive", "counts", "logits", "exit_step"):
        assert np.array_equal(getattr(record, field), getattr(reference, field)), field
    assert record.meta == simulated.meta, "chip steps, delay lines, what was under way"


MANY = ("embedding spikes", "dead early")  # so many processes in mapping op that the others, which have the same parts, stand for them
PAIRS = [(net, mapping) for net in NETS for mapping in ("op", "block", "chip") if mapping != "op" or net not in MANY]


@pytest.mark.parametrize("net, mapping", PAIRS)
def test_equals_the_simulation_run_after_run(net, mapping):
    make, wanted = NETS[net]
    graph = make()
    made, steps = schedule(graph, wanted), 0
    with Network(graph, mapping, 4, "loihi", PATIENCE_S, made) as network:
        for x in (halting_input(5 if mapping == "op" else 11), halting_input(3, seed=2)):  # fewer samples than slots, too
            simulated = chip_run.run(made, x, batch=4)
            record = network.run(x, spikes=True)
            assert_equal(record, simulated, integer.run(graph, x, spikes=True))
            steps += simulated.meta["total_chip_steps"]
            assert set(network.steps.values()) == {steps}, "every process takes part in every chip step, and in no other"
        assert network.run(halting_input(0)).logits.shape == (0, 3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems(name):
    net, _ = lively(name, **SYSTEMS[name])
    net.set_phase("deployed")
    graph = net.graph()
    x = torch.randint(0, 17, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        embedded = net.stem(x).int().numpy()
    made = schedule(graph, "pipelined" if pipeline_safe(graph) else "wait")
    with Network(graph, "block", 16, "loihi", PATIENCE_S, made) as network:
        record = network.run(embedded, spikes=True)
    assert_equal(record, chip_run.run(made, embedded, batch=16), integer.run(graph, embedded, spikes=True))


def test_feedback_goes_straight_from_process_to_process():
    """No detour over the injector, which sends the clock to every process; wiring lies in the processes that read it."""
    made = schedule(halting_graph(), "wait")
    plans = plan(made, "op", 2)
    assert all(INJECTOR in p.senders for n, p in plans.items() if n != INJECTOR)
    assert plans["inject"].senders == [INJECTOR, "gate2"] and plans[INJECTOR].senders == ["exit"] and plans["exit"].exits


def test_a_message_holds_ops_at_different_timesteps():
    frames = Frames("here", 3, {n: ((2,), Payload(0, 1)) for n in "abc"})
    now = Chunk(np.array([0, 2]), np.array([7, 3]), np.array([1, 4]), {"a": np.array([[1, 0], [1, 1]])})
    later = Chunk(np.array([1]), np.array([5]), np.array([2]), {"c": np.array([[0, 1]])})
    message = frames.write(8, {"a": now, "c": later, "d": now})
    assert message.nbytes < frames.nbytes and message.dtype == np.uint8  # what does not fire takes no room
    flags, found = frames.read(message)
    assert flags == 8 and found.keys() == {"a", "c"}
    for name, want in (("a", now), ("c", later)):
        assert np.array_equal(found[name].t, want.t) and np.array_equal(found[name].signals[name], want.signals[name])


def test_an_op_that_fails_is_named():
    graph = troubled("raise")
    with pytest.raises(DeployError, match="op mid failed: ZeroDivisionError: on purpose"):
        Network(graph, "block", 4, "loihi", PATIENCE_S, schedule(graph, "wait")).run(halting_input(8))


def test_a_killed_process_is_named():
    graph: Graph = halting_graph(order="rectangle")
    network = Network(graph, "block", 4, "loihi", PATIENCE_S, schedule(graph, "pipelined"))
    pid = {n: p for p, n in network.pulses.pids().items()}["block1"]
    killer = threading.Timer(0.7, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(DeployError, match="process block1: was killed by SIGKILL"):
        network.run(halting_input(9000))
    killer.join()
