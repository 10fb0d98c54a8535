"""Finds the process that died or hangs: every process writes its phase into shared memory, the parent reads it."""

from __future__ import annotations

import mmap
import os
import signal
import time

import numpy as np

from spikegate.deploy.network import patience
from spikegate.errors import DeployError

START, IDLE, RECV, COMPUTE, SEND, STOPPED = range(6)
PID, PHASE, DETAIL, STEPS, SINCE, FIELDS = range(6)
SERVICE = "runtime service"  # Lava's own process


class Pulses:
    """Table shared with the processes, a row for each: pid, phase, detail (op or sender), timesteps begun, time of the last change (s)."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        rows = len(names) + 1
        self.table = np.frombuffer(mmap.mmap(-1, rows * FIELDS * 8), np.float64).reshape(rows, FIELDS)
        self.table[:, SINCE] = time.monotonic()

    def of(self, name: str) -> Pulse:
        return Pulse(self.table, self.names.index(name))

    def service(self, pid: int) -> None:
        """Enter the pid of Lava's own process."""
        self.table[-1, PID] = pid

    def pids(self) -> dict[int, str]:
        """pid -> process name, of those that have started."""
        return {int(row[PID]): name for name, row in zip([*self.names, SERVICE], self.table) if row[PID]}

    def culprit(self, senders: dict[str, list[str]]) -> tuple[str, int, int]:
        """The process that the others wait for: (name, phase, detail).

        One that computes comes first, then one that never started or cannot send; else the one that has not taken a
        message that all its senders have sent (it was stopped, for instance).
        """
        now = {name: (int(row[PHASE]), int(row[DETAIL]), int(row[STEPS])) for name, row in zip(self.names, self.table)}
        for phase in (COMPUTE, START, SEND):
            stuck = [n for n in self.names if now[n][0] == phase]
            if stuck:
                name = min(stuck, key=lambda n: self.table[self.names.index(n), SINCE])
                return name, now[name][0], now[name][1]
        injector = self.names[0]
        for name in self.names[1:]:
            if all(now[s][2] > now[name][2] for s in senders[name]):
                return name, now[name][0], now[name][1]
        return injector, now[injector][0], now[injector][1]

    def hanging(self, verdict: str, process: str, senders: dict[str, list[str]], ops: list[str], patience_s: float) -> DeployError:
        """A verdict of `Patience` in words: the process that is stopped, or that the others wait for, and what it does."""
        if verdict == patience.STOPPED:
            return DeployError(f"process {process}", "hangs: a signal or a debugger has stopped it", "continue it (kill -CONT), run again")
        name, phase, detail = self.culprit(senders)
        doing = {START: "never started", COMPUTE: "computes", SEND: "cannot send"}.get(phase, "does not take its messages")
        if phase == COMPUTE and detail >= 0:
            doing = f"computes op {ops[detail]}"
        time_of = "of processor time " if verdict == patience.BUSY else ""
        return DeployError(f"process {name}", f"hangs: it {doing} since {patience_s:g} s {time_of}without result",
                           "if the op really takes so long, use a smaller --batch or more --patience")


class Pulse:
    """One process's row of the table."""

    def __init__(self, table: np.ndarray, at: int) -> None:
        self.table, self.row = table, table[at]

    def started(self) -> None:
        self.row[PID] = os.getpid()
        self.enter(RECV)

    def enter(self, phase: int, detail: int = 0) -> None:
        self.row[PHASE], self.row[DETAIL], self.row[SINCE] = phase, detail, time.monotonic()

    @property
    def phase(self) -> int:
        return int(self.row[PHASE])

    @property
    def cell(self) -> np.ndarray:
        """Where the number of the op at work is written, float64 [1]."""
        return self.row[DETAIL : DETAIL + 1]

    def finished(self) -> None:
        """A timestep was sent and reported."""
        self.received()
        self.enter(RECV)

    def received(self) -> None:
        """A message was processed, or received by a process that handles many together."""
        self.row[STEPS] += 1


def how_it_died(exitcode: int | None) -> str:
    """An exit code in words."""
    if exitcode is not None and exitcode < 0:
        try:
            return f"was killed by {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"was killed by signal {-exitcode}"
    return f"ended by itself (exit code {exitcode})"
