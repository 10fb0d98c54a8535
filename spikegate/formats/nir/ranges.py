"""Arithmetic on the numbers of a NIR file: what leaves the range of floats is an error that names the layer, no warning and no infinity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from spikegate.errors import DeployError


@contextmanager
def in_range(where: str) -> Iterator[None]:
    """Within it an overflow, a division by zero or a result that is no number is a DeployError of `where`; underflow gives 0."""
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            yield
    except ArithmeticError as e:
        what = f"has numbers so large or so small that arithmetic on them fails ({e})"
        raise DeployError(where, what, "rescale weights and threshold of the layer together") from None
