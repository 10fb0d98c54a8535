"""Recordings of event cameras, binned into frames, one for each timestep; their own form of npz file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from spikegate.data.arrays import Arrays, Recorded
from spikegate.errors import DeployError
from spikegate.reading.arrays import opened
from spikegate.reading.numbers import integers
from spikegate.reading.text import plain_name

KEYS = ("x", "y", "p", "t", "lengths", "labels", "is_test")
HINT = (
    "write it with numpy.savez(path, x=, y=, p=, t=, lengths=, labels=, is_test=): the events of all recordings end to end "
    "(pixels, polarity 0 or 1, microseconds), then one value for each recording"
)
LARGEST_SENSOR = 1024  # pixels
POLARITIES = 2


@dataclass(frozen=True)
class Binning:
    """How a recording becomes frames.

    Attributes
    ----------
    timesteps : frames of each recording
    by : ``time`` cuts it into equal durations, ``count`` into equal numbers of events
    most : largest value of a pixel: further events of the same pixel, polarity and timestep are left out
    """

    timesteps: int
    by: Literal["time", "count"] = "time"
    most: int = 1


class Events(NamedTuple):
    """One recording: pixels `x`, `y`, polarity `p` (0 or 1) and microseconds `t`, not falling, each [events]."""

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    t: np.ndarray


Size = tuple[int, int]  # (height, width) of the sensor, pixels


def frames(recordings: Iterable[Events], number: int, size: Size, binning: Binning) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uint8 [N, T, 2, height, width], milliseconds of each recording [N], share of its events that `most` leaves out [N])."""
    out = np.empty((number, binning.timesteps, POLARITIES, *size), np.uint8)
    lasted, left_out = np.empty(number), np.empty(number)
    for i, events in enumerate(recordings):
        t, n = events.t.astype(np.int64), len(events.t)
        span = int(t[-1] - t[0]) + 1
        step = (t - t[0]) * binning.timesteps // span if binning.by == "time" else np.arange(n) * binning.timesteps // n
        where = ((step * POLARITIES + events.p) * size[0] + events.y) * size[1] + events.x
        kept = np.minimum(np.bincount(where, minlength=out[i].size), binning.most)
        out[i] = kept.reshape(out[i].shape)
        lasted[i], left_out[i] = span / 1000, 1 - kept.sum() / n
    return out, lasted, left_out


def arrays_of(
    recordings: Iterable[Events], labels: np.ndarray, is_test: np.ndarray, size: Size, classes: list[str], binning: Binning
) -> Arrays:
    """Both parts as frames [N, T, 2, height, width] for `spikegate.data.parts`; the recordings are read one at a time."""
    x, lasted, left_out = frames(recordings, len(labels), size, binning)
    test = is_test.astype(bool)
    if not test.any() or test.all():
        raise DeployError("is_test", f"{int(test.sum())} of {len(test)} recordings are of the test part", "both parts need some")
    recorded = Recorded(float(lasted[test].mean()), float(left_out.mean()))
    return Arrays(x[~test], labels[~test], x[test], labels[test], classes, binning.most, recorded)


def read_recordings(path: Path, binning: Binning) -> Arrays:
    """Frames of the recordings in an npz file; a DeployError names what is odd."""
    with opened(path, HINT) as f:
        missing = [k for k in KEYS if k not in f]
        if missing:
            raise DeployError(str(path), f"lacks {', '.join(missing)} (it has {', '.join(f.names[:12]) or 'nothing'})", HINT)
        arrays = {k: f[k] for k in KEYS}
        size = tuple(integers(np.atleast_1d(f["size"]), f"{path}: size").ravel().tolist()) if "size" in f else None
        classes = [str(c) for c in np.atleast_1d(f["classes"]).ravel()] if "classes" in f else []
    odd = [c for c in classes if not plain_name(c)]
    if odd:
        raise DeployError(f"{path}: classes", f"names a class {odd[0]!r}", "give short names of printable characters")
    size = checked(arrays, size, str(path))
    ends = np.cumsum(arrays["lengths"], dtype=np.int64)
    each = (Events(*(arrays[k][end - n : end] for k in "xypt")) for end, n in zip(ends, arrays["lengths"]))
    return arrays_of(each, arrays["labels"], arrays["is_test"], size, classes, binning)


def checked(arrays: dict[str, np.ndarray], size: tuple[int, ...] | None, where: str) -> Size:
    """The sensor's size, after a check that the arrays of `KEYS` fit each other; `size` None: as far as events reach."""
    for key, values in arrays.items():
        if values.ndim != 1 or values.dtype.kind not in "biu":
            raise DeployError(f"{where}: {key}", f"is {values.dtype} {list(values.shape)}, not whole numbers in one row", HINT)
    lengths = arrays["lengths"].astype(np.int64)
    if not len(lengths) or lengths.min() < 1 or int(lengths.sum()) != len(arrays["x"]):
        raise DeployError(f"{where}: lengths", f"sum to {int(lengths.sum())}, there are {len(arrays['x'])} events",
                          "give the number of events, 1 or more, of each recording")
    for key, number in (("y", len(arrays["x"])), ("p", len(arrays["x"])), ("t", len(arrays["x"])), ("labels", len(lengths)),
                        ("is_test", len(lengths))):
        if len(arrays[key]) != number:
            raise DeployError(f"{where}: {key}", f"has {len(arrays[key])} values, expected {number}", HINT)
    for key in ("p", "is_test"):
        if arrays[key].min() < 0 or arrays[key].max() > 1:
            raise DeployError(f"{where}: {key}", f"has values {int(arrays[key].min())} to {int(arrays[key].max())}", "use 0 and 1")
    reach = int(arrays["y"].max()) + 1, int(arrays["x"].max()) + 1
    size = reach if size is None else size
    if len(size) != 2 or min(size) < 4 or max(size) > LARGEST_SENSOR:
        raise DeployError(f"{where}: size", f"{'x'.join(map(str, size))} pixels", f"give (height, width), 4 to {LARGEST_SENSOR} each")
    if min(arrays["x"].min(), arrays["y"].min()) < 0 or reach[0] > size[0] or reach[1] > size[1]:
        raise DeployError(f"{where}: x, y", f"events reach {reach[0]}x{reach[1]} pixels, the sensor has {size[0]}x{size[1]}", HINT)
    falls = np.flatnonzero(np.diff(arrays["t"].astype(np.int64)) < 0) + 1
    odd = np.setdiff1d(falls, np.cumsum(lengths))
    if len(odd):
        raise DeployError(f"{where}: t", f"falls at event {int(odd[0])}, within a recording", "sort each recording's events by time")
    return size[0], size[1]
