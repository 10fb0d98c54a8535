"""How the integer kernels are compiled: by numba, once, and kept on disk.

numba keeps a compiled function for as long as the file it stands in is unchanged, and does not look at the files of the functions it
calls. So the kernels' place on disk is named by the text of all their files: after any change none of the old ones is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numba
from numba import njit

FILES = (
    "coincidences", "compiling", "counters", "counting", "cuba_loops", "gate_loops", "gather", "instructions", "interpreter", "lanes",
    "neuron_lanes", "neuron_loops", "scatter",
)  # fmt: skip


def place() -> Path:
    """Folder of the compiled kernels: in $NUMBA_CACHE_DIR, else beside the sources, else in the user's cache."""
    here = Path(__file__).parent
    text = hashlib.sha256(b"".join((here / f"{name}.py").read_bytes() for name in FILES)).hexdigest()[:12]
    given = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(given) if given else here / "__pycache__"
    if not given and not os.access(root if root.is_dir() else here, os.W_OK):
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spikegate"
    folder = root / f"kernels-{text}"
    if not folder.is_dir():
        for old in root.glob("kernels-*"):
            shutil.rmtree(old, ignore_errors=True)
    return folder


FOLDER = place()
numba.config.CACHE_DIR = str(FOLDER)  # type: ignore[attr-defined]


def announce() -> None:
    """Tell a person at a terminal, before the first compilation, that it is going on."""
    if not FOLDER.is_dir() and sys.stderr.isatty():
        print("compiling the integer kernels, once for this version: up to a minute", file=sys.stderr)


compiled = njit(cache=True, nogil=True)
inlined = njit(cache=True, nogil=True, forceinline=True)  # small ones: handing arrays to a function costs more than their work
