"""The integer engine without its ledger: no events counted, no activity kept, the same logits and exits. To time what recording costs.

Counting stands inside the compiled loops. Here they are compiled once more from the same source without their counting lines. The
numbers of active inputs and of unit events stay, because a sum chooses its way by them; so do the neurons' spikes, one add each, and what
gates count.
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from spikegate.engine import integer, recorder, stage
from spikegate.graph import signals
from spikegate.kernels import compiling, counting
from spikegate.neurons import cuba
from spikegate.ops import spiking_attention
from spikegate.synapses import taps

COUNTING = re.compile(r"^(\s*)(?:steps|bits|total|lives) [+-]= .*$", re.M)  # variables that only count
LINES = {"scatter": 4, "gather": 5, "coincidences": 7, "instructions": 0, "interpreter": 0}  # where they stand
USERS = {"scatter": (signals, taps), "gather": (cuba, signals, taps), "coincidences": (spiking_attention,)}
TALLIES = ("magnitudes", "weighted", "nonzeros", "sums", "alive_tokens")  # functions of counting.py that only count


@lru_cache
def _kernels() -> dict[str, ModuleType]:
    """The kernels' modules without counting, as a package of their own."""
    folder = Path(tempfile.mkdtemp())
    package = folder / "uncounted_kernels"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, lines in LINES.items():
        source, found = COUNTING.subn(r"\1pass", (Path(compiling.__file__).parent / f"{name}.py").read_text())
        if found != lines:
            raise RuntimeError(f"{found} counting lines in spikegate/kernels/{name}.py, {lines} known: look at bench/uncounted.py")
        for line in re.findall(r"^from spikegate.kernels import .*$", source, re.M):
            wanted = line.removeprefix("from spikegate.kernels import ").split(", ")
            own = [w for w in wanted if w in LINES]
            other = [w for w in wanted if w not in LINES]
            lines_now = [f"from {p} import {', '.join(w)}" for p, w in (("spikegate.kernels", other), (package.name, own)) if w]
            source = source.replace(line, "\n".join(lines_now))
        source = re.sub(rf"^from spikegate\.kernels\.({'|'.join(LINES)}) import", rf"from {package.name}.\1 import", source, flags=re.M)
        (package / f"{name}.py").write_text(source)
    sys.path.insert(0, str(folder))
    try:
        found_modules = {name: importlib.import_module(f"{package.name}.{name}") for name in LINES}
    finally:
        sys.path.remove(str(folder))
    found_modules["scatter"].count = lambda *_: None  # type: ignore[attr-defined]
    return found_modules


def _zeros(x: np.ndarray, *_: Any) -> np.ndarray:
    return np.zeros(len(x), np.int64)


@contextmanager
def uncounted() -> Iterator[None]:
    """Within it `integer.run` counts and keeps nothing but logits, exits and alive masks."""
    bare = _kernels()
    new: list[tuple[Any, str, Any]] = [(module, name, bare[name]) for name, modules in USERS.items() for module in modules]
    new += [(stage, "interpret", bare["interpreter"].interpret), (recorder.Recorder, "all_activity", lambda _: stage.NOTHING)]
    new += [(counting, name, _zeros) for name in TALLIES]
    new += [(integer.Stage, "_book", lambda *_: None), (recorder.Recorder, "counted", lambda *_: None)]
    new += [(recorder.Recorder, "active", lambda *_: None)]
    old = [(owner, name, getattr(owner, name)) for owner, name, _ in new]
    try:
        for owner, name, value in new:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in old:
            setattr(owner, name, value)
