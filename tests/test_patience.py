"""When a network counts as hanging: a clock and a kernel of the test's own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

from spikegate.deploy.network.patience import BUSY, STOPPED, STOPPED_S, STUCK, Patience, Sight, sight

TICK = 0.25


def seconds_until(patience: Patience, sights, marks=None, waiting=True, limit_s=100.0, tick=TICK):
    """(verdict, s of the clock when it came), or None; `sights` and `marks` are functions of the time."""
    for k in itertools.count():
        now = k * tick
        if now > limit_s:
            return None
        verdict = patience.look(now, sights(now), marks(now) if marks else 0, waiting)
        if verdict:
            return verdict, now


def test_all_asleep_is_a_hang_after_the_patience():
    found = seconds_until(Patience(7), lambda t: {"a": Sight("S", 1.0), "b": Sight("S", 2.0)})
    assert found == ((STUCK, ""), 7.0)


def test_progress_begins_the_count_again():
    found = seconds_until(Patience(7), lambda t: {"a": Sight("S", 1.0)}, marks=lambda t: t >= 5)
    assert found == ((STUCK, ""), 12.0)


def test_one_that_waits_for_a_processor_or_a_disk_is_no_hang():
    for state in "RD":
        assert seconds_until(Patience(7), lambda t, s=state: {"a": Sight(s, 1.0), "b": Sight("S", 2.0)}) is None


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
def test_one_that_computes_has_its_patience_in_processor_time(share):
    """A load of 50 on one core, or none: the same seconds of the process's own."""
    verdict, at = seconds_until(Patience(7), lambda t: {"a": Sight("R", 3 + share * t), "b": Sight("S", 0)}, limit_s=1000)
    assert verdict == (BUSY, "a") and at == pytest.approx(7 / share, abs=TICK)


def test_slow_progress_on_a_busy_machine_is_no_hang():
    """A message every 20 s of the clock, with a twentieth of a core."""
    assert seconds_until(Patience(7), lambda t: {"a": Sight("R", t / 20), "b": Sight("S", 0)}, marks=lambda t: t // 20, limit_s=500) is None


def test_a_stopped_process_is_named_while_others_go_on():
    found = seconds_until(Patience(60), lambda t: {"a": Sight("R", t), "b": Sight("T", 1)}, marks=lambda t: t)
    assert found == ((STOPPED, "b"), STOPPED_S)


def test_all_stopped_together_with_the_one_who_looks():
    """Ctrl-Z on a terminal, an hour later fg: the look that sees it counts for a second."""
    patience = Patience(7)
    assert patience.look(0.0, {"a": Sight("R", 0)}, 0) is None
    assert patience.look(3600.0, {"a": Sight("T", 0)}, 0) is None
    assert patience.look(3600.25, {"a": Sight("R", 0)}, 0) is None


def test_time_of_the_parent_does_not_count():
    assert seconds_until(Patience(7), lambda t: {"a": Sight("S", 1.0)}, waiting=False) is None


def test_a_parent_that_is_kept_waiting_itself_counts_little():
    """Looks 5 s apart, as on a machine that hardly lets it run: each counts a second."""
    verdict, at = seconds_until(Patience(7), lambda t: {"a": Sight("S", 1.0)}, tick=5.0)
    assert verdict == (STUCK, "") and at == 35.0


def test_helpers_are_not_taken_for_workers():
    patience = Patience(7)
    for k in range(400):
        assert patience.look(k * TICK, {"service": Sight("R", k * TICK), "a": Sight("S", 0)}, 0, True, frozenset({"a"})) is None


def test_the_kernels_word():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        deadline = time.monotonic() + 20
        while sight(child.pid).used_s < 0.1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sight(child.pid).state == "R" and sight(child.pid).used_s >= 0.1
        os.kill(child.pid, signal.SIGSTOP)
        while sight(child.pid).state != "T" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert sight(child.pid).state == "T"
    finally:
        child.kill()
        child.wait()
    assert sight(child.pid) == Sight("S", 0.0)
