"""Images and event recordings for training as tensors, drawn in batches that depend on seed, epoch and batch number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from spikegate.data.arrays import Recorded
from spikegate.data.parts import Part, binning_of, load_parts
from spikegate.train.augment import Augment
from spikegate.train.settings.config import DataConfig


@dataclass
class Images:
    """Pixels `x` uint8 [N, C, H, W], or frames of events uint8 [N, T, 2, H, W], and labels `y` int64 [N]."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> Images:
        """The images at these positions, in this order."""
        at = torch.from_numpy(np.asarray(index, np.int64))
        return Images(self.x[at], self.y[at])

    def in_order(self, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(x, y) of at most `batch` images at a time, unchanged."""
        yield from zip(self.x.split(batch), self.y.split(batch))

    def batches(self, batch: int, seed: int, epoch: int, augment: Augment | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images once, shuffled, in batches of nearly equal size (none is tiny, which would upset batch statistics)."""
        order = np.random.default_rng([seed, 0, epoch]).permutation(len(self))
        for number, index in enumerate(np.array_split(order, self.count(batch))):
            chosen = self.take(index)
            x = augment(chosen.x, np.random.default_rng([seed, 1, epoch, number])) if augment else chosen.x
            yield x, chosen.y

    def count(self, batch: int) -> int:
        """Number of batches that `batches` yields."""
        return -(-len(self) // batch)


@dataclass
class Splits:
    """The three parts, class names by label, the largest pixel value `levels`, and what is known of event recordings."""

    name: str
    train: Images
    validation: Images
    test: Images
    classes: list[str]
    levels: int
    augment: Augment | None
    recorded: Recorded | None = None

    @property
    def noun(self) -> str:
        """What a sample is called, in the plural; of recordings also the share of events that binning leaves out."""
        return "images" if self.recorded is None else f"recordings; {self.recorded.left_out:.1%} of the events left out by data.most"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width), of event recordings (timesteps, 2, height, width)"""
        return tuple(self.train.x.shape[1:])


def load(config: DataConfig) -> Splits:
    """The data set that `config` names, see `spikegate.data.parts.load_parts`."""
    parts = load_parts(config.name, config.path, validation=config.validation, seed=config.seed, limit_train=config.limit_train,
                       binning=binning_of(config.model_dump()))
    train, validation, test = (_tensors(p) for p in (parts.train, parts.validation, parts.test))
    augment = None
    if config.augment:
        flip = config.name in ("fashion", "cifar10", "cifar100") if config.flip is None else config.flip
        augment = Augment(shift=max(1, min(train.x.shape[-2:]) // 8), flip=flip)
    return Splits(parts.name, train, validation, test, parts.classes, parts.levels, augment, parts.recorded)


def _tensors(part: Part) -> Images:
    return Images(torch.from_numpy(part.x), torch.from_numpy(part.y))
