"""Images in one npz file: train_images, train_labels, test_images, test_labels and, if wanted, classes."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from spikegate.data.arrays import Arrays
from spikegate.graph.ir import DeployError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
HINT = "write it with numpy.savez(path, train_images=..., train_labels=..., test_images=..., test_labels=..., classes=[names])"


def read_npz(path: Path) -> Arrays:
    """Arrays of an npz file; nothing in it is unpickled."""
    if path.is_dir():
        raise DeployError(str(path), "is a folder, not an npz file", "use --data.name folder for a tree of images")
    try:
        f = np.load(path, allow_pickle=False)
        if not isinstance(f, np.lib.npyio.NpzFile):
            raise DeployError(str(path), "a single array, not an npz file", HINT)
        with f:
            missing = [k for k in KEYS if k not in f.files]
            if missing:
                raise DeployError(str(path), f"lacks {', '.join(missing)} (it has {', '.join(f.files) or 'nothing'})", HINT)
            found = {k: f[k] for k in KEYS}
            classes = [str(c) for c in np.atleast_1d(f["classes"])] if "classes" in f.files else []
    except FileNotFoundError:
        raise DeployError(str(path), "no such file", "give the path of an npz file with --data.path") from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError) as e:
        raise DeployError(str(path), f"cannot be read as npz ({e})", HINT) from None
    for key in ("train_labels", "test_labels"):
        if found[key].ndim == 2 and found[key].shape[1] == 1:
            found[key] = found[key][:, 0]
    train_x, train_y, test_x, test_y = (found[k] for k in KEYS)
    return Arrays(train_x, train_y, test_x, test_y, classes)
