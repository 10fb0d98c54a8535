"""Event data sets that `tonic` downloads and reads: N-MNIST, DVS128 Gesture, CIFAR10-DVS."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.extras import needs
from spikegate.data.arrays import Arrays
from spikegate.data.recordings import Binning, Events, arrays_of
from spikegate.data.split import stratified
from spikegate.errors import DeployError

SETS = {"nmnist": "NMNIST", "dvsgesture": "DVSGesture", "cifar10dvs": "CIFAR10DVS"}
UNSPLIT_TEST = 0.1  # share of a set without official split, CIFAR10-DVS, that is its test part: the last of ten as in the papers
SPLIT_SEED = 0


def read_tonic(name: str, root: Path, binning: Binning) -> Arrays:
    """Frames of one of `SETS`, downloaded to `root` unless it is there; recordings are read one at a time."""
    with needs(f"data set {name}"):
        import tonic.datasets

    make = getattr(tonic.datasets, SETS[name])
    hint = "give a local copy with --data.path: an npz file, or a tree {train,test}/<class>/<file>"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            parts = [make(str(root))] if name == "cifar10dvs" else [make(str(root), train=True), make(str(root), train=False)]
    except (OSError, RuntimeError, EOFError, ValueError) as e:  # URLError is an OSError
        raise DeployError(f"data.name {name}", f"cannot be downloaded ({e})", hint) from None
    width, height = make.sensor_size[:2]
    labels = np.concatenate([np.asarray(part.targets, np.int64) for part in parts])
    if len(parts) == 2:
        is_test = np.arange(len(labels)) >= len(parts[0].targets)
    else:
        is_test = np.isin(np.arange(len(labels)), stratified(labels, round(UNSPLIT_TEST * len(labels)), SPLIT_SEED))
    return arrays_of(_events(parts), labels, is_test, (height, width), [str(c) for c in make.classes], binning)


def _events(parts: list[Any]) -> Iterator[Events]:
    for part in parts:
        for i in range(len(part.targets)):
            events, _ = part[i]
            yield Events(*(np.asarray(events[k]).astype(np.int64) for k in "xypt"))
