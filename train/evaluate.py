"""Accuracy and adaptivity of a net over a set of images."""

from __future__ import annotations

from typing import Any

import torch

from spikegate.train.data import Images
from spikegate.train.models.net import Net


@torch.no_grad()
def evaluate(net: Net, images: Images, batch: int) -> dict[str, Any]:
    """Run `net` as it stands (same phase) in eval mode, `batch` images at a time.

    Returns ``accuracy`` (share of right predictions), ``mean_tokens`` (mean share of alive (block, timestep, token)
    cells, 1 for a static net), ``mean_timesteps`` (run per image) and ``mean_layer_timesteps`` (open in a layer with
    a timestep mask, mean over these layers; None without masks).
    """
    training = net.training
    net.eval()
    right, cells, steps, opened = 0, 0.0, 0, 1.0
    try:
        for x, y in images.in_order(batch):
            out = net(x)
            right += int((out.logits.argmax(1) == y).sum())
            cells += float(out.alive) * len(y)
            steps += int(out.exit_step.sum())
            opened = float(out.open)
    finally:
        net.train(training)
    return {
        "accuracy": right / len(images), "mean_tokens": cells / len(images), "mean_timesteps": steps / len(images),
        "mean_layer_timesteps": opened * net.span if net.masks and net.phase == "deployed" else None,
    }
