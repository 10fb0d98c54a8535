"""Commands as a process of their own session, forked from one that has imported everything: a kill can then come at any moment of the work.

A started command behaves as ``python deploy/run.py ...`` does, without the seconds of importing.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from spikegate.command import cli

MAINS = {"train": "spikegate.train.run", "export": "spikegate.convert.export", "deploy": "spikegate.deploy.run",
         "estimate": "spikegate.hw_sim.estimate"}  # fmt: skip


def prepare() -> None:
    """Import what the commands need, once, in the process that they are forked from."""
    import torch

    torch.set_num_threads(1)
    for module in (*MAINS.values(), "spikegate.train.loop", "spikegate.convert.trained_run", "spikegate.deploy.inference",
                   "spikegate.deploy.network.network", "spikegate.deploy.lava.runtime", "spikegate.deploy.lava_processes.stage"):
        importlib.import_module(module)


class Command:
    """A command at work in a folder; its output goes to the files ``out`` and ``err`` there."""

    def __init__(self, folder: Path, name: str, *args: str) -> None:
        sys.stdout.flush()
        self.folder, self.began = folder, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _become(folder, lambda: _main(name, args))

    def wait(self, limit_s: float = 120.0) -> int | None:
        """Its exit code, negative for a signal; None if it still runs after so long."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def end(self, number: int, group: bool = False) -> None:
        """Send a signal to it, or to all processes of its session's group, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    @property
    def errors(self) -> str:
        return (self.folder / "err").read_text(errors="replace")


def _main(name: str, args: tuple[str, ...]) -> None:
    sys.argv = [f"{name}.py", *args]
    cli.run(importlib.import_module(MAINS[name]).main)


def _become(folder: Path, work: Callable[[], None]) -> None:
    """In the child: a session and streams of its own, then the work, then the end."""
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for stream, file in ((1, "out"), (2, "err")):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        cli.console.file, cli.errors.file = sys.stdout, sys.stderr
        try:
            work()
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(code)
