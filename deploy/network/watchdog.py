"""Finds the process that died or hangs: every process writes its phase into shared memory, the parent reads it."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import time

import numpy as np

from spikegate.errors import DeployError

START, IDLE, RECV, COMPUTE, SEND, STOPPED = range(6)
PID, PHASE, DETAIL, STEPS, SINCE, FIELDS = range(6)
HELPERS = ("runtime service", "memory manager")  # Lava's own processes


class Pulses:
    """Shared table, one row per process: pid, phase, detail (which op or sender), timesteps begun, time of the last change (s)."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        rows = len(names) + len(HELPERS)
        self._raw = mp.RawArray("d", rows * FIELDS)
        self.table = np.frombuffer(self._raw, np.float64).reshape(rows, FIELDS)
        self.table[:, SINCE] = time.monotonic()

    def of(self, name: str) -> Pulse:
        return Pulse(self.table, self.names.index(name))

    def helper(self, name: str, pid: int) -> None:
        """Enter the pid of one of Lava's own processes."""
        self.table[len(self.names) + HELPERS.index(name), PID] = pid

    def pids(self) -> dict[int, str]:
        """pid -> process name, of those that have started."""
        return {int(row[PID]): name for name, row in zip([*self.names, *HELPERS], self.table) if row[PID]}

    @property
    def last_change(self) -> float:
        """When any process last changed its phase, s on the monotonic clock."""
        return float(self.table[: len(self.names), SINCE].max())

    def stopped(self) -> str | None:
        """A process that a signal has stopped (SIGSTOP, a debugger), according to the kernel."""
        for pid, name in self.pids().items():
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{pid}/stat") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] in "Tt":
                        return name
        return None

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

    def hanging(self, senders: dict[str, list[str]], ops: list[str], patience_s: float) -> DeployError:
        """What is wrong if nothing changes any more: the process that the others wait for, and what it does."""
        stopped = self.stopped()
        if stopped is not None:
            return DeployError(f"process {stopped}", "hangs: a signal or a debugger has stopped it", "continue it (kill -CONT), run again")
        name, phase, detail = self.culprit(senders)
        doing = {START: "never started", COMPUTE: "computes", SEND: "cannot send"}.get(phase, "does not take its messages")
        if phase == COMPUTE and detail >= 0:
            doing = f"computes op {ops[detail]}"
        return DeployError(f"process {name}", f"hangs: it {doing} since {patience_s:g} s without result",
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

    def end_all(self) -> None:
        """Kill every process of the network, this one last: the parent has ended."""
        own = os.getpid()
        for pid in self.table[:, PID].astype(int):
            if pid not in (0, own):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        os._exit(1)


def how_it_died(exitcode: int | None) -> str:
    """An exit code in words."""
    if exitcode is not None and exitcode < 0:
        try:
            return f"was killed by {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"was killed by signal {-exitcode}"
    return f"ended by itself (exit code {exitcode})"
