"""Images and event recordings for training as tensors, drawn in batches that depend on seed, epoch and batch number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from spikegate.data.arrays import Recorded
from spikegate.train import devices
from spikegate.train.augment import Augment
from spikegate.train.backends import ranks
from spikegate.train.mixing import Mix
from spikegate.train.settings.data_config import DataConfig

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass
class Images:
    """Pixels `x` uint8 [N, C, H, W], or frames of events uint8 [N, T, 2, H, W], and labels `y` int64 [N], on one device."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> Images:
        """The images at these positions, in this order."""
        at = torch.from_numpy(np.asarray(index, np.int64)).to(self.x.device)
        return Images(self.x[at], self.y[at])

    def to(self, device: torch.device) -> Images:
        return Images(self.x.to(device), self.y.to(device))

    def in_order(self, batch: int, part: slice = slice(None)) -> Iterator[Batch]:
        """(x, y) of at most `batch` images at a time, unchanged; `part`: of these alone."""
        yield from zip(self.x[part].split(batch), self.y[part].split(batch))

    def batches(
        self, batch: int, seed: int, epoch: int, augment: Augment | None = None, mix: Mix | None = None, device: torch.device | None = None,
        passes: int = 1,
    ) -> Iterator[Batch]:
        """All images once, shuffled, in batches of nearly equal size (none is tiny, which would upset batch statistics).

        Of each batch this rank's part, pass by pass (`parts_of`), on `device`. With `mix` the labels are shares of the classes
        [b, classes].
        """
        for number, index in enumerate(self.indices(batch, seed, epoch)):
            yield self.batch(index, [seed, 1, epoch, number], augment, mix, device, passes)

    def indices(self, batch: int, seed: int, epoch: int) -> list[np.ndarray]:
        """Positions of the images of each batch of an epoch, over all ranks."""
        order = np.random.default_rng([seed, 0, epoch]).permutation(len(self))
        return np.array_split(order, self.count(batch))

    def batch(
        self, index: np.ndarray, seed: list[int], augment: Augment | None, mix: Mix | None, device: torch.device | None, passes: int
    ) -> Batch:
        """This rank's part of the batch of images at `index`, changed as `seed` says, whatever the number of ranks."""
        own = np.concatenate(parts_of(len(index), passes))
        x, y = self._changed(index, own, seed, augment, device)
        if mix is None:
            return x, y
        partner = len(index) - 1 - own
        other = (x.flip(0), y.flip(0)) if len(own) == len(index) else self._changed(index, partner, seed, augment, device)
        return mix(x, y, *other, np.random.default_rng([*seed, 2]))

    def _changed(self, index: np.ndarray, at: np.ndarray, seed: list[int], augment: Augment | None, device: torch.device | None) -> Batch:
        chosen = self.take(index[at])
        x, y = (t if device is None else t.to(device, non_blocking=True) for t in (chosen.x, chosen.y))
        return (augment.of(x, np.random.default_rng(seed), len(index), at) if augment else x), y

    def count(self, batch: int) -> int:
        """Number of batches that `batches` yields."""
        return -(-len(self) // batch)


def part_of(size: int) -> slice:
    """This rank's part of `size` images: parts of nearly equal size, in order."""
    n, k = ranks.count(), ranks.number()
    return slice(size * k // n, size * (k + 1) // n)


def parts_of(size: int, passes: int) -> list[np.ndarray]:
    """Positions in a batch of `size` that this rank takes in each pass: a pass holds the same images whatever the number of ranks."""
    return [whole[part_of(len(whole))] for whole in np.array_split(np.arange(size), passes)]


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
    mix: Mix | None = None
    recorded: Recorded | None = None

    @property
    def noun(self) -> str:
        """What a sample is called, in the plural; of recordings also the share of events that binning leaves out."""
        return "images" if self.recorded is None else f"recordings; {self.recorded.left_out:.1%} of the events left out by data.most"

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels, height, width), of event recordings (timesteps, 2, height, width)"""
        return tuple(self.train.x.shape[1:])

    def move(self, device: torch.device) -> None:
        """Bring the parts into a device's memory, as far as they fit; the others' batches are brought one by one."""
        for name in ("train", "validation", "test"):
            images: Images = getattr(self, name)
            if images.x.numel() < devices.room_bytes(device):
                setattr(self, name, images.to(device))


def changes_of(config: DataConfig, size: tuple[int, ...], classes: int) -> tuple[Augment | None, Mix | None]:
    """How training images of `size` (height, width) are varied and mixed."""
    augment = mix = None
    if config.augment:
        flip = config.mirrored
        shift = max(1, min(size) // 8) if config.shift is None else config.shift
        augment = Augment(shift, flip, config.rand_augment, config.cutout)
    if config.mixup or config.cutmix:
        mix = Mix(config.mix_share, config.mixup, config.cutmix, classes)
    return augment, mix
