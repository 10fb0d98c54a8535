"""What an input array means to a NetX file's first layer: spikes, graded events or pixels, and in which unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.graph.ir import DeployError, Graph
from spikegate.neurons.sigma_delta import Sigma, SigmaDelta
from spikegate.ops.block_input import BlockInput

PIXEL = 64  # units of an input block in SLAYER's 1.0
EVENT = 4096  # units of a graded event in SLAYER's 1.0
LOW, HIGH = -256, 254  # to which SLAYER clamps a pixel


@dataclass(frozen=True)
class Unit:
    """Unit of the input's values: how many make SLAYER's 1.0, and what they are called."""

    ones: int
    name: str
    notes: tuple[str, ...] = ()


def unit_of(graph: Graph, x: np.ndarray) -> Unit:
    """The unit in which the first op takes `x`, and what a user should know about these values."""
    first = next(iter(graph.ops.values()))
    if isinstance(first, BlockInput):
        odd = int(np.count_nonzero(x % 2)) if x.dtype.kind == "i" else 0
        note = f"{odd:,} of {x.size:,} pixels are odd; SLAYER's own forward sees multiples of 2 only (1/32): 2 * np.rint(32 * image)"
        return Unit(PIXEL, "pixels in 1/64", (note,) if odd else ())
    if isinstance(getattr(first, "neuron", None), (SigmaDelta, Sigma)):
        note = "the values are 0 and 1, and 1 means 1/4096 here: SLAYER's events times 4096 are expected"
        return Unit(EVENT, "graded events in 1/4096", (note,) if x.min() >= 0 and x.max() <= 1 else ())
    return Unit(1, "spikes" if x.min() >= 0 and x.max() <= 1 else "graded events", ())


def pixels(x: np.ndarray) -> np.ndarray:
    """A float image as SLAYER's forward sees it: in 1/64, rounded to the next multiple of 2 (half to even), clamped, int32."""
    return np.clip(2 * np.rint(32 * x), LOW, HIGH).astype(np.int32)


def whole(graph: Graph, x: np.ndarray) -> np.ndarray:
    """`x` as integers: an input block takes an image of floats, other layers no fractions."""
    if x.dtype.kind == "i":
        return x
    if isinstance(next(iter(graph.ops.values())), BlockInput):
        return pixels(x)
    hint = "give spikes or graded events; only an input block takes an image"
    raise DeployError("--input", "holds fractions or NaN, a chip takes integers", hint)
