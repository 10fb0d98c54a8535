"""Names and JSON of files: what is printed later must be plain, what is taken apart must be whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.reading import limits

LONGEST_NAME = 100


def plain_name(name: str) -> bool:
    """Whether a name may be printed as it is: one line of printable characters, not too long."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable()


def said(value: Any) -> str:
    """A name or text as libraries hand it over, bytes that are no text with their codes: no reader decodes by itself."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def text(value: Any, where: str) -> str:
    """One text of an attribute or array; a DeployError for anything else."""
    given = np.asarray(value)
    if given.size != 1 or given.dtype.kind not in "SUO":
        raise DeployError(where, "is no text", "the file is damaged or foreign")
    return said(given.flat[0])


def json_value(value: Any, where: str, hint: str = "the file is damaged or foreign", what: str = "readable JSON") -> Any:
    """What a JSON text says; `what` names it. NaN and infinities are no JSON."""
    try:
        return json.loads(text(value, where), parse_constant=_no_number)
    except (ValueError, RecursionError) as e:
        raise DeployError(where, f"not {what} ({e})", hint) from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def read_json(path: Path, what: str, hint: str) -> Any:
    """What a JSON file says; `what` names it, as in "a readable manifest"."""
    size = limits.file_size(path, hint)
    if size > limits.JSON_BYTES:
        raise DeployError(str(path), f"is {size >> 20} MiB large, not {what}", hint)
    try:
        return json_value(path.read_text(encoding="utf-8"), str(path), hint, what)
    except (OSError, UnicodeDecodeError) as e:
        raise DeployError(str(path), f"not {what} ({e})", hint) from None
