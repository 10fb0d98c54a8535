"""An import that is refused, as JSON where JSON was asked for; the error itself goes on to the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spikegate.command import cli
from spikegate.errors import DeployError
from spikegate.fidelity import refused


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """With `as_json`, what is unsupported and why is printed before the error goes on."""
    try:
        yield
    except DeployError as e:
        if as_json:
            cli.print_json(refused(e))
        raise
