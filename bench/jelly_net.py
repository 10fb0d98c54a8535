"""python bench/jelly_net.py RUN: a Spikformer trained in SpikingJelly, as its users write one, and imported.

The net is that of `bench/jelly_twin.py`: SEW residuals, LIF neurons of tau 2 with hard reset, norms, T copies of the image. Nothing of our
training is in it. The weights are those after the last epoch.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from spikegate.command import cli


@dataclass
class Args:
    """Train with AdamW, cosine schedule and cross-entropy, then import."""

    output: Annotated[Path, tyro.conf.Positional]
    """Run folder of the import."""
    data: str = "digits"
    """Data set with images."""
    data_path: Path | None = None
    """Local copy of it."""
    limit_train: int | None = None
    """Images that are trained on, at most."""
    dim: int = 64
    depth: int = 2
    heads: int = 4
    timesteps: int = 4
    epochs: int = 40
    batch: int = 64
    lr: float = 2e-3
    seed: int = 0
    tuned: int = 0
    """Epochs of fine-tuning in integer form."""


def main() -> None:
    """Train, import, print both accuracies."""
    args = cli.parse(Args, "A Spikformer trained in SpikingJelly, imported.")
    import torch

    from spikegate.convert.spikingjelly.importing import import_model
    from spikegate.data.parts import load_parts

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    parts = load_parts(args.data, args.data_path, validation=0.1, seed=0)
    net = trained(parts, args)
    source = {"name": args.data, "path": str(args.data_path) if args.data_path else None}
    import_model(net.eval(), args.output, source, epochs=args.tuned)


def trained(parts: Any, args: Args) -> Any:
    """The net after `args.epochs` on images of the train part, pixels from 0 to 1."""
    import torch
    from torch import nn

    from bench.jelly_twin import Jelly
    from spikegate.train.settings.config import ModelConfig

    model = ModelConfig(name="spikformer", dim=args.dim, depth=args.depth, heads=args.heads, timesteps=args.timesteps)
    net = Jelly(model, parts.train.x.shape[1:], len(parts.classes), 1, "arctan")
    x = torch.from_numpy(parts.train.x[: args.limit_train]).float() / parts.levels
    y = torch.from_numpy(parts.train.y[: args.limit_train]).long()
    optimizer = torch.optim.AdamW(net.parameters(), args.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for epoch in range(args.epochs):
        net.train()
        losses = []
        for part in torch.randperm(len(x)).split(args.batch):
            loss = nn.functional.cross_entropy(net(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        schedule.step()
        cli.console.print(f"epoch {epoch + 1}/{args.epochs}: loss {sum(losses) / len(losses):.3f}", markup=False)
    return net


if __name__ == "__main__":
    cli.run(main)
