"""Which backend computes on a device: Triton's passes on a GPU, compiled ones on the processor, plain torch elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from spikegate.train.backends.compiled import Compiled
from spikegate.train.backends.definition import Plain
from spikegate.train.backends.seam import Backend

NAMES = ("torch", "compiled", "triton")
_forced: list[str] = []


@cache
def named(name: str) -> Backend:
    """A backend by name, one of `NAMES`."""
    if name == "triton":
        from spikegate.train.backends.fused import Fused

        return Fused()
    return {"torch": Plain, "compiled": Compiled}[name]()


def backend_for(device: torch.device) -> Backend:
    """The backend of tensors on `device`."""
    if _forced:
        return named(_forced[-1])
    if device.type == "cuda":
        return named("triton" if importlib.util.find_spec("triton") else "torch")
    return named("compiled" if device.type == "cpu" else "torch")


@contextmanager
def using(name: str) -> Iterator[None]:
    """Within it everything is computed by this backend, whatever the device."""
    named(name)
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()
