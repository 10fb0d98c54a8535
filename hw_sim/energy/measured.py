"""Finds and reads what deployments left behind: event records with and without halting, the static twin's, images."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.runs import ROOT, find_export, is_export, named, run_of
from spikegate.engine.record import Record
from spikegate.formats.manifest import read_manifest
from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.hw_sim.energy.ledger import NetInfo
from spikegate.reading import arrays

UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, IndexError, AttributeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Measured:
    """An exported net with the events of its deployment; `off` is the same without halting, where it was recorded.

    `run` is the folder that holds deploy/ and report/, `export` the one with model.net, embedding.onnx and manifest.json.
    """

    run: Path
    manifest: dict[str, Any]
    record: Record
    off: Record | None
    export: Path

    @property
    def info(self) -> NetInfo:
        return NetInfo.from_manifest(self.manifest)

    @property
    def halting(self) -> bool:
        return bool(self.manifest["halting"])


def read_events(path: Path, manifest: dict[str, Any], again: str) -> Record:
    """An event record, checked against the export that it should belong to.

    Raises
    ------
    DeployError
        No such file, no event record, arrays that contradict each other, or events of another net.
    """
    if not path.is_file():
        raise DeployError(str(path), "no events recorded for this export", again)
    try:
        record = Record.load(path)
    except DeployError as e:
        raise DeployError(e.where, e.problem, again) from None
    n, steps = record.counts.shape[:2] if record.counts.ndim == 4 else (0, 0)
    whole = (
        n > 0
        and record.counts.shape == (n, steps, len(record.ops), len(COUNTERS))
        and len(record.kinds) == len(record.ops)
        and np.issubdtype(record.counts.dtype, np.integer)
        and record.counts.min(initial=0) >= 0
        and record.exit_step.shape == (n,)
        and record.exit_step.min(initial=1) >= 1
        and record.exit_step.max(initial=1) <= steps
        and record.alive.ndim == 4
        and record.alive.shape[:3] == (n, steps, len(record.gates) + 1)
        and set(record.entering) <= set(range(len(record.gates) + 1))
        and (record.labels is None or record.labels.shape == (n,))
        and record.logits.shape[:1] == (n,)
        and plain(record.meta, n)
    )
    if not whole:
        raise DeployError(str(path), "the event record contradicts itself (shapes or ranges)", again)
    unknown = [name for name in record.ops if name not in manifest["dense_ops"]]
    if unknown or steps != manifest["timesteps"]:
        what = f"op {unknown[0]}" if unknown else f"{steps} timesteps"
        raise DeployError(str(path), f"the events are not of this export ({what} is unknown to it)", again)
    return record


def plain(meta: dict[str, Any], samples: int) -> bool:
    """Whether the fields of a record's `meta` that are read here have the types that a deployment writes."""
    texts = ("split", "dataset", "target", "halt", "data_path", "name", "model", "mapping", "protocol", "gates", "timing")
    numbers, listed = meta.get("samples", [0] * samples), meta.get("chip_steps", [0] * samples)
    return (
        all(isinstance(meta.get(key), str | None) for key in texts)
        and isinstance(meta.get("images_per_s", 0.0), int | float)
        and all(isinstance(v, list) and len(v) == samples and all(type(k) is int for k in v) for v in (numbers, listed))
    )


def find_measured(given: Path | None) -> Measured:
    """The run or export named, or the newest export, with its events.

    Raises
    ------
    DeployError
        No export, no events, or damaged files.
    """
    export = find_export(given)
    run = run_of(export)
    manifest = read_manifest(export, verify=False)
    again = f"python deploy/run.py {named(export)}"
    record = read_events(run / "deploy" / "events.npz", manifest, again)
    path = run / "deploy" / "events_off.npz"
    off = read_events(path, manifest, f"{again} --halt off") if path.is_file() else None
    if off is not None and not same_samples(record, off):
        raise DeployError(
            str(path), "holds other samples than events.npz", f"record both on the same images: {again}, then with --halt off"
        )
    return Measured(run, manifest, record, off, export)


def same_samples(a: Record, b: Record) -> bool:
    """Whether two records cover the same images of the same split."""
    return all(a.meta.get(k) == b.meta.get(k) for k in ("dataset", "split", "samples")) and len(a.counts) == len(b.counts)


def find_static(net: Measured, given: Path | None) -> Measured | None:
    """The static twin: the one named, or the newest static run beside `net` with events of the same samples; None if there is none.

    Raises
    ------
    DeployError
        If the one named has no events, halts, or covers other samples.
    """
    if given is not None:
        static = find_measured(given)
        if static.halting:
            raise DeployError("--static", f"{static.run} has halting gates", "name a run of the static net")
        if not same_samples(net.record, static.record):
            meta = net.record.meta
            raise DeployError(
                "--static",
                f"{static.run} was recorded on other images",
                f"python deploy/run.py {named(static.export)} --data {meta.get('split', 'test')}:{len(net.record.counts)}",
            )
        return static
    found = []
    for root in {net.run.parent.resolve(): net.run.parent, ROOT.resolve(): ROOT}.values():
        for export in root.glob("*/export"):
            run = run_of(export)
            if not is_export(export) or not (run / "deploy" / "events.npz").is_file() or run.resolve() == net.run.resolve():
                continue
            try:  # a damaged neighbour is not this run's problem
                static = find_measured(export)
            except DeployError:
                continue
            if not static.halting and static.manifest["dataset"] == net.manifest["dataset"] and same_samples(net.record, static.record):
                found.append(((export / "manifest.json").stat().st_mtime, str(run), static))
    return max(found)[2] if found else None


def read_images(net: Measured, at_most: int = 8) -> np.ndarray | None:
    """The first images or recordings of the record, uint8 [n, *image_shape], where the deployment kept them."""
    path = net.run / "deploy" / "images.npz"
    if not path.is_file():
        return None
    again = f"python deploy/run.py {net.run}"
    with arrays.opened(path, again, "holds no images") as f:
        images = f["images"]
    if images.dtype != np.uint8 or list(images.shape[1:]) != list(net.manifest["image_shape"]):
        raise DeployError(str(path), f"images of shape {list(images.shape)} do not fit this export", again)
    return images[: min(at_most, len(net.record.counts))]
