"""Integer arrays in .npy files that users bring: inputs of a net, samples to calibrate on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikegate.errors import DeployError
from spikegate.reading.arrays import read_npy
from spikegate.reading.numbers import integers

LARGEST = (1 << 23) - 1  # 24 bits with a sign


def load_array(path: Path, *, whole: bool = True) -> np.ndarray:
    """Integers of a .npy file, int32; whole numbers stored as floats or bools count as integers. Fractions are refused, or float64."""
    if not path.is_file():
        raise DeployError(str(path), "no such file", "give the input as a .npy array")
    x = read_npy(path, "write one array with numpy.save")
    if x.dtype.kind not in "biuf" or not x.size:
        raise DeployError(str(path), "holds no numbers", "write one array with numpy.save")
    if x.ndim == 0:
        raise DeployError(str(path), "holds one number without a shape", "give [samples, T, ...]")
    finite = x.dtype.kind != "f" or bool(np.isfinite(x).all())
    fractions = finite and x.dtype.kind == "f" and bool((x != np.round(x)).any())
    if not finite or (whole and fractions):
        raise DeployError(str(path), "holds fractions or NaN, a chip takes integers", "give spikes, graded events, or an image times 64")
    if max(abs(int(x.min())), abs(int(x.max()))) > LARGEST:
        raise DeployError(str(path), "holds values of more than 24 bits", "scale it down")
    if fractions:
        return x.astype(np.float64)
    return integers(x.view(np.uint8) if x.dtype.kind == "b" else x, str(path))
