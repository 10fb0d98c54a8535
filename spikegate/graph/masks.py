"""Average timesteps of a net with timestep masks, as Dynamic Time Steps ViT (arXiv 2311.16456) counts them."""

from __future__ import annotations

import numpy as np

from spikegate.graph.ir import Graph


def mean_layer_timesteps(graph: Graph) -> float | None:
    """Open timesteps of a timestep mask, mean over masks (one for each layer of neurons that has one); None without masks."""
    opened = [int(np.sum(graph.ops[name].mask)) for name in graph.only("timestep_gate")]  # type: ignore[attr-defined]
    return float(np.mean(opened)) if opened else None
