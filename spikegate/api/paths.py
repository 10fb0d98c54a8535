"""Paths that callers hand over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from spikegate.errors import DeployError


def as_path(name: str, value: Any) -> Path:
    """A path; a DeployError for anything that is none."""
    if not isinstance(value, str | os.PathLike) or "\0" in os.fspath(value):
        raise DeployError(name, f"is {value!r}, no path", "give a text or a pathlib.Path")
    return Path(value)
