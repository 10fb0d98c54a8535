"""Event recordings as a tree {train,test}/<class>/<file>, one recording in each file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.extras import needs
from spikegate.data.arrays import Arrays
from spikegate.data.folder import visible
from spikegate.data.recordings import KEYS, Binning, Events, arrays_of, checked
from spikegate.errors import DeployError
from spikegate.reading.arrays import opened, read_npy

HINT = "lay the recordings out as {train,test}/<class>/<file>"


def read_tree(root: Path, binning: Binning) -> Arrays:
    """Frames of all recordings; classes are the folders of train/ in alphabetical order.

    The sensor is as large as the events of all files reach, so that each file is read twice.
    """
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise DeployError(str(root), f"has no {part}/ in it", HINT)
    classes = [p.name for p in visible(root / "train") if p.is_dir()]
    files, labels, is_test = [], [], []
    for part in ("train", "test"):
        for folder in visible(root / part):
            if not folder.is_dir() or folder.name not in classes:
                raise DeployError(str(folder), "a class that train/ lacks, or no folder", HINT)
            for file in visible(folder):
                files.append(file)
                labels.append(classes.index(folder.name))
                is_test.append(part == "test")
    if not files:
        raise DeployError(str(root), "holds no recordings", HINT)
    size = 4, 4
    for file in files:
        here = _size(read_file(file), str(file))
        size = max(size[0], here[0]), max(size[1], here[1])
    return arrays_of(map(read_file, files), np.array(labels), np.array(is_test), size, classes, binning)


def read_file(path: Path) -> Events:
    """One recording: .npz (x, y, p, t), .npy (a structured array with these fields), .bin (N-MNIST), .dat or .raw (Prophesee).

    N-MNIST's files are read by `tonic`, Prophesee's by `expelliarmus`: both come with the extra ``events``.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        ".npz": _numpy, ".npy": _numpy, ".bin": _nmnist, ".dat": _prophesee, ".raw": _prophesee,
    }  # fmt: skip
    hint = "read it with the library that knows it (tonic reads most) and write x, y, p, t with numpy.savez"
    if path.suffix not in readers:
        raise DeployError(str(path), f"no recording that is read here ({path.suffix or 'no suffix'}; known: {', '.join(readers)})", hint)
    try:
        found = readers[path.suffix](path)
        events = Events(*(np.asarray(found[k]) for k in "xypt"))
    except (DeployError, MemoryError):
        raise
    except Exception as e:  # each library has its own errors for a damaged file
        raise DeployError(str(path), f"cannot be read as a recording ({e})", hint) from None
    if not len(events.x):
        raise DeployError(str(path), "holds no events", "remove it")
    return events


def _size(events: Events, where: str) -> tuple[int, int]:
    """How far one recording reaches, after the checks that recordings in an npz file get."""
    whole = dict(zip(KEYS, (*events, np.array([len(events.t)]), np.zeros(1, int), np.zeros(1, int))))
    return checked(whole, None, where)


def _numpy(path: Path) -> Any:
    """Something with the arrays x, y, p and t by name."""
    if path.suffix == ".npy":
        return read_npy(path, HINT, records=True)
    with opened(path, HINT) as f:
        return {k: f[k] for k in "xypt"}


def _nmnist(path: Path) -> np.ndarray:
    with needs("recordings in .bin files"):
        import tonic.io
    found: np.ndarray = tonic.io.read_mnist_file(str(path), dtype=np.dtype([("x", int), ("y", int), ("t", int), ("p", int)]))
    return found


def _prophesee(path: Path) -> np.ndarray:
    with needs(f"recordings in {path.suffix} files"):
        import expelliarmus
    head = path.read_bytes()[:4096]
    encoding = "dat" if path.suffix == ".dat" else "evt3" if b"evt 3" in head or b"EVT3" in head else "evt2"
    found: np.ndarray = expelliarmus.Wizard(encoding=encoding).read(str(path))
    return found
