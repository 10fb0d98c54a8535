"""Two commands do not write into one folder at the same time: files of two runs would be mixed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from spikegate.errors import DeployError


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be; the kernel lets go of it when the process ends, however it ends. No file is left.

    Raises
    ------
    DeployError
        Another process, or another thread of this one, holds it; or it cannot be made.
    """
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise DeployError(str(folder), f"cannot be written ({e.strerror})", "choose a writable folder with --output") from None
    try:
        _lock(place, folder)
        yield
    finally:
        os.close(place)
        if fresh:
            with contextlib.suppress(OSError):  # it holds something by now
                folder.rmdir()


def _lock(place: int, folder: Path) -> None:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            problem = "another command is writing here at this moment"
            raise DeployError(str(folder), problem, "wait for it, or choose another folder with --output") from None
        # a file system without locks: there it is as it was before
