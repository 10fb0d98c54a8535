"""Lava processes against the integer reference: exactly equal, in every mapping and protocol; and they always end."""

from __future__ import annotations

import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from spikegate.deploy.network.network import Network
from spikegate.deploy.network.patience import Sight, sight
from spikegate.engine import integer
from spikegate.graph.ir import DeployError, Graph
from spikegate.neurons.cuba import Cuba
from spikegate.ops.dense import Dense
from tests.conftest import hear_ctrl_c
from tests.faults.processes import unused
from tests.faults.troubled import halting_net, troubled
from tests.graphs import halting_input

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]
REPOSITORY = Path(__file__).parent.parent
samples = halting_input


def children(pid: int) -> set[int]:
    """Live child processes, without the tracker that other parts of Python start, which serves until its parent ends."""
    found = set()
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = Path(stat).read_text().rsplit(")", 1)[1].split()
            line = Path(stat).with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z" and b"resource_tracker" not in line:
            found.add(int(stat.split("/")[2]))
    return found


@pytest.fixture(autouse=True)
def nothing_left():
    """Every test here leaves no process and no shared memory behind."""
    before = children(os.getpid()), set(os.listdir("/dev/shm"))
    yield
    assert children(os.getpid()) <= before[0]
    assert not unused(set(os.listdir("/dev/shm")) - before[1])


def assert_equal(a, b):
    assert a.ops == b.ops and a.spikes.keys() == b.spikes.keys()
    for name in a.spikes:
        assert np.array_equal(a.spikes[name], b.spikes[name]), name
    for field in ("alive", "counts", "logits", "exit_step"):
        assert np.array_equal(getattr(a, field), getattr(b, field)), field


@pytest.mark.parametrize("protocol", ["async", "loihi"])
@pytest.mark.parametrize("mapping", ["op", "block", "chip"])
def test_equals_reference_run_after_run(mapping, protocol):
    graph = halting_net()
    with Network(graph, mapping, 4, protocol) as network:
        for x in (samples(11), samples(3, seed=2), samples(9, seed=3)):  # fewer samples than slots, too
            reference = integer.run(graph, x, spikes=True, batch=7)
            assert_equal(network.run(x, spikes=True), reference)
        assert network.run(samples(5)).spikes == {}


@pytest.mark.parametrize("batch", [1, 3, 20])
def test_batch_changes_nothing(batch):
    graph, x = halting_net(), samples(10)
    ended = []
    with Network(graph, "chip", batch) as network:
        record = network.run(x, np.arange(10) % 3, spikes=True, progress=ended.append)
    assert_equal(record, integer.run(graph, x, spikes=True))
    assert sum(ended) == 10 and record.labels is not None


def test_halted_samples_cost_no_timesteps():
    graph, x = halting_net(), samples(12)
    reference = integer.run(graph, x, batch=1)
    with Network(graph, "block", 1) as network:
        network.run(x)
    assert reference.exit_step.sum() < len(x) * graph.timesteps
    assert set(network.steps.values()) == {reference.exit_step.sum()}  # of injector and of every stage


def test_static_net_without_gates_and_stepwise_input():
    rng = np.random.default_rng(0)
    graph = Graph(timesteps=3, input_shape=(6,))
    for name, source, (out, per) in (("fc1", "input", (5, 6)), ("fc2", "fc1", (4, 5))):
        graph.add(name, Dense(rng.integers(-20, 40, (out, per)) * 2, rng.integers(-9, 9, out), Cuba(4096, 2048, 40)), x=source)
    graph.check()
    x = rng.integers(0, 2, (7, 3, 6))
    reference = integer.run(graph, x, spikes=True)
    for mapping in ("op", "chip"):
        with Network(graph, mapping, 2) as network:
            assert_equal(network.run(x, spikes=True), reference)


def test_unfit_input_is_refused_and_network_lives_on():
    graph = halting_net()
    with Network(graph, "chip", 2) as network:
        with pytest.raises(DeployError, match="values span"):
            network.run(samples(2) + 100)
        assert network.run(samples(0)).logits.shape == (0, 3)
        assert_equal(network.run(samples(2)), integer.run(graph, samples(2)))
    with pytest.raises(DeployError, match="is closed"):
        network.run(samples(2))


@pytest.mark.parametrize("protocol", ["async", "loihi"])
@pytest.mark.parametrize("trouble, words", [("raise", "process mid: op mid failed: ZeroDivisionError: on purpose"),
                                            ("sleep", "process mid: hangs: it computes op mid"), ("lie", "mid: sends values in")])
def test_trouble_is_named(trouble, words, protocol):
    network = Network(troubled(trouble), "op", 4, protocol, patience_s=3)
    start = time.monotonic()
    with pytest.raises(DeployError) as caught:
        network.run(samples(20))
    assert time.monotonic() - start < 10
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["block2", "gate1", "injector", "runtime service"])
@pytest.mark.parametrize("how, words", [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "hangs: a signal")])
def test_killed_or_stopped_process_is_named(name, how, words):
    network = Network(halting_net(), "block", 4, "loihi", patience_s=3)  # here the runtime service takes part in every step
    pid = {n: p for p, n in network.pulses.pids().items()}[name]
    killer = threading.Timer(0.7, os.kill, (pid, how))
    killer.start()
    start = time.monotonic()
    with pytest.raises(DeployError) as caught:
        network.run(samples(4000))
    killer.join()
    assert time.monotonic() - start < 10
    assert f"process {name}: " in str(caught.value) and words in str(caught.value)


def test_without_the_kernels_word_the_waiting_neighbours_are_not_named(monkeypatch):
    monkeypatch.setattr("spikegate.deploy.network.watching.sight", lambda pid: Sight("S", sight(pid).used_s))
    network = Network(halting_net(), "block", 4, patience_s=3)
    pid = {n: p for p, n in network.pulses.pids().items()}["gate1"]
    killer = threading.Timer(0.7, os.kill, (pid, signal.SIGSTOP))
    killer.start()
    with pytest.raises(DeployError, match="process gate1: hangs: it "):
        network.run(samples(4000))
    killer.join()


def test_process_that_died_while_idle_is_named():
    network = Network(halting_net(), "chip", 2, stages=1)
    network.run(samples(3))
    os.kill({n: p for p, n in network.pulses.pids().items()}["chip"], signal.SIGKILL)
    with pytest.raises(DeployError, match="process chip: was killed"):
        network.run(samples(2000))


def test_nothing_that_processes_share_has_a_name():
    before = set(os.listdir("/dev/shm"))
    with Network(halting_net(), "op", 2) as network:
        network.run(samples(5))
        open_files = {os.readlink(f) for pid in network.pulses.pids() for f in glob.glob(f"/proc/{pid}/fd/*")}
        assert not unused(set(os.listdir("/dev/shm")) - before) and not any("/dev/shm" in f for f in open_files)


def test_process_that_dies_at_the_start_is_named(monkeypatch):
    def die(leaf):
        if leaf.plan.name == "block2":
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("spikegate.deploy.network.leaf.Leaf.start", die)
    start = time.monotonic()
    with pytest.raises(DeployError, match="process block2: was killed by SIGKILL while the network started"):
        Network(halting_net(), "block", 2)
    assert time.monotonic() - start < 10


def test_no_torch_and_lava_in_one_place():
    modules = ("network.network", "lava.lava_import", "lava_processes.stage")
    script = f"import sys, {', '.join(f'spikegate.deploy.{m}' for m in modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")
    for path in (REPOSITORY / "deploy").rglob("*.py"):
        assert path.name == "lava_import.py" or not re.search(r"^\s*(from|import) lava\b", path.read_text(), re.M), path


def test_error_of_the_caller_ends_everything():
    def fail(n):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), Network(halting_net(), "block", 4) as network:
        network.run(samples(50), progress=fail)


SCRIPT = """
import sys
from spikegate.deploy.network.network import Network
from spikegate.deploy.network.patience import Sight, sight
from tests.faults.troubled import halting_net
from tests.test_lava import samples
network = Network(halting_net(), {mapping!r}, 4, {protocol!r})
print("running", flush=True)
while True:
    network.run(samples(3000))
"""


def group_of(pgid: int) -> set[int]:
    """Live processes of a process group."""
    found = set()
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = Path(stat).read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == pgid and fields[0] != "Z":
            found.add(int(stat.split("/")[2]))
    return found


@pytest.mark.parametrize("mapping, protocol", [("block", "async"), ("chip", "loihi")])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_or_death_of_the_parent_leaves_nothing(mapping, protocol, end):
    command = [sys.executable, "-c", SCRIPT.format(mapping=mapping, protocol=protocol)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True, text=True, preexec_fn=hear_ctrl_c, **pipes)
    try:
        assert child.stdout.readline() == "running\n"
        time.sleep(0.5)
        if end is signal.SIGINT:
            os.killpg(child.pid, end)  # as a terminal does
        else:
            child.kill()
        _, errors = child.communicate(timeout=20)
        if end is signal.SIGINT:
            assert errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors, errors
        deadline = time.monotonic() + 10
        while group_of(child.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not group_of(child.pid)
    finally:
        for pid in group_of(child.pid):
            os.kill(pid, signal.SIGKILL)
