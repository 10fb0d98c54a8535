"""A few samples of a record to look at: images, who halted when, one sample's spikes; and the integer reference run again on them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert import engine
from convert.host import Host
from convert.ir import COUNTERS, DeployError, Graph
from hw_sim.measured import UNREADABLE, Measured, read_images

Spikes = dict[str, np.ndarray]
SPIKING = ("conv", "dense", "lif")  # kinds whose ``spike_out`` is the sum of what they send


@dataclass(frozen=True, eq=False)
class Shown:
    """The record's first samples.

    Attributes
    ----------
    images : uint8 [K, C, H, W]; K = 0 where there are none to be had
    spikes : op -> int32 [T, *shape] of the first sample; empty if unknown
    source : where the spikes come from
    compared : samples on which the reference was run again; 0 if it was not
    differs : what the reference and the record disagree about; empty if they agree
    """

    images: np.ndarray
    spikes: Spikes = field(default_factory=dict)
    source: str = ""
    compared: int = 0
    differs: str = ""


def recorded(net: Measured, number: int) -> Shown:
    """What the deployment kept, and no more."""
    kept = read_images(net, number)
    images = np.zeros((0, *net.manifest["image_shape"]), np.uint8) if kept is None else kept
    spikes = kept_spikes(net)
    return Shown(images, spikes, "recorded by the deployment" if spikes else "")


def run_again(net: Measured, graph: Graph, number: int) -> Shown:
    """The recorded images, or the same ones from the data set, through the integer reference; compared with the record.

    Raises
    ------
    DeployError
        No images, or a net or an embedding that cannot be read or run.
    """
    number = min(number, len(net.record.exit_step))
    images = read_images(net, number)
    if images is None or len(images) < number:
        images = from_data(net, number)
    try:
        embedded = Host(net.export / "embedding.onnx").encode(images)
    except DeployError:
        raise
    except Exception as e:  # onnxruntime's own errors share no base class
        raise DeployError("embedding.onnx", f"cannot be run ({e})", "export the run again: python convert/export.py") from None
    again = engine.run(graph, embedded, spikes=True)
    first = {n: v[0] for n, v in again.spikes.items()}
    spikes = kept_spikes(net)
    same = bool(spikes) and all(np.array_equal(spikes[n], first[n]) for n in first)
    source = "recorded by the deployment" if same else "integer reference, run again for this report"
    return Shown(images, first, source, len(images), _differs(net, again))


def from_data(net: Measured, number: int) -> np.ndarray:
    """The first images of the record's split, uint8 [K, C, H, W]."""
    from convert.data import load_split

    images, _ = load_split(net.manifest["data"], net.record.meta.get("split", "test"))
    samples = np.asarray(net.record.meta.get("samples", range(number)))[:number]
    return images[samples]


def kept_spikes(net: Measured) -> Spikes:
    """The first sample's spikes from spikes.npz; empty if there are none, or if they are not those of the record."""
    path = net.run / "deploy" / "spikes.npz"
    try:
        spikes = first_rows(path)
    except UNREADABLE:
        return {}
    record, sent = net.record, COUNTERS.index("spike_out")
    for i, (name, kind) in enumerate(zip(record.ops, record.kinds)):
        value = spikes.get(name)
        if value is None or value.ndim < 2 or len(value) != record.counts.shape[1]:
            return {}
        counted = kind in SPIKING and name not in record.values
        if counted and not np.array_equal(value.reshape(len(value), -1).sum(1), record.counts[0, :, i, sent]):
            return {}  # of an earlier deployment
    return spikes


def first_rows(path: Path) -> Spikes:
    """The first entry of each array of an npz, read without the rest, which may be large."""
    out = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as f:
                version = np.lib.format.read_magic(f)
                read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(f)
                if fortran or not shape or not shape[0] or dtype.hasobject:
                    raise ValueError(f"{name}: not samples in rows")
                number = int(np.prod(shape[1:]))
                data = f.read(number * dtype.itemsize)
                out[name.removesuffix(".npy")] = np.frombuffer(data, dtype, number).reshape(shape[1:])
    return out


def _differs(net: Measured, again: Any) -> str:
    """Names what the reference computes otherwise than the record says."""
    record, n = net.record, len(again.exit_step)
    pairs = {
        "logits": (record.logits[:n], again.logits), "exits": (record.exit_step[:n], again.exit_step),
        "alive masks": (record.alive[:n], again.alive), "event counters": (record.counts[:n], again.counts),
    }
    return ", ".join(name for name, (a, b) in pairs.items() if not np.array_equal(a, b))
