"""Files that are there in full or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType

from spikegate.errors import DeployError


class atomic:
    """``with atomic(path) as part:`` write to `part`; it becomes `path` only if the block ends well."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.stem}.", suffix=self.path.suffix)
        except OSError as e:
            raise DeployError(str(self.path), f"cannot be written ({e.strerror})", "choose a writable folder with --output") from None
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
            raise DeployError(
                str(self.path), f"cannot be written ({error.strerror or error})", "free some space or choose another folder with --output"
            ) from error
