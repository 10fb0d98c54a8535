"""One op inside a Lava process, fed by the injector's process, for the conformance test."""

from __future__ import annotations

import numpy as np

from convert.ir import Op


def run_in_stages(op: Op, steps) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [batch, T, ...] and counts [batch, T, counters] of `op` fed with `steps` through Lava."""
    raise NotImplementedError
