"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it has begun is put away, and it exits with 130."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL,
}  # fmt: skip
AGAIN_S = 0.05  # until a signal that was lost is sent again


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Within it the three signals raise KeyboardInterrupt, and no place that swallows it can make the command go on.

    A signal that is ignored (nohup) or has a handler already stays so, and so do all signals where this is not the main thread. Handlers
    are restored afterwards.

    Raises
    ------
    KeyboardInterrupt
        Also instead of another exception that came after a signal: an extension module that is interrupted while it is imported says
        ImportError.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    mine = [number for number, default in DEFAULTS.items() if signal.getsignal(number) is default]
    hook = sys.unraisablehook
    for number in mine:
        signal.signal(number, interrupt)
    sys.unraisablehook = _resending(hook)
    try:
        yield
    except Exception as e:
        if came:
            raise KeyboardInterrupt from e
        raise
    finally:
        sys.unraisablehook = hook
        for number in mine:
            signal.signal(number, DEFAULTS[number])


def _resending(otherwise: Callable[[Any], Any]) -> Callable[[Any], None]:
    """What is called where an exception cannot be raised, in destructors and such: an interrupt that came just then is sent again."""

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()
        else:
            otherwise(unraisable)

    return hook
