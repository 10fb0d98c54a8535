"""What the tests of the SpikingJelly importer share: an import of a model, compared in float, torch and integers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.quantising import quantise
from spikegate.convert.spikingjelly.reporting import compare_layers, float_spikes
from spikegate.convert.spikingjelly.twin import trace_graph
from spikegate.engine import integer

ROOT = Path(__file__).parents[1]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]), "OMP_NUM_THREADS": "1"}


def both(model: nn.Module, images: torch.Tensor, levels: int = 16, timesteps: int | None = None):
    """Float and integer spikes by layer, layer reports and the graph, for images in 0..1."""
    plan, model, form = read(model, images[:2], timesteps)
    found = quantise(plan, levels, np.full(images.shape[1], 1 / levels), np.zeros(images.shape[1]))
    spikes = float_spikes(model, images, form, plan.timesteps)
    embedded = found.host.encode((images.numpy() * levels).round().astype(np.uint8))
    return spikes, embedded, compare_layers(plan, found.graph, spikes, embedded), found.graph


def same_in_torch(graph, embedded: np.ndarray) -> None:
    """Torch and the engine agree in every spike and answer."""
    ours, theirs = trace_graph(graph, embedded), integer.run(graph, embedded, spikes=True)
    assert all(np.array_equal(ours.spikes[n], theirs.spikes[n]) for n in graph.ops)
    assert np.array_equal(ours.logits, theirs.logits)


def pictures(digits, count: int = 24) -> torch.Tensor:
    return torch.from_numpy(digits.train.x[:count] / digits.levels).float()
