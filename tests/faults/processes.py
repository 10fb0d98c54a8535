"""What is left of a command that was killed: processes of its session, names in /dev/shm, half-written files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

SHM = Path("/dev/shm")


def stat_fields(pid: int) -> list[str]:
    """What the kernel says about a process, from its state on; empty when it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return []


def of_session(session: int) -> list[int]:
    """Living processes of a session."""
    pids = (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit())
    return sorted(pid for pid in pids if (f := stat_fields(pid)) and int(f[3]) == session and f[0] not in "ZX")


def shared_names() -> set[str]:
    """Names of segments and semaphores on this machine."""
    return set(os.listdir(SHM))


def unused(names: set[str]) -> set[str]:
    """Those of the names that exist and that no living process has mapped: what another program uses is not what a command left.

    By inode: a named semaphore is mapped under the name that it had before it got its own.
    """
    used: set[int] = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                used |= {int(line.split()[4]) for line in (process / "maps").read_text().splitlines() if "/dev/shm/" in line}
    found = set()
    for name in names:
        with contextlib.suppress(OSError):
            if (SHM / name).stat().st_ino not in used:
                found.add(name)
    return found


def left_behind(session: int, before: set[str], limit_s: float = 5.0) -> tuple[list[int], set[str], float]:
    """After a command has ended: (processes of its session, unused new names, seconds until its last process was gone)."""
    start = time.monotonic()
    while of_session(session) and time.monotonic() - start < limit_s:
        time.sleep(0.01)
    gone = time.monotonic() - start
    names = unused(shared_names() - before)
    if names:  # another program on this machine may be about to map or remove them
        time.sleep(1.0)
        names = unused(names)
    return of_session(session), names, gone


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file that is not hidden, by its path."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def hidden(folder: Path) -> list[str]:
    """Half-written files."""
    return [str(p.relative_to(folder)) for p in folder.rglob(".*") if p.is_file()]
