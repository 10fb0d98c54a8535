"""The end of a Lava runtime, whatever state it is in: no process, no semaphore, no shared memory is left."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import signal
import threading
from collections.abc import Callable
from typing import Any

ORDERLY_S = 5.0  # what Lava and Python may take for a step of their own; a process killed at a bad moment can make it wait for ever


def kill(runtime: Any, segments: list) -> None:
    """End every process of a runtime and free its shared memory; `segments` are the handles known since it started."""
    runtime._is_started = False  # or its __del__ waits for processes that have ended
    infrastructure = runtime._messaging_infrastructure
    if infrastructure is None:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a second Ctrl-C must not leave half of it
    try:
        _end_all(runtime, infrastructure, segments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_all(runtime: Any, infrastructure: Any, segments: list) -> None:
    for actor in infrastructure.actors:
        with contextlib.suppress(ValueError, OSError):  # a closed process object says ValueError
            actor.kill()
    for actor in infrastructure.actors:
        with contextlib.suppress(ValueError, OSError, AssertionError):
            mp.Process.join(actor, 5)
            mp.Process.close(actor)
    infrastructure.actors.clear()  # Lava's destructors would wait for them again
    _within(runtime.join)
    memory = infrastructure.smm
    if memory is not None and memory._manager is not None:
        segments = [*segments, *memory._shared_memory_handles]
        memory._shared_memory_handles.clear()
        _within(memory._manager.shutdown)
        memory._manager = None
    for handle in segments:  # the manager has done this, unless it was killed
        with contextlib.suppress(FileNotFoundError):
            handle.unlink()
        with contextlib.suppress(BufferError):
            handle.close()


def _within(step: Callable[[], Any]) -> None:
    """Run a clean-up step of Lava or Python; ignore what it raises and wait for a limited time."""

    def quietly() -> None:
        with contextlib.suppress(Exception):
            step()

    tidying = threading.Thread(target=quietly, daemon=True)
    tidying.start()
    tidying.join(ORDERLY_S)
