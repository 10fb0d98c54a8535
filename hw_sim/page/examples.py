"""Example samples of a record: their images, one sample's spikes, and the integer reference run again on them as a check."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.data.shipped import open_images
from spikegate.engine import integer
from spikegate.formats.event_host import open_host
from spikegate.graph.ir import COUNTERS, DeployError, Graph
from spikegate.hw_sim.energy.measured import UNREADABLE, Measured, read_images
from spikegate.reading import limits
from spikegate.reading.arrays import header

Spikes = dict[str, np.ndarray]
KEPT = 16  # images that a deployment keeps
SPIKING = ("conv", "dense", "lif")  # kinds whose ``spike_out`` is the sum of what they send


@dataclass(frozen=True, eq=False)
class Examples:
    """Some of the record's samples, those with less work first.

    Attributes
    ----------
    index : int64 [K], which samples of the record
    images : uint8 [K, C, H, W]; K = 0 where there are none
    spikes : op -> int32 [T, *shape] of one of them; empty if unknown
    source : where the spikes come from
    compared : samples on which the reference was run again; 0 if it was not
    sample : the one whose spikes these are
    differs : what the reference and the record disagree about; empty if they agree
    """

    index: np.ndarray
    images: np.ndarray
    spikes: Spikes = field(default_factory=dict)
    source: str = ""
    compared: int = 0
    differs: str = ""
    sample: int = 0


def choose(net: Measured, number: int, among: int | None = None) -> np.ndarray:
    """Samples that span what happened, from the fewest processed tokens to the most: their positions, int64 [at most `number`].

    `among` takes them from so many first samples only. Where few numbers of tokens occur, the first samples fill up.
    """
    work = net.record.processed[:among].sum((1, 2, 3))
    number = min(number, len(work))
    _, first = np.unique(work, return_index=True)
    taken = first[np.linspace(0, len(first) - 1, min(number, len(first))).round().astype(int)]
    rest = np.setdiff1d(np.arange(len(work)), taken)[: number - len(taken)]
    chosen = np.concatenate([taken, rest]).astype(np.int64)
    return chosen[np.lexsort((chosen, work[chosen]))]


def look_at(net: Measured, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(positions, images) of samples to look at, from the data set; from the images kept where the data is not at hand or has changed."""
    kept = read_images(net, KEPT)
    index = choose(net, number)
    try:
        images = from_data(net, index)
        if kept is None or np.array_equal(from_data(net, np.arange(len(kept))), kept):
            return index, images
    except DeployError:
        if kept is None:
            raise
    index = choose(net, number, len(kept))
    return index, kept[index]


def recorded(net: Measured, number: int) -> Examples:
    """The examples that the deployment kept, without running the reference."""
    kept = read_images(net, KEPT)
    kept = np.zeros((0, *net.manifest["image_shape"]), np.uint8) if kept is None else kept
    index = choose(net, number, len(kept))
    sample = int(index[-1]) if len(index) else 0
    spikes = kept_spikes(net, sample)
    return Examples(index, kept[index], spikes, "recorded by the deployment" if spikes else "", sample=sample)


def run_again(net: Measured, graph: Graph, index: np.ndarray, images: np.ndarray) -> Examples:
    """Images of these samples through the integer reference; compared with the record.

    Raises
    ------
    DeployError
        An embedding or a net that cannot be run.
    """
    try:
        embedded = open_host(net.export, graph, net.manifest).encode(images)
    except DeployError:
        raise
    except Exception as e:  # onnxruntime's own errors share no base class
        raise DeployError("embedding.onnx", f"cannot be run ({e})", "export the run again: python convert/export.py") from None
    again = integer.run(graph, embedded, spikes=True)
    own = {n: v[-1] for n, v in again.spikes.items()}
    spikes = kept_spikes(net, int(index[-1]))
    same = bool(spikes) and all(np.array_equal(spikes[n], own[n]) for n in own)
    source = "recorded by the deployment" if same else "integer reference, run again for this report"
    return Examples(index, images, own, source, len(images), _differs(net, again, index), int(index[-1]))


def from_data(net: Measured, index: np.ndarray) -> np.ndarray:
    """Images of the record's split, uint8 [K, C, H, W]."""
    meta = net.record.meta
    split, samples = meta.get("split", "test"), meta.get("samples", range(len(net.record.counts)))
    wanted = [samples[i] for i in index]
    path = meta.get("data_path")
    opened = open_images(net.export, net.manifest, f"{split}:{max(wanted, default=0) + 1}", Path(path) if path else None)
    return opened.x[wanted]


def kept_spikes(net: Measured, sample: int = 0) -> Spikes:
    """One sample's spikes from spikes.npz; empty if there are none, or if they are not those of the record."""
    path = net.run / "deploy" / "spikes.npz"
    try:
        spikes = read_row(path, sample)
    except UNREADABLE:
        return {}
    record, sent = net.record, COUNTERS.index("spike_out")
    for i, (name, kind) in enumerate(zip(record.ops, record.kinds)):
        value = spikes.get(name)
        if value is None or value.ndim < 2 or len(value) != record.counts.shape[1]:
            return {}
        counted = kind in SPIKING and name not in record.values
        if counted and not np.array_equal(value.reshape(len(value), -1).sum(1), record.counts[sample, :, i, sent]):
            return {}  # of an earlier deployment
    return spikes


def read_row(path: Path, row: int) -> Spikes:
    """One entry of each array of an npz, read without what follows, which may be large."""
    out = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as f:
                shape, fortran, dtype, _ = header(f)
                if fortran or not shape or shape[0] <= row or min(shape) < 0 or dtype.hasobject:
                    raise ValueError(f"{name}: not samples in rows")
                number = math.prod(shape[1:])
                if number * dtype.itemsize > limits.allowed(path.stat().st_size):
                    raise ValueError(f"{name}: a sample of {number} values")
                for _ in range(row):
                    f.read(number * dtype.itemsize)
                data = f.read(number * dtype.itemsize)
                out[name.removesuffix(".npy")] = np.frombuffer(data, dtype, number).reshape(shape[1:])
    return out


def _differs(net: Measured, again: Any, index: np.ndarray) -> str:
    """Names what the reference computes otherwise than the record says."""
    record = net.record
    pairs = {
        "logits": (record.logits[index], again.logits), "exits": (record.exit_step[index], again.exit_step),
        "alive masks": (record.alive[index], again.alive), "event counters": (record.counts[index], again.counts),
    }
    return ", ".join(name for name, (a, b) in pairs.items() if not np.array_equal(a, b))
