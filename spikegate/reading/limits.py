"""How much a file may hold before any of it is read. Small files must not fill the memory; large files may, by about their own size."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikegate.errors import DeployError

VARIABLE = "SPIKEGATE_READ_MIB"
ALWAYS_MIB = 128  # arrays of one file that may be read however small the file is
EXPANSION = 64  # beyond that, bytes of arrays for each byte of the file; 8-bit weights stored as int32 and gzipped take 4 to 10
OBJECTS = 100_000  # groups and datasets, or members of an npz
DEPTH = 32  # groups inside groups
NAME = 255  # characters
TEXTS = 20_000  # of one dataset
TEXT_BYTES = 16 << 20  # of one dataset or attribute
ATTRIBUTES = 1_000  # of one object
VALUES = 1 << 27  # of one array of an HDF5 file: as 32-bit integers half a GiB
NEURONS = 1 << 23  # of one op; the published nets have 1.6 million in all
JSON_BYTES = 64 << 20  # manifest.json and its like
BESIDES = 256 << 20  # bytes that libraries may take beside a file's arrays


def allowed(size: int) -> int:
    """Bytes of arrays that a file of `size` bytes may hold."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return max(ALWAYS_MIB << 20, EXPANSION * size)
    if not given.isdecimal():
        raise DeployError(VARIABLE, f"is {given!r}", "give a number of MiB, as in SPIKEGATE_READ_MIB=4096")
    return int(given) << 20


def check_bytes(where: str, claimed: int, size: int) -> None:
    """Refuse arrays of `claimed` bytes in a file of `size` bytes if that is more than `allowed`."""
    if claimed > allowed(size):
        what = f"would take {claimed / 2**20:,.0f} MiB of memory, the file has {size / 2**20:,.1f}"
        raise DeployError(where, what, f"the file is damaged or foreign; if it is yours, allow more by {VARIABLE} (in MiB)")


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """While a library looks through a file of `size` bytes, the process gets no more memory than `allowed` and a little: a damaged size
    that the library believes then fails, where it would fill the machine."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        yield
        return
    taken = int(pages.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + allowed(size) + BESIDES
    ends = [n for n in (soft, hard) if n != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *ends]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def file_size(path: Path, hint: str) -> int:
    """Bytes of a regular file; a DeployError for anything else."""
    try:
        if not path.exists():
            raise DeployError(str(path), "no such file", hint)
        if not path.is_file():
            raise DeployError(str(path), "is a folder" if path.is_dir() else "is no regular file", hint)
        return path.stat().st_size
    except (OSError, ValueError) as e:
        raise DeployError(str(path), f"cannot be read ({getattr(e, 'strerror', None) or e})", hint) from None
