"""The trainings of the parity bench: what is trained, in which programs, and one training of one of them with its learning curve."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy

from bench.jelly_twin import Jelly
from spikegate.train import models
from spikegate.train.data import load
from spikegate.train.evaluate import evaluate
from spikegate.train.images import Images, Splits
from spikegate.train.optimize import learning_rate, make_optimizer, set_rate, settle_heads
from spikegate.train.settings.config import Config, check, defaults, merge
from spikegate.train.settings.later import LATER
from spikegate.train.settings.options import nested

CHECKED, WATCHED = 2000, 200  # validation images at most: after the last epoch, after the others

# Data and shapes by row; "average" so many pixels squared to one first. All timesteps in every epoch, so that only the programs differ.
ROWS: dict[str, dict[str, Any]] = {
    "digits": {"data.name": "digits", "data.validation": 0.3, "train.epochs": 20, "train.activity": 0.0},
    "fashion-14": {
        "average": 2, "data.name": "fashion", "data.limit_train": 2000, "data.augment": False, "model.stem_channels": 24,
        "model.attention_threshold": 2, "train.epochs": 6, "train.warmup_epochs": 0.5,
    },
    "cifar10-8": {
        "average": 4, "data.name": "cifar10", "data.limit_train": 2000, "data.augment": False, "model.dim": 64, "model.stem_channels": 32,
        "model.stem_stride": 1, "model.attention_threshold": 2, "train.epochs": 6, "train.warmup_epochs": 0.5,
    },
    "cifar10-8-published": {
        "average": 4, "data.name": "cifar10", "data.limit_train": 1500, "data.augment": False, "model.dim": 64, "model.depth": 4,
        "model.heads": 8, "model.mlp_ratio": 4.0, "model.attention_threshold": 8, "model.stem_stride": 1, "model.embedding": "published",
        "model.pooling": "or", "model.head": "mean", "train.epochs": 6, "train.warmup_epochs": 0.5,
    },
    "cifar10-32": {
        "data.name": "cifar10", "data.limit_train": 2000, "data.augment": False, "model.dim": 96, "model.stem_channels": 32,
        "train.epochs": 6, "train.warmup_epochs": 0.5,
    },
    "cifar10-16-width": {
        "average": 2, "data.name": "cifar10", "data.limit_train": 1000, "data.augment": False, "model.dim": 128, "model.depth": 4,
        "model.heads": 8, "model.mlp_ratio": 4.0, "model.attention_threshold": 8, "model.stem_stride": 1, "model.embedding": "published",
        "model.pooling": "or", "model.head": "mean", "train.epochs": 6, "train.warmup_epochs": 0.5,
    },
}  # fmt: skip
# Ours, and ours with one difference put back; `before` has all of them.
CAUSES = ("model.head_start", "train.rates", "model.drive")
JELLY = {"spikingjelly": "sigmoid", "spikingjelly, arctan": "arctan"}
OURS: dict[str, dict[str, Any]] = {
    "spikegate": {},
    **{f"spikegate, {cause} {LATER[cause]}": {cause: LATER[cause]} for cause in CAUSES},
    "spikegate, before": {cause: LATER[cause] for cause in (*CAUSES, "model.stem_bound")},
}
PROGRAMS = (*JELLY, *OURS)


def settings(row: str, program: str, seed: int, path: Path | None) -> Config:
    """Settings of one training; those of SpikingJelly's are the same, and say nothing of its neurons."""
    own = {k: v for k, v in ROWS[row].items() if k != "average"} | OURS.get(program, {}) | {"train.seed": seed}
    name = own["data.name"]
    if path is not None:
        own["data.path"] = path
    base = {"data": {"name": name}, "model": {"name": "spikformer", "timesteps": 4}, "train": {"threads": torch.get_num_threads()}}
    return check(merge(merge(defaults(name, "spikformer"), base), nested(own)), row)


def stamp(row: str, program: str, seed: int) -> str:
    """What a training's settings are known by: kept figures of other settings are measured anew."""
    return f"{settings(row, program, seed, None).hash}-{ROWS[row].get('average', 1)}"


def images(row: str, config: Config) -> Splits:
    """The row's images; at most `CHECKED` of the validation part. The test part is not looked at."""
    splits = load(config.data)
    splits.validation = Images(splits.validation.x[:CHECKED], splits.validation.y[:CHECKED])
    if side := ROWS[row].get("average"):
        for part in (splits.train, splits.validation):
            part.x = avg_pool2d(part.x.float(), side).round().to(torch.uint8)
        splits.test = splits.validation
    return splits


def train(row: str, program: str, seed: int, path: Path | None, tell: Callable[[str], None]) -> dict[str, Any]:
    """Train once: loss of the first step, curve of epochs, seconds of processor time; of ours also the accuracy as deployed.

    ``deployed`` is the float net's accuracy with its weights, neurons and read-out in integers, without any further training.
    """
    config = settings(row, program, seed, path)
    splits = images(row, config)
    watched = Images(splits.validation.x[:WATCHED], splits.validation.y[:WATCHED])
    torch.manual_seed(seed)
    jelly = program in JELLY
    shape = splits.image_shape[0], splits.train.x.shape[2], splits.train.x.shape[3]
    form = config.model, shape, len(splits.classes), splits.levels
    net: nn.Module = Jelly(*form, JELLY[program]) if jelly else models.build(*form)
    optimizer = _plain(net, config) if jelly else make_optimizer(net, config.train)
    answer: Callable[[torch.Tensor], torch.Tensor] = net if jelly else lambda x: net(x).logits
    start, step, steps = time.process_time(), 0, splits.train.count(config.train.batch_size)
    found: dict[str, Any] = {"first_loss": None, "first_norm": None, "epochs": []}
    for epoch in range(config.train.epochs):
        net.train()
        loss_sum, right = 0.0, 0
        for x, y in splits.train.batches(config.train.batch_size, seed, epoch, splits.augment):
            set_rate(optimizer, learning_rate(step, steps, config.train))
            logits = answer(x)
            loss = cross_entropy(logits, y, label_smoothing=config.train.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(net.parameters(), config.train.clip)
            optimizer.step()
            if not step:
                found |= {"first_loss": loss.item(), "first_norm": norm.item()}
            step, loss_sum, right = step + 1, loss_sum + loss.item() * len(y), right + int((logits.argmax(1) == y).sum())
        seen = len(splits.train)
        part = splits.validation if epoch + 1 == config.train.epochs else watched
        found["epochs"].append({"loss": loss_sum / seen, "train": right / seen, "validation": _accuracy(net, answer, part)})
    found |= {"accuracy": found["epochs"][-1]["validation"], "seconds": time.process_time() - start, "deployed": None}
    found |= {"parameters": sum(p.numel() for p in net.parameters() if p.requires_grad), "images": len(splits.validation)}
    tell(f"{row}, {program}, seed {seed}: {found['accuracy']:.2%}, {found['seconds']:.0f} s")
    if not jelly:
        if config.model.head_start == "linear":
            settle_heads(net, optimizer)
        net.set_phase("deployed")  # type: ignore[operator]
        found["deployed"] = evaluate(net, splits.validation, config.train.eval_batch)["accuracy"]  # type: ignore[arg-type]
    return found


def _plain(net: nn.Module, config: Config) -> torch.optim.AdamW:
    """The same optimiser for a net whose parameters all stand in plain units."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": config.train.weight_decay},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.train.lr)


@torch.no_grad()
def _accuracy(net: nn.Module, answer: Callable[[torch.Tensor], torch.Tensor], part: Images) -> float:
    net.eval()
    return sum(int((answer(x).argmax(1) == y).sum()) for x, y in part.in_order(256)) / len(part)
