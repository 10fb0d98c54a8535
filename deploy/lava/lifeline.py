"""Children that die with their parent: the kernel kills them when it ends, however it ends, and whatever they are doing."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
PR_SET_PDEATHSIG = 1
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LIBC = ctypes.CDLL(None, use_errno=True)


def follow(parent: int) -> None:
    """First thing in a child: from now on it dies with the process `parent`, and ends at once if that has ended already."""
    if _LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not tie this process to its parent")
    if os.getppid() != parent:
        os._exit(1)


def hear_signals() -> None:
    """In a child that was made while `ENDING` were blocked: it ends by SIGTERM and SIGHUP, as a process does.

    Ctrl-C stays blocked: a terminal sends it to all processes, and the parent, which acts on it, ends the others.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})


def lasting(step: Callable[[], T]) -> T:
    """Run a step that makes children in a thread that lasts as long as the process: to the kernel the parent is the thread that forked."""
    if threading.current_thread() is threading.main_thread():
        return step()
    return _keeper(os.getpid()).submit(step).result()


@cache
def _keeper(pid: int) -> ThreadPoolExecutor:
    """The thread of this process; one that was made by fork has none of its parent's threads."""
    return ThreadPoolExecutor(1, thread_name_prefix="spikegate-children")
