"""Images in one npz file: train_images, train_labels, test_images, test_labels and, if wanted, classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikegate.data.arrays import Arrays
from spikegate.graph.ir import DeployError
from spikegate.reading import arrays
from spikegate.reading.text import plain_name

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
HINT = "write it with numpy.savez(path, train_images=..., train_labels=..., test_images=..., test_labels=..., classes=[names])"


def read_npz(path: Path) -> Arrays:
    """Arrays of an npz file; nothing in it is unpickled."""
    if path.is_dir():
        raise DeployError(str(path), "is a folder, not an npz file", "use --data.name folder for a tree of images")
    if not path.exists():
        raise DeployError(str(path), "no such file", "give the path of an npz file with --data.path")
    with arrays.opened(path, HINT) as f:
        missing = [k for k in KEYS if k not in f]
        if missing:
            raise DeployError(str(path), f"lacks {', '.join(missing)} (it has {', '.join(f.names[:12]) or 'nothing'})", HINT)
        found = {k: f[k] for k in KEYS}
        classes = [str(c) for c in np.atleast_1d(f["classes"]).ravel()] if "classes" in f else []
    odd = [c for c in classes if not plain_name(c)]
    if odd:
        raise DeployError(f"{path}: classes", f"names a class {odd[0]!r}", "give short names of printable characters")
    for key in ("train_labels", "test_labels"):
        if found[key].ndim == 2 and found[key].shape[1] == 1:
            found[key] = found[key][:, 0]
    train_x, train_y, test_x, test_y = (found[k] for k in KEYS)
    return Arrays(train_x, train_y, test_x, test_y, classes)
