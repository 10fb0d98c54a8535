"""The host's part of an exported net: its embedding, or for event recordings no more than laying out their frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from spikegate.engine.arguments import as_array
from spikegate.formats.host import Host
from spikegate.graph.ir import DeployError, Graph

EMBEDDING = "embedding.onnx"


class EventHost:
    """Stands where `spikegate.formats.host.Host` does for images: same members, no file, no multiplication."""

    def __init__(self, graph: Graph, image_shape: tuple[int, ...]) -> None:
        positions, channels = graph.input_shape
        self.image_shape = image_shape
        steps, polarities, height, width = image_shape
        if (steps, polarities, height * width) != (graph.timesteps, channels, positions):
            shape = ", ".join(map(str, image_shape))
            what = f"image_shape [{shape}], but the net takes {graph.timesteps} timesteps of {positions} positions, {channels} channels"
            raise DeployError("manifest", what, "export the run again")
        self.pixels = graph.input_payload.high

    def encode(self, images: np.ndarray, chunk: int = 256) -> np.ndarray:
        """Frames uint8 [N, T, channels, height, width] as int32 [N, T, positions, channels].

        Raises
        ------
        DeployError
            For anything but uint8 frames of the trained shape and value range.
        """
        images = as_array("recordings", images)
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            what = f"are {images.dtype} {list(images.shape)}, the net takes uint8 [N, {', '.join(map(str, self.image_shape))}]"
            raise DeployError("recordings", what, "use the data set that the net was trained on")
        if images.size and int(images.max()) > self.pixels:
            what = f"hold values up to {int(images.max())}, trained on 0..{self.pixels}"
            raise DeployError("recordings", what, "bin them with that data.most")
        laid: np.ndarray = images.reshape(*images.shape[:3], -1).transpose(0, 1, 3, 2)
        return np.ascontiguousarray(laid, np.int32)


def open_host(folder: Path, graph: Graph, manifest: dict[str, Any]) -> Host | EventHost:
    """What encodes the images or recordings of the export in `folder`."""
    if takes_events(manifest):
        return EventHost(graph, tuple(manifest["image_shape"]))
    return Host(folder / EMBEDDING)


def takes_events(manifest: dict[str, Any]) -> bool:
    """Whether an export takes frames of events, [T, polarities, height, width] each, not images [channels, height, width]."""
    return len(manifest["image_shape"]) == 4
