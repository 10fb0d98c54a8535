"""The integer engine without its ledger: no events counted, no activity kept, the same logits and exits. To time what recording costs.

Counting stands inside the compiled loops. Here they are compiled once more from the same source without their counting lines. The number
of active inputs stays, because a sum chooses its way by it, and the neurons' number of spikes, one add each.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from convert import engine, kernels, neuron, recorder, scatter, signals, taps
from convert.ops import spiking_attention

COUNTING = re.compile(r"^(\s*)(?:steps|bits|total|lives) \+= .*$", re.M)  # variables of scatter.py that only count
LINES = 12
USERS = (neuron, recorder, signals, taps, spiking_attention)  # modules that call scatter
TALLIES = ("magnitudes", "weighted", "nonzeros", "sums", "living")  # functions of kernels.py that only count


@lru_cache
def _kernels() -> ModuleType:
    source, found = COUNTING.subn(r"\1pass", Path(scatter.__file__).read_text())
    if found != LINES:
        raise RuntimeError(f"{found} counting lines in convert/scatter.py, {LINES} known: look at bench/uncounted.py")
    path = Path(tempfile.mkdtemp()) / "uncounted_scatter.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("uncounted_scatter", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.count = module.active = lambda *_: None  # type: ignore[attr-defined]
    return module


def _zeros(x: np.ndarray, *_: Any) -> np.ndarray:
    return np.zeros(len(x), np.int64)


@contextmanager
def uncounted() -> Iterator[None]:
    """Within it `engine.run` counts and keeps nothing but logits, exits and alive masks."""
    bare = _kernels()
    new: list[tuple[Any, str, Any]] = [(module, "scatter", bare) for module in USERS]
    new += [(kernels, name, _zeros) for name in TALLIES]
    new += [(engine.Stage, "_book", lambda *_: None), (recorder.Recorder, "counted", lambda *_: None)]
    new += [(recorder.Recorder, "active", lambda *_: None)]
    old = [(owner, name, getattr(owner, name)) for owner, name, _ in new]
    try:
        for owner, name, value in new:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in old:
            setattr(owner, name, value)
