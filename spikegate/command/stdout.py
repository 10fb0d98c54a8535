"""The output that a command writes to: there or closed, a terminal, a file, a full disk, a pipe whose reader is gone."""

from __future__ import annotations

import os
import sys


def ensure() -> None:
    """Give a process that was started without output or error output the null device for them."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def discard() -> None:
    """Send what is still to be written nowhere, so that the interpreter's end does not trip over it."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    except (OSError, ValueError):  # no descriptor of its own, as under a test's capture
        sys.stdout = open(os.devnull, "w")
    finally:
        os.close(null)
