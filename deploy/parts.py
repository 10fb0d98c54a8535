"""A set of images in parts, each through the export by a worker of a cluster; the record is that of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.cluster import workers_of
from spikegate.deploy.bundle import open_export
from spikegate.deploy.targets import Progress
from spikegate.engine.joined import join
from spikegate.engine.record import Record
from spikegate.graph.ir import DeployError

EACH = 4  # parts for each worker, so that the last ones wait little for each other
SMALLEST = 16  # images of a part


def run_parts(
    infer: Callable[..., Record], address: str, export: Path, images: np.ndarray, labels: np.ndarray | None, options: dict[str, Any],
    progress: Progress | None,
) -> Record:
    """`infer` (of `spikegate.deploy.inference`) with `options` on the export in folder `export`, part by part on the workers at `address`.

    Raises
    ------
    DeployError
        As `infer`, or as `spikegate.command.cluster` does.
    """
    if options.get("target") == "torch":
        raise DeployError("--cluster", "is for --target int and lava", "torch takes the whole set on one device")
    with workers_of(address) as cluster:
        count = max(1, min(EACH * cluster.workers, len(images) // SMALLEST))
        cuts = np.array_split(np.arange(len(images)), count)
        parts = [(images[at], None if labels is None else labels[at]) for at in cuts]
        told = (lambda k: None) if progress is None else (lambda k: progress(len(cuts[k])))
        return join(cluster.map(run_part, parts, infer, str(export.resolve()), options, progress=told))


def run_part(
    infer: Callable[..., Record], export: str, options: dict[str, Any], images: np.ndarray, labels: np.ndarray | None
) -> Record:
    """One part, by a worker."""
    return infer(open_export(Path(export)), images, labels, **options)
