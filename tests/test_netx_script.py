"""A script that runs the drop-in: whatever ends it, no process and no name in /dev/shm is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.processes import left_behind, of_session, shared_names
from tests.test_netx_wheel import HERE

pytestmark = [pytest.mark.lava, pytest.mark.timeout(120)]
REPOSITORY = Path(__file__).parent.parent
SCRIPT = """
import sys, threading
import numpy as np
from spikegate.deploy.netx_network import Network
from spikegate.deploy.lava.lava_import import lava_modules

lava = lava_modules()
net = Network(net_config={file!r}, skip_layers=1)
rng = np.random.default_rng(0)
source = lava.source.RingBuffer(data=(rng.random((*net.inp.shape, 50)) < 0.2).astype(int))
source.s_out.connect(net.inp)
sink = lava.sink.RingBuffer(shape=net.out.shape, buffer=50)
net.out.connect(sink.a_in)

def run(steps):
    {which}.run(condition=lava.RunSteps(steps), run_cfg=lava.Loihi2SimCfg(select_tag="fixed_pt"))

if {thread}:
    worker = threading.Thread(target=run, args=(20,))
    worker.start()
    worker.join()
else:
    run(20)
print("ran", flush=True)
run({steps})
print(int(sink.data.get().sum()), flush=True)
net.stop()
"""


def started(steps: int, which: str = "net", thread: bool = False) -> subprocess.Popen[str]:
    """The script, in a session of its own, once it has run some steps."""
    text = SCRIPT.format(file=str(HERE / "tiny.net"), which=which, thread=thread, steps=steps)
    script = subprocess.Popen([sys.executable, "-c", text], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True,
                              preexec_fn=hears)  # fmt: skip
    assert script.stdout is not None and script.stdout.readline().strip() == "ran"
    return script


def hears() -> None:
    """A test run under nohup hands an ignored SIGHUP down, which a script then rightly ignores, too."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("which", ["net", "sink"])
def test_a_killed_script_leaves_nothing(number, which):
    before = shared_names()
    script = started(10_000_000, which)
    assert len(of_session(script.pid)) > 3
    time.sleep(0.2)
    script.send_signal(number)
    try:
        script.wait(20)
    finally:
        if script.poll() is None:  # one that does not end must not run on beside the other tests
            os.killpg(script.pid, signal.SIGKILL)
    processes, names, _ = left_behind(script.pid, before)
    assert not processes and not names


@pytest.mark.parametrize("thread", [False, True])
def test_a_script_that_ends_leaves_nothing(thread):
    """Also one whose processes start in a thread that ends before they do."""
    before = shared_names()
    script = started(20, thread=thread)
    out, _ = script.communicate(timeout=60)
    assert int(out) > 0 and script.returncode == 0
    processes, names, _ = left_behind(script.pid, before)
    assert not processes and not names
