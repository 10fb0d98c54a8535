"""Images for training: loaded, checked, split, and drawn in batches that depend on seed, epoch and batch number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from convert.ir import DeployError
from train.augment import Augment
from train.config import DataConfig
from train.datasets import Arrays

LARGEST_SIDE = 1024  # pixels


@dataclass
class Images:
    """Pixels `x` uint8 [N, C, H, W] and labels `y` int64 [N]."""

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
    """The three parts, class names by label, and the largest pixel value `levels` (digits 16, else 255)."""

    name: str
    train: Images
    validation: Images
    test: Images
    classes: list[str]
    levels: int
    augment: Augment | None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        c, h, w = self.train.x.shape[1:]
        return c, h, w


def load(config: DataConfig) -> Splits:
    """Load the data set that `config` names, check it and split it. Equal settings give equal splits.

    Raises
    ------
    DeployError
        Missing or damaged files, pixels that are no uint8, labels out of range, classes without images.
    """
    found = _read(config)
    where = str(config.path or config.name)
    train, test = _images(found, "train", where), _images(found, "test", where)
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DeployError(where, f"train images are {_size(train)}, test images {_size(test)}", "bring all images to one size")
    classes = _classes(found, train, test, where)
    if len(train) < 2 * len(classes):
        raise DeployError(where, f"{len(train)} training images for {len(classes)} classes", "give at least two per class")
    held = stratified(train.y.numpy(), max(1, round(config.validation * len(train))), config.seed)
    kept = np.setdiff1d(np.arange(len(train)), held)
    rest = train.take(kept)
    if config.limit_train is not None:
        if config.limit_train < len(classes):
            raise DeployError("data.limit_train", f"{config.limit_train} images for {len(classes)} classes", "give at least one per class")
        if config.limit_train < len(rest):
            rest = rest.take(stratified(rest.y.numpy(), config.limit_train, config.seed))
    augment = None
    if config.augment:
        augment = Augment(shift=max(1, min(train.x.shape[2:]) // 8), flip=config.name in ("fashion", "cifar10", "cifar100"))
    return Splits(config.name, rest, train.take(held), test, classes, found.levels, augment)


def stratified(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted positions of `count` samples in which every class has its share of `y`, up to rounding."""
    rng = np.random.default_rng(seed)
    labels, sizes = np.unique(y, return_counts=True)
    share = sizes * count / len(y)
    take = np.floor(share).astype(int)
    take[np.argsort(take - share, kind="stable")[: count - take.sum()]] += 1
    chosen = [rng.permutation(np.flatnonzero(y == label))[:n] for label, n in zip(labels, take)]
    return np.sort(np.concatenate(chosen))


def _read(config: DataConfig) -> Arrays:
    from train.datasets import archive, folder, known

    if config.name in ("npz", "folder"):
        if config.path is None:
            raise DeployError("data.path", f"data.name {config.name} needs a path", "give it with --data.path")
        return archive.read_npz(config.path) if config.name == "npz" else folder.read_folder(config.path)
    if config.name == "digits":
        if config.path is not None:
            raise DeployError("data.path", "digits takes no path, it comes with scikit-learn", "leave it out, or use name npz or folder")
        return known.digits()
    return known.fashion(config.path) if config.name == "fashion" else known.cifar(config.name, config.path)


def _images(found: Arrays, part: str, where: str) -> Images:
    """Check one part and bring it to [N, C, H, W]."""
    x, y = (found.train_x, found.train_y) if part == "train" else (found.test_x, found.test_y)
    name = f"{where}: {part} images"
    if x.dtype != np.uint8:
        bad = " with nan or inf" if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all() else ""
        raise DeployError(name, f"pixels are {x.dtype}{bad}, not uint8", "scale them to 0..255, round and convert to uint8")
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or 0 in x.shape:
        raise DeployError(name, f"shape {x.shape}", "give [N, H, W] or [N, H, W, C] with at least one image")
    if x.shape[3] > 4:
        hint = "channels come last: transpose(0, 2, 3, 1)" if x.shape[1] <= 4 else "give 1 to 4 channels, last"
        raise DeployError(name, f"shape {x.shape} would have {x.shape[3]} channels", hint)
    if not 4 <= min(x.shape[1:3]) <= max(x.shape[1:3]) <= LARGEST_SIDE:
        raise DeployError(name, f"images of {x.shape[1]}x{x.shape[2]} pixels", f"give sides of 4 to {LARGEST_SIDE} pixels")
    if y.shape != (len(x),):
        raise DeployError(f"{where}: {part} labels", f"shape {y.shape} for {len(x)} images", "give one label per image")
    if not np.issubdtype(y.dtype, np.integer):
        bad = " with nan" if np.issubdtype(y.dtype, np.floating) and np.isnan(y).any() else ""
        raise DeployError(f"{where}: {part} labels", f"are {y.dtype}{bad}, not integers", "give the class numbers 0, 1, 2, ...")
    return Images(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(y.astype(np.int64)))


def _classes(found: Arrays, train: Images, test: Images, where: str) -> list[str]:
    """Class names, after a check of the labels against them."""
    count = len(found.classes) or int(train.y.max()) + 1
    if count < 2:
        raise DeployError(f"{where}: train labels", "there is only one class", "give at least two")
    for part, images in (("train", train), ("test", test)):
        wrong = torch.nonzero((images.y < 0) | (images.y >= count)).flatten()
        if len(wrong):
            at = int(wrong[0])
            raise DeployError(f"{where}: {part} labels", f"label {int(images.y[at])} at position {at}, but there are {count} classes",
                              f"labels are 0..{count - 1}; {len(wrong)} of {len(images)} are not")
    if count > len(train):
        what = f"name {count} classes, but there are {len(train)} images"
        raise DeployError(f"{where}: train labels", what, "number the classes 0, 1, 2, ...")
    empty = torch.nonzero(torch.bincount(train.y, minlength=count) == 0).flatten().tolist()
    if empty:
        names = ", ".join(found.classes[k] if found.classes else str(k) for k in empty[:5])
        raise DeployError(f"{where}: train labels", f"no image of class {names}", "number the classes without gaps")
    return found.classes or [str(k) for k in range(count)]


def _size(images: Images) -> str:
    return "x".join(map(str, images.x.shape[1:]))
