"""What callers hand over: arrays of the right kind and length, or one error that says what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikegate.errors import DeployError
from spikegate.graph.ir import Graph


def as_array(where: str, value: Any) -> np.ndarray:
    """An array, or nested lists of numbers as one; a DeployError for anything else."""
    if isinstance(value, np.ndarray):
        return value
    try:
        found = np.asarray(value) if isinstance(value, list | tuple) else np.array(None)
    except ValueError:
        found = np.array(None)
    if found.dtype.kind not in "biuf":
        raise DeployError(where, f"is a {type(value).__name__}, no array of numbers", "give a NumPy array")
    return found


def checked(graph: Graph, inputs: Any, labels: Any = None, batch: Any = 1) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs and labels as arrays.

    Raises
    ------
    DeployError
        No arrays, no samples in flight, labels that are not one whole number for each sample, within the net's classes.
    """
    if not isinstance(batch, int | np.integer) or isinstance(batch, bool) or batch < 1:
        raise DeployError("batch", f"is {batch!r}, no number of samples", "give 1 or more")
    x = as_array("input", inputs)
    if not x.ndim:
        raise DeployError("input", "is one number without samples", f"give [samples, {', '.join(map(str, graph.input_shape))}]")
    return x, None if labels is None else checked_labels(graph, labels, len(x))


def checked_labels(graph: Graph, labels: Any, samples: int) -> np.ndarray:
    """Labels int64 [samples]; errors as of `checked`."""
    y = as_array("labels", labels)
    readouts = graph.only("readout")
    classes = int(np.prod(graph.ops[readouts[0] if readouts else list(graph.ops)[-1]].out_shape))
    if y.shape != (samples,) or y.dtype.kind not in "iu":
        raise DeployError("labels", f"are {y.dtype} {list(y.shape)} for {samples} samples", "give one whole number for each sample")
    if y.size and (int(y.min()) < 0 or int(y.max()) >= classes):
        raise DeployError("labels", f"go from {y.min()} to {y.max()}, the net has {classes} classes", f"labels are 0 to {classes - 1}")
    return y.astype(np.int64)
