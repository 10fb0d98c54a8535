"""Files that are there in full or not at all."""

from __future__ import annotations

import glob
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from spikegate.errors import DeployError, hint_of

if TYPE_CHECKING:
    import numpy as np

WRITING = ".writing."
SPACE = "free some space or choose another folder with --output"


class atomic:
    """``with atomic(path) as part:`` write to `part`; it becomes `path` only if the block ends well."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            sweep(self.path.parent, f".{self.path.stem}.")
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.stem}.{os.getpid()}-", suffix=self.path.suffix)
        except OSError as e:
            raise _unwritable(self.path, e, "choose a writable folder with --output") from None
        os.close(handle)
        os.chmod(name, 0o644)
        self.part = Path(name)
        return self.part

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            try:
                os.replace(self.part, self.path)
                return
            except OSError as e:
                error = e
        self.part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(self.path, error, SPACE) from error


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file that is complete in memory: in one go, atomically, and on disk before it takes its name.

    Raises
    ------
    DeployError
        A folder that cannot be written, a full disk, a limit on the size of files; what was there before stays.
    """
    with atomic(Path(path)) as part, part.open("wb", buffering=0) as f:
        rest = memoryview(data)
        while rest:
            rest = rest[f.write(rest) :]
        os.fsync(f.fileno())


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text."""
    write_bytes(path, text.encode())


def write_npz(path: Path, **values: np.ndarray) -> None:
    """`write_bytes` of a compressed npz, made in memory."""
    import numpy as np

    held = io.BytesIO()
    np.savez_compressed(held, **values)  # type: ignore[arg-type]  # numpy types its keyword allow_pickle among them
    write_bytes(path, held.getbuffer())


@contextmanager
def together(folder: Path, last: str) -> Iterator[Path]:
    """``with together(folder, "manifest.json") as part:`` write several files to `part`; all of them move to `folder`, or none.

    The file `last` vouches for the others: the old one goes before they move, the new one comes after them. So whoever is interrupted
    leaves the old files, or a folder that does not count as complete.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, WRITING)
        part = Path(tempfile.mkdtemp(dir=folder, prefix=f"{WRITING}{os.getpid()}-"))
    except OSError as e:
        raise _unwritable(folder, e, "choose a writable folder with --output") from None
    try:
        yield part
        names = sorted((p.name for p in part.iterdir()), key=lambda name: (name == last, name))
        if last in names:
            (folder / last).unlink(missing_ok=True)
        for name in names:
            os.replace(part / name, folder / name)
    except DeployError as e:
        raise DeployError(*(text.replace(str(part), str(folder)) for text in (e.where, e.problem, e.hint))) from e
    except OSError as e:
        raise _unwritable(folder, e, SPACE) from e
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a killed process left half written in a folder: names ``<prefix><process>-...`` of processes that are gone."""
    for path in folder.glob(f"{glob.escape(prefix)}*-*"):
        process = path.name.removeprefix(prefix).split("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _unwritable(path: Path, error: OSError, hint: str) -> DeployError:
    return DeployError(str(path), f"cannot be written ({error.strerror or error})", hint_of(error, hint))
