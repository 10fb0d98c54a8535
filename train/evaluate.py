"""Accuracy and adaptivity of a net over a set of images."""

from __future__ import annotations

from typing import Any

import torch

from spikegate.train.images import Images, part_of
from spikegate.train.models.net import Net
from spikegate.train.parallel import summed


@torch.no_grad()
def evaluate(net: Net, images: Images, batch: int) -> dict[str, Any]:
    """Run `net` as it stands (same phase) in eval mode, `batch` images at a time; ranks share the images.

    Returns ``accuracy`` (share of right predictions), ``mean_tokens`` (mean share of alive (block, timestep, token)
    cells, 1 for a static net), ``mean_timesteps`` (run per image) and ``mean_layer_timesteps`` (open in a layer with
    a timestep mask, mean over these layers; None without masks).
    """
    training = net.training
    net.eval()
    device = next(net.parameters()).device
    sums, opened = torch.zeros(3, dtype=torch.float64, device=device), torch.ones(())
    try:
        for x, y in images.in_order(batch, part_of(len(images))):
            out = net(x.to(device))
            right = (out.logits.argmax(1) == y.to(device)).sum()
            sums += torch.stack([right.double(), out.alive.double() * len(y), out.exit_step.sum().double()])
            opened = out.open
    finally:
        net.train(training)
    right, cells, steps = (summed(sums) / len(images)).tolist()
    return {
        "accuracy": right, "mean_tokens": cells, "mean_timesteps": steps,
        "mean_layer_timesteps": float(opened) * net.span if net.masks and net.phase == "deployed" else None,
    }
