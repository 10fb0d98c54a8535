"""Dynamic Time Steps ViT (Datta et al., arXiv 2311.16456): Spikformer with a learned timestep mask for each layer of neurons.

Verified from its abstract: a trainable score per timestep yields a scalar binary mask that filters the spikes of every
neuron of an LIF layer. Threshold, straight-through gradient and regulariser are reconstructions. q, k and v share a mask.
"""

from __future__ import annotations

from spikegate.train.models.spikformer import build

__all__ = ["build"]
