"""How a process that computes treats its memory."""

from __future__ import annotations

import ctypes
import os


def keep_memory() -> None:
    """Have glibc keep what is freed: each step or chunk frees and asks for the same blocks, and fresh pages cost a quarter of it."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of mallopt(3)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
