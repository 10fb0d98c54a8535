"""python bench/kept.py: trains small nets of five kinds in SpikingJelly, imports them as they are, and prints what accuracy is kept."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bench import kept_nets
from spikegate.command import cli
from spikegate.convert.spikingjelly.importing import import_model
from spikegate.data.parts import Part, binning_of, load_parts
from spikegate.files import atomic

RATE, BATCH = 5e-3, 50
FRAMES = {"frames": kept_nets.T, "bin_by": "time", "most": 1}


@dataclass(frozen=True)
class Kind:
    """A net, its data, how long it is trained, and how many test images are scored."""

    make: Callable[[], nn.Module]
    data: str
    images: int
    epochs: int
    scored: int


KINDS = {
    "MLP": Kind(kept_nets.mlp, "fashion", 6000, 4, 10_000),
    "VGG": Kind(kept_nets.vgg, "fashion", 4000, 3, 2000),
    "SEW-ResNet-18": Kind(kept_nets.sew_resnet18, "fashion", 4000, 3, 2000),
    "Spikformer": Kind(kept_nets.spikformer, "fashion", 4000, 3, 2000),
    "event net": Kind(kept_nets.camera, "events", 1000, 8, 100),
}


@dataclass
class Args:
    """Train and import nets of five kinds."""

    fashion: Path | None = None
    """Folder of Fashion-MNIST's four files; left out, it is downloaded."""
    events: Path | None = None
    """npz file of event recordings for the event net, as docs/how-to/event-cameras.md describes it; without it that net is left out."""
    only: str = ""
    """Kinds whose name contains this."""
    seeds: int = 1
    """Trainings of each kind."""
    output: Path = Path("bench/results/kept.json")
    """Results; kinds and seeds that are in it are not run again."""
    json: bool = False
    """Print the results as JSON only."""


def train(model: nn.Module, part: Part, levels: int, epochs: int, seed: int) -> None:
    """Plain training on (pixel / levels), or on frames of events."""
    from spikingjelly.activation_based import functional

    x, y = torch.from_numpy(part.x / np.float32(levels)), torch.from_numpy(part.y)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    steps = -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps)
    model.train()
    for epoch in range(epochs):
        for chosen in np.array_split(np.random.default_rng([seed, epoch]).permutation(len(x)), steps):
            functional.reset_net(model)
            now = x[chosen].transpose(0, 1) if x.dim() == 5 else x[chosen]
            loss = cross_entropy(model(now), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    functional.reset_net(model)
    model.eval()


def measure(kind: Kind, path: Path | None, seed: int) -> dict[str, Any]:
    """Train, import, and score both forms on the same held-out images."""
    data = {"name": kind.data, "path": str(path) if path else None, **(FRAMES if kind.data == "events" else {})}
    parts = load_parts(kind.data, path, binning=binning_of(data))
    chosen = np.random.default_rng(seed).permutation(len(parts.train))[: kind.images]
    torch.manual_seed(seed)
    model, begun = kind.make(), time.perf_counter()
    train(model, Part(parts.train.x[chosen], parts.train.y[chosen]), parts.levels, kind.epochs, seed)
    trained = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        done = import_model(model, Path(folder), data, test_images=min(kind.scored, len(parts.test)), quiet=True)
        report = json.loads((Path(folder) / "import.json").read_text())
    rows = done.layers
    return {
        "data": kind.data, "training_images": len(chosen), "epochs": kind.epochs, "seed": seed, "test_images": report["test_images"],
        "float_accuracy": done.float_accuracy, "int_accuracy": done.int_accuracy,
        "points": 100 * (done.int_accuracy - done.float_accuracy), "layers": len(rows),
        "agreement": [min(r["agreement"] for r in rows), max(r["agreement"] for r in rows)],
        "alone": min(r["alone"] for r in rows), "parameters": sum(p.numel() for p in model.parameters()),
        "training_s": round(trained, 1), "seconds": round(time.perf_counter() - begun, 1),
    }  # fmt: skip


def row(name: str, r: dict[str, Any]) -> str:
    """A line of the table in docs/importing.md."""
    low = f"{100 * r['agreement'][0]:.1f} %"
    return (f"| {name} | {r['data']} | {r['seed']} | {r['training_images']:,} x {r['epochs']} | {r['test_images']:,} | "
            f"{100 * r['float_accuracy']:.2f} % | {100 * r['int_accuracy']:.2f} % | "
            f"{r['points']:+.2f} | {low} | {100 * r['alone']:.2f} % |")


def main() -> None:
    """Run what is not known yet, write and print all."""
    args = cli.parse(Args, "Train and import nets of five kinds.")
    torch.set_num_threads(1)
    known: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {}
    for seed in range(args.seeds):
        for name, kind in KINDS.items():
            label = f"{name}, seed {seed}"
            path = args.events if kind.data == "events" else args.fashion
            if args.only not in name or label in known or (kind.data == "events" and path is None):
                continue
            known[label] = {"kind": name, **measure(kind, path, seed)}
            args.output.parent.mkdir(parents=True, exist_ok=True)
            with atomic(args.output) as part:
                part.write_text(json.dumps(known, indent=2) + "\n")
            if not args.json:
                print(row(name, known[label]), flush=True)
    if args.json:
        cli.print_json(known)


if __name__ == "__main__":
    cli.run(main)
