"""The gate of .npy and .npz files: each header is read first, and nothing is unpickled."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from spikegate.errors import DeployError, first_line
from spikegate.reading import limits

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
KINDS = "biufUS"
HEADER = 10_000  # bytes, as NumPy allows
# What NumPy and zipfile raise for damaged files; tokenize's errors of a header are SyntaxErrors but for one that is an Exception alone.
DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, ArithmeticError, SyntaxError, RuntimeError, MemoryError, AttributeError,
          RecursionError, NotImplementedError, zipfile.BadZipFile, zlib.error)  # fmt: skip


def read_npy(path: Path, hint: str, records: bool = False) -> np.ndarray:
    """The array of a .npy file: numbers, bools or text; with `records` also rows of named numbers.

    Raises
    ------
    DeployError
        No file, no array, objects, a header that promises more than the file holds.
    """
    size = limits.file_size(path, hint)
    try:
        with path.open("rb") as f:
            if f.read(2) == b"PK":
                raise DeployError(str(path), "is a .npz archive, not one .npy array", hint)
            f.seek(0)
            return _array(f, str(path), size, hint, records)
    except OSError as e:
        raise DeployError(str(path), f"cannot be read ({e.strerror or e})", hint) from None


class Archive:
    """An open .npz file: `names`, `archive[name]`, ``name in archive``. Made by `opened`."""

    def __init__(self, archive: zipfile.ZipFile, where: str, size: int, hint: str) -> None:
        self.archive, self.where, self.size, self.hint = archive, where, size, hint
        entries = archive.infolist()
        if len(entries) > limits.OBJECTS:
            raise DeployError(where, f"has {len(entries)} members", hint)
        self.entries = {e.filename.removesuffix(".npy"): e for e in entries}
        if len(self.entries) != len(entries):
            raise DeployError(where, "has two members of one name", hint)
        odd = [n for n, e in self.entries.items() if e.compress_type not in METHODS or e.flag_bits & 1]
        if odd:
            raise DeployError(f"{where}: {odd[0]}", "is encrypted or packed in another way than NumPy does", hint)
        limits.check_bytes(where, sum(e.file_size for e in entries), size)

    @property
    def names(self) -> list[str]:
        return list(self.entries)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> np.ndarray:
        """One array; a DeployError where it is missing or is none."""
        entry, here = self.entries.get(name), f"{self.where}: {name}"
        if entry is None:
            raise DeployError(self.where, f"lacks {name} (it has {', '.join(self.names[:12]) or 'nothing'})", self.hint)
        try:
            with self.archive.open(entry) as f:
                return _array(f, here, entry.file_size, self.hint)
        except DAMAGE as e:
            raise DeployError(here, f"cannot be read ({first_line(e)})", self.hint) from None


@contextmanager
def opened(path: Path, hint: str, problem: str = "cannot be read as npz") -> Iterator[Archive]:
    """A .npz file whose members promise no more memory than `limits` allow; `problem` is what is said of a file that is none.

    Raises
    ------
    DeployError
        No file, no archive, or one that is damaged.
    """
    size = limits.file_size(path, hint)
    with path.open("rb") as f:
        if f.read(6) == npy.MAGIC_PREFIX:
            raise DeployError(str(path), f"{problem} (a single array)", hint)
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE as e:
        raise DeployError(str(path), f"{problem} ({first_line(e)})", hint) from None
    with archive:
        yield Archive(archive, str(path), size, hint)


def _array(f: IO[bytes], where: str, size: int, hint: str, records: bool = False) -> np.ndarray:
    """The array of an open .npy file of `size` bytes."""
    try:
        shape, fortran, dtype, start = header(f)
    except ValueError as e:
        raise DeployError(where, f"is no .npy array ({e})", hint) from None
    rows = records and dtype.names is not None and all(dtype[n].kind in "biuf" and not dtype[n].shape for n in dtype.names)
    if (dtype.kind not in KINDS and not rows) or dtype.hasobject:
        raise DeployError(where, f"holds {dtype}, not numbers or text", hint)
    claimed = math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or claimed > size - start:
        raise DeployError(where, f"claims {claimed} bytes, but has {max(0, size - start)}", hint)
    data = f.read(claimed)
    if len(data) != claimed:
        raise DeployError(where, f"claims {claimed} bytes, but has {len(data)}", hint)
    flat = np.frombuffer(bytearray(data), dtype) if claimed else np.zeros(math.prod(shape), dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def header(f: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """(shape, whether columns come first, type, bytes that it takes) of an open .npy file; a ValueError where it is none."""
    try:
        version = npy.read_magic(f)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"format {version}")
        width = 2 if version == (1, 0) else 4
        length = int.from_bytes(f.read(width), "little")
        if length > HEADER:
            raise ValueError(f"a header of {length} bytes")
        text = length.to_bytes(width, "little") + f.read(length)
        read: Any = npy.read_array_header_1_0 if width == 2 else npy.read_array_header_2_0
        shape, fortran, dtype = read(io.BytesIO(text))
    except Exception as e:  # NumPy evaluates the header as Python: any error of a tokenizer or parser
        raise ValueError(first_line(e)) from None
    return shape, fortran, dtype, 6 + 2 + width + length
