"""The end of a Lava runtime, whatever state it is in: no process is left. Its memory has no name and goes with them."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from spikegate.deploy.lava.lifeline import ENDING

ORDERLY_S = 5.0  # what Lava and Python may take for a step of their own; a process killed at a bad moment can make it wait for ever


def kill(runtime: Any, owner: int) -> None:
    """End every process of a runtime; nothing happens in another process than its `owner`, such as a child that was made by fork."""
    runtime._is_started = False  # or its __del__ waits for processes that have ended
    infrastructure = runtime._messaging_infrastructure
    if infrastructure is None or os.getpid() != owner:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # a second Ctrl-C must not leave half of it
    try:
        _end_all(runtime, infrastructure)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_all(runtime: Any, infrastructure: Any) -> None:
    for actor in infrastructure.actors:
        with contextlib.suppress(ValueError, OSError):  # a closed process object says ValueError
            actor.kill()
    for actor in infrastructure.actors:
        with contextlib.suppress(ValueError, OSError, AssertionError):
            mp.Process.join(actor, 5)
            mp.Process.close(actor)
    infrastructure.actors.clear()  # Lava's destructors would wait for them again
    for pipe in runtime.starting:
        pipe.close()
    _within(runtime.join)


def _within(step: Callable[[], Any]) -> None:
    """Run a clean-up step of Lava or Python; ignore what it raises and wait for a limited time."""

    def quietly() -> None:
        with contextlib.suppress(Exception):
            step()

    tidying = threading.Thread(target=quietly, daemon=True)
    tidying.start()
    tidying.join(ORDERLY_S)
