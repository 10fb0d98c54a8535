"""Compiled kernels before the clock starts, so that speeds are speeds: what is compiled or loaded here is there for every process."""

from __future__ import annotations

import time

import numpy as np

from spikegate.engine import integer
from spikegate.graph.ir import Graph


def warm(graph: Graph, x: np.ndarray) -> float:
    """Run the first sample of x [N, ...] on the reference, which compiles what is not compiled yet; returns the seconds that it took."""
    start = time.perf_counter()
    integer.run(graph, x[:1])
    return time.perf_counter() - start
