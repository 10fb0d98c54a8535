"""An export folder opened for deployment: the net, the host's embedding, the manifest and the images to run. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.runs import find_export
from spikegate.graph.ir import DeployError, Graph, load_ops
from spikegate.ops.exit_gate import NEVER

SPLITS = ("test", "validation", "train")


@dataclass
class Bundle:
    """What `open_export` found."""

    folder: Path
    graph: Graph
    manifest: dict[str, Any]
    host: Any  # spikegate.formats.host.Host


def open_export(given: Path | None) -> Bundle:
    """Open the export named (or inside the run named), or the newest one; a DeployError names what is missing or damaged."""
    from spikegate.formats.host import Host
    from spikegate.formats.manifest import read_manifest
    from spikegate.formats.netx.graph_file import read_graph

    load_ops()
    folder = find_export(given)
    manifest = read_manifest(folder)
    graph = read_graph(folder / "model.net")
    graph.check()
    return Bundle(folder, graph, manifest, Host(folder / "embedding.onnx"))


def parse_data(text: str) -> tuple[str, int | None]:
    """``"test"`` or ``"test:64"`` as (split, number of images or None for all)."""
    split, colon, number = text.partition(":")
    if split not in SPLITS:
        raise DeployError("--data", f"no split {split!r}", f"use one of {', '.join(SPLITS)}, as in --data test:64")
    if not colon:
        return split, None
    if not number.isdecimal() or int(number) < 1:
        raise DeployError("--data", f"{number!r} is no number of images", f"give 1 or more, as in --data {split}:64")
    return split, int(number)


def load_images(bundle: Bundle, data: str) -> tuple[np.ndarray, np.ndarray]:
    """The first images of a split, uint8 [N, channels, height, width], and their labels, int64 [N]."""
    split, number = parse_data(data)
    from spikegate.data.parts import load_split

    images, labels = load_split(bundle.manifest["data"], split)
    if number is not None and number > len(images):
        raise DeployError("--data", f"asks for {number} images, {split} has {len(images)}", f"use --data {split} for all of them")
    return images[:number], labels[:number]


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
