"""An export folder opened for deployment: the net, the host's embedding, the manifest and the images to run. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.runs import find_export
from spikegate.data.shipped import Images, open_images
from spikegate.graph.ir import Graph, load_ops
from spikegate.ops.exit_gate import NEVER


@dataclass
class Bundle:
    """What `open_export` found."""

    folder: Path
    graph: Graph
    manifest: dict[str, Any]
    host: Any  # spikegate.formats.event_host.open_host


def open_export(given: Path | None) -> Bundle:
    """Open the export named (or inside the run named), or the newest one; a DeployError names what is missing or damaged."""
    from spikegate.formats.event_host import open_host
    from spikegate.formats.manifest import read_manifest
    from spikegate.formats.netx.graph_file import read_graph

    load_ops()
    folder = find_export(given)
    manifest = read_manifest(folder)
    graph = read_graph(folder / "model.net")
    graph.check()
    return Bundle(folder, graph, manifest, open_host(folder, graph, manifest))


def load_images(bundle: Bundle, data: str | None = None, path: Path | None = None) -> Images:
    """The images that `data` ("test", "test:64") names, see `spikegate.data.shipped.open_images`."""
    return open_images(bundle.folder, bundle.manifest, data, path)


def without_halting(graph: Graph) -> Graph:
    """The same net without token gates, merging, timestep masks and early exit: every token in every layer and timestep."""
    plain = graph.without_halting()
    for name in plain.only("exit_gate"):
        margin = np.full(plain.timesteps, NEVER)
        plain.ops[name] = dataclasses.replace(plain.ops[name], margin=margin, policy="fixed_window")  # type: ignore[type-var]
    plain.check()
    return plain


def spike_bytes(graph: Graph, samples: int) -> int:
    """Memory that recording every op's output takes, bytes."""
    return 4 * samples * graph.timesteps * sum(int(np.prod(op.out_shape)) for op in graph.ops.values())
