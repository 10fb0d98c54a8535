"""Integer arrays in .npy files that users bring: inputs of a net, samples to calibrate on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikegate.errors import DeployError


def load_array(path: Path, *, whole: bool = True) -> np.ndarray:
    """Integers of a .npy file, int32; whole numbers stored as floats or bools count as integers. Fractions are refused, or float64."""
    if not path.is_file():
        raise DeployError(str(path), "no such file", "give the input as a .npy array")
    try:
        x = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise DeployError(str(path), f"is no .npy array ({e})", "write it with numpy.save") from None
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf" or not x.size:
        raise DeployError(str(path), "holds no numbers", "write one array with numpy.save")
    finite = x.dtype.kind != "f" or bool(np.isfinite(x).all())
    if not finite or (whole and x.dtype.kind == "f" and (x != np.round(x)).any()):
        raise DeployError(str(path), "holds fractions or NaN, a chip takes integers", "give spikes, graded events, or an image times 64")
    if np.abs(x.astype(np.float64)).max() >= 1 << 23:
        raise DeployError(str(path), "holds values of more than 24 bits", "scale it down")
    return x.astype(np.int32 if x.dtype.kind != "f" or (x == np.round(x)).all() else np.float64)
