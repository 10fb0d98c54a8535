"""Nets that take frames of events: the chip gets them as spikes, and the host computes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikegate.formats.event_host import EventHost
from spikegate.graph.ir import Graph


@dataclass(frozen=True)
class EventLayer:
    """Stands where `hosting.HostLayer` does for images: frames of bits, laid out."""

    graph: Graph
    frames: tuple[int, int, int, int]  # timesteps, channels, height, width
    macs: int = 0
    parameters: int = 0

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Frames uint8 [N, T, channels, height, width] as int32 [N, T, positions, channels]."""
        return EventHost(self.graph, self.frames).encode(images)
