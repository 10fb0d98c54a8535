"""Memory and semaphores that a process shares with its children, without names: whatever ends the processes, nothing is left of them.

Lava takes named segments of ``/dev/shm`` from a server process; a killed run leaves them behind, and containers often have no room there.
"""

from __future__ import annotations

import _multiprocessing
import ctypes
import mmap
from typing import Any

SEMAPHORE, MOST = 1, 2**31 - 1  # kind of a `SemLock` that counts, its largest value
PLACE, BLOCK = 64, 4096  # bytes kept for a semaphore (so that no two share a cache line), and of a block of them
_LIBC = ctypes.CDLL(None, use_errno=True)


class SharedBytes:
    """Zeroed bytes that children made by fork share; `buf` as of Python's ``SharedMemory``."""

    def __init__(self, size: int) -> None:
        self.buf: Any = memoryview(mmap.mmap(-1, max(1, size)))

    def close(self) -> None:
        """Nothing to do: the memory goes with the last process that maps it."""


class SharedSemaphore:
    """A counting semaphore in shared bytes, with the speed and the methods of ``multiprocessing.Semaphore``."""

    def __init__(self, memory: SharedBytes, at: int) -> None:
        self._anchor = ctypes.c_char.from_buffer(memory.buf, at)  # keeps the memory mapped
        address = ctypes.addressof(self._anchor)
        if _LIBC.sem_init(ctypes.c_void_p(address), 1, 0):
            raise OSError(ctypes.get_errno(), "no semaphore could be made")
        lock = _multiprocessing.SemLock._rebuild(address, SEMAPHORE, MOST, None)  # type: ignore[attr-defined]
        self.acquire, self.release = lock.acquire, lock.release


class Shared:
    """What the processes of a network share; stands in for Lava's ``SharedMemoryManager``."""

    def __init__(self) -> None:
        self._block, self._used = SharedBytes(BLOCK), 0

    def create_shared_memory(self, size: int) -> SharedBytes:
        """So many zeroed bytes."""
        return SharedBytes(size)

    def semaphore(self) -> SharedSemaphore:
        """A semaphore with the value 0."""
        if self._used == BLOCK:
            self._block, self._used = SharedBytes(BLOCK), 0
        self._used += PLACE
        return SharedSemaphore(self._block, self._used - PLACE)

    def shutdown(self) -> None:
        """Nothing to do, see `SharedBytes.close`."""
