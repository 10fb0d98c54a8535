"""How the integer kernels are compiled: by numba, once, then cached on disk.

numba reuses a cached function while its own file is unchanged; it ignores the files of the functions that it calls. So the name of
the cache folder contains a hash of all kernel files: after any change everything is compiled again.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

import numba
from numba import njit

FILES = (
    "coincidences", "compiling", "counters", "counting", "cuba_loops", "gate_loops", "gather", "instructions", "interpreter", "lanes",
    "message_rows", "neuron_lanes", "neuron_loops", "scatter",
)  # fmt: skip


def writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it does not exist yet."""
    return os.access(next(p for p in (folder, *folder.parents) if p.exists()), os.W_OK)


def place() -> Path:
    """Folder of the compiled kernels: in $NUMBA_CACHE_DIR, else beside the sources, else in the user's cache.

    Where none of these can be written, a new temporary folder: kernels are then compiled for this process and its children alone.
    """
    here = Path(__file__).parent
    text = hashlib.sha256(b"".join((here / f"{name}.py").read_bytes() for name in FILES)).hexdigest()[:12]
    given = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(given) if given else here / "__pycache__"
    if not given and not writable(root):
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikegate"
        if not writable(root):  # a folder of this process alone: what is found there is run
            root = Path(tempfile.mkdtemp(prefix="spikegate-"))
            atexit.register(shutil.rmtree, root, True)
    folder = root / f"kernels-{text}"
    if not folder.is_dir():
        for old in root.glob("kernels-*"):
            shutil.rmtree(old, ignore_errors=True)
    return folder


FOLDER = place()
ALL = FOLDER / "all-compiled"  # left by spikegate compile, when no net of the zoo needs any other kernel
numba.config.CACHE_DIR = str(FOLDER)  # type: ignore[attr-defined]


def announce() -> None:
    """Before the first compilation, print a line if stderr is a terminal."""
    if not FOLDER.is_dir() and sys.stderr.isatty():
        print("compiling the integer kernels, once for this version: up to a minute", file=sys.stderr)


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Compiler(Protocol):
    """A decorator that keeps the signature."""

    def __call__(self, kernel: Callable[Arguments, Result], /) -> Callable[Arguments, Result]: ...


compiled: Compiler = njit(cache=True, nogil=True)
# Small functions: passing arrays to them would cost more than their work.
inlined: Compiler = njit(cache=True, nogil=True, forceinline=True)
