"""A zoo net ready to be timed: its graph, its embedded test images, and the ways to run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.runs import ZOO
from spikegate.data.shipped import open_images
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Graph


@dataclass
class ZooNet:
    """Name, folder, graph, uint8 test images and their embedding."""

    name: str
    folder: Path
    graph: Graph
    images: np.ndarray
    embedded: np.ndarray

    @property
    def adaptive(self) -> bool:
        return any(op.halting for op in self.graph.ops.values())

    def trained(self) -> Any:
        """The torch net in phase ``deployed``, eval mode."""
        from spikegate.train.restore import load_run

        return load_run(self.folder)[1]


def load(name: str, images: int) -> ZooNet:
    """The net with so many test images, from the first again where the data end; a DeployError names the nets that there are."""
    folder = ZOO / name
    known = sorted(p.name for p in ZOO.iterdir() if (p / "model.net").is_file())
    if name not in known:
        raise DeployError(name, "no such net in the zoo", f"there are {', '.join(known)}")
    manifest, graph = read_manifest(folder), read_graph(folder / "model.net")
    found = open_images(folder, manifest).x
    found = found[np.arange(images) % len(found)]
    return ZooNet(name, folder, graph, found, open_host(folder, graph, manifest).encode(found))
