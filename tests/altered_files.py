"""A small NetX file and what a test changes in it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

NEURON = {"type": "CUBA", "iDecay": 4095, "vDecay": 4095, "vThMant": 100}


def net(path: Path, **changes) -> Path:
    """A stock file of two inputs and one neuron, with some of its fields changed."""
    fields = {"weight": np.array([[2, 4]]), **NEURON, **changes}
    with h5py.File(path, "w") as f:
        f["layer/0/type"], f["layer/0/shape"] = np.array([b"input"]), np.array([2])
        f["layer/1/type"], f["layer/1/shape"] = np.array([b"dense"]), np.array([1])
        for key, value in fields.items():
            name = f"layer/1/{key}" if key in ("weight", "bias") else f"layer/1/neuron/{key}"
            f[name] = value
    return path


def altered(path: Path, change) -> Path:
    net(path)
    with h5py.File(path, "a") as f:
        change(f, path.parent)
    return path
