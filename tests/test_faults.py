"""Faults around a network: threads, forks, signals, limits of the system, two commands in one folder; and a sample of the kill campaign."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from spikegate.command.ending import as_ctrl_c
from spikegate.command.folder_lock import alone_in
from spikegate.deploy.network.network import Network
from spikegate.deploy.network.watchdog import STEPS
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from tests.faults.processes import left_behind, shared_names
from tests.faults.troubled import halting_net
from tests.test_lava import assert_equal, children, nothing_left, samples  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]
REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def hear_hangup():
    """Tests that are run by nohup would ignore SIGHUP, and so would their children."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_runs_of_several_threads_take_turns():
    graph, found = halting_net(), {}
    with Network(graph, "block", 4) as network:
        threads = [in_thread(lambda k=k: found.setdefault(k, network.run(samples(60, seed=k), spikes=True))) for k in range(4)]
        for thread in threads:
            thread.join()
    for k in range(4):
        assert_equal(found[k], integer.run(graph, samples(60, seed=k), spikes=True))


def test_a_run_within_a_run_is_refused():
    with Network(halting_net(), "chip", 4) as network:
        with pytest.raises(DeployError, match="is running already"):
            network.run(samples(20), progress=lambda n: network.run(samples(2)))


def test_a_network_closed_while_another_thread_runs_it():
    network, caught, x = Network(halting_net(), "block", 4), [], samples(200_000)

    def run():
        try:
            network.run(x)
        except DeployError as e:
            caught.append(str(e))

    thread = in_thread(run)
    while network.pulses.table[1, STEPS] < 10:
        time.sleep(0.01)
    network.close()
    thread.join(20)
    assert not thread.is_alive() and "was closed by another thread" in caught[0]
    with pytest.raises(DeployError, match="is closed"):
        network.run(samples(2))


def test_a_network_outlives_the_thread_that_made_it():
    made = []
    in_thread(lambda: made.append(Network(halting_net(), "block", 4))).join()
    time.sleep(0.3)
    with made[0] as network:
        assert_equal(network.run(samples(9)), integer.run(halting_net(), samples(9)))


def test_a_child_of_the_program_can_neither_use_nor_end_its_network():
    with Network(halting_net(), "chip", 4) as network:
        child = os.fork()
        if child == 0:
            try:
                network.run(samples(2))
            except DeployError as e:
                network.close()
                os._exit(7 if "belongs to another process" in str(e) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert_equal(network.run(samples(5)), integer.run(halting_net(), samples(5)))


@pytest.mark.parametrize("how, words", [("kill", "was killed by SIGKILL during the run"), ("stop", "hangs: a signal or a debugger")])
def test_a_process_that_ends_or_stops_within_its_report_is_named(monkeypatch, how, words):
    """The parent has read the beginning of a message and waits for the rest, which never comes."""

    def flush(reporter):
        os.write(reporter.pipe.fileno(), struct.pack("!i", 1000) + b"some")
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)

    monkeypatch.setattr("spikegate.deploy.network.reports.Reporter.flush", flush)
    start = time.monotonic()
    network = Network(halting_net(), "chip", 4, stages=1)
    with pytest.raises(DeployError, match=f"process chip: {words}"):
        network.run(samples(5))
    assert time.monotonic() - start < 15


def test_a_parent_that_takes_its_time_is_no_hang():
    with Network(halting_net(), "block", 2, patience_s=1) as network:
        waited = []

        def slow(ended):
            if not waited:
                waited.append(time.sleep(3))

        assert_equal(network.run(samples(400), progress=slow), integer.run(halting_net(), samples(400)))


@pytest.mark.parametrize("number, words", [(errno.EMFILE, "more open files"), (errno.EAGAIN, "more processes"),
                                           (errno.ENOMEM, "more memory")])
def test_limits_of_the_system_are_named(monkeypatch, number, words):
    def refused(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fork", refused)
    with pytest.raises(DeployError, match=words):
        Network(halting_net(), "block", 4)


def test_too_few_open_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 12, before[1]))
    try:
        with pytest.raises(DeployError, match="more open files"):
            Network(halting_net(), "op", 4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


FULL = """
import os
from spikegate.deploy.network.network import Network
from spikegate.engine.integer import run
from tests.faults.troubled import halting_net
from tests.test_lava import assert_equal, samples
assert os.statvfs("/dev/shm").f_bavail == 0
with Network(halting_net(), "op", 4) as network:
    assert_equal(network.run(samples(9), spikes=True), run(halting_net(), samples(9), spikes=True))
"""


def test_a_full_dev_shm_is_not_needed():
    """As in a container that has little of it."""
    fill = "mount -t tmpfs -o size=64k tmpfs /dev/shm && head -c 65536 /dev/zero > /dev/shm/full"
    if subprocess.run(["unshare", "-m", "sh", "-c", fill], capture_output=True).returncode:
        pytest.skip("a /dev/shm of its own needs the right to mount")
    words = ["unshare", "-m", "sh", "-c", f'{fill} && exec "$0" -c "$1"', sys.executable, FULL]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


START = """
import sys
from spikegate.deploy.network.network import Network
from spikegate.deploy.network.watchdog import STEPS
from tests.faults.troubled import halting_net
from tests.test_lava import samples
print("begin", flush=True)
network = Network(halting_net(), "op", 4)
network.run(samples(10**6))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("wanted", [1, 4])
def test_a_parent_killed_while_processes_start_leaves_nothing(number, wanted):
    before = shared_names()
    parent = subprocess.Popen([sys.executable, "-c", START], cwd=REPOSITORY, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout.readline() == "begin\n"
        while len(children(parent.pid)) < wanted:
            assert parent.poll() is None
        parent.send_signal(number)
        assert parent.wait(20) == -number
        left, names, gone = left_behind(parent.pid, before)
        assert not left and not names and gone < 5
    finally:
        parent.kill()


def test_two_commands_do_not_share_a_folder(tmp_path):
    folder = tmp_path / "deploy"
    with alone_in(folder):
        with pytest.raises(DeployError, match="another command is writing here"), alone_in(folder):
            pass
        script = f"from pathlib import Path; from spikegate.command import folder_lock; folder_lock.alone_in(Path('{folder}')).__enter__()"
        done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
        assert "another command is writing here" in done.stderr
    assert not folder.exists()  # nothing was written to it
    with alone_in(folder):
        (folder / "result.json").write_text("{}")
    assert folder.exists()


def test_a_second_deployment_into_the_same_folder_is_refused(tmp_path):
    command = [sys.executable, REPOSITORY / "deploy/run.py", "zoo:stas-digits", "--data", "test:4", "--target", "int", "--output", "out"]
    with alone_in(tmp_path / "out"):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "error: out: another command is writing here" in done.stderr


def test_sigterm_and_sighup_are_ctrl_c_within_a_command():
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)]
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(KeyboardInterrupt), as_ctrl_c():
            os.kill(os.getpid(), number)
            time.sleep(1)
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)] == before


def test_an_interrupt_that_is_swallowed_comes_again():
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    reached = []
    with pytest.raises(KeyboardInterrupt), as_ctrl_c():
        Swallows()
        reached.append(1)  # the destructor's exception is ignored by Python
        time.sleep(5)
    assert reached == [1]


def test_an_error_that_an_interrupt_became_is_an_interrupt():
    """As an extension module's import turns it into ImportError."""
    with pytest.raises(KeyboardInterrupt), as_ctrl_c():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(1)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
    with pytest.raises(ImportError), as_ctrl_c():
        raise ImportError("of its own")


def test_signals_that_are_ignored_or_heard_elsewhere_stay_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        with as_ctrl_c():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        seen = []

        def look():
            with as_ctrl_c():
                seen.append(signal.getsignal(signal.SIGTERM))

        in_thread(look).join()
        assert seen == [signal.getsignal(signal.SIGTERM)]
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.timeout(600)
def test_a_sample_of_the_kill_campaign(tmp_path):
    command = [sys.executable, "tests/faults/campaign.py", "--kills", "10", "--seed", "1", "--log", tmp_path / "log"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["kills"] == 10 and found["while starting"] == 4 and found["not right"] == []
    assert found["with processes alive"] >= 1  # kills that came while Lava's processes lived; how many, the machine's load decides
    assert np.array_equal([json.loads(line)["bad"] for line in (tmp_path / "log").read_text().splitlines()], [[]] * 10)
