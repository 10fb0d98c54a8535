"""What lava-nc 0.10.0 needs on Python 3.11 and later.

Its dataclasses have instances as defaults that cannot be hashed (``field: X = X()``), which `dataclasses` refuses since Python 3.11.
While Lava is imported such a default becomes a ``default_factory`` that hands out the same instance, which is what Python 3.10 did.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from spikegate.errors import DeployError


@contextlib.contextmanager
def shared_defaults() -> Iterator[None]:
    """Within it dataclasses take defaults that cannot be hashed, lists, dicts and sets excepted, as in Python 3.10.

    Raises
    ------
    DeployError
        This Python's `dataclasses` no longer has the private function that is replaced.
    """
    original = getattr(dataclasses, "_get_field", None)
    if original is None:
        raise DeployError(
            "lava", "this Python's dataclasses are made in another way than lava-nc 0.10.0 can bear (no dataclasses._get_field)",
            "run Lava on Python 3.11 to 3.13, or use --target int",
        )

    def get_field(cls: type, name: str, kind: Any, kw_only: bool) -> Any:
        default = getattr(cls, name, dataclasses.MISSING)
        plain = isinstance(default, dataclasses.Field | list | dict | set) or default is dataclasses.MISSING
        if not plain and type(default).__hash__ is None:
            setattr(cls, name, dataclasses.field(default_factory=lambda: default))
        return original(cls, name, kind, kw_only)

    dataclasses._get_field = get_field  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dataclasses._get_field = original  # type: ignore[attr-defined]
