"""Image sets and event recordings as arrays: loaded, checked, split; without torch: a deployment can be repeated without train/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.data import archive, folder, known, recording_files
from spikegate.data.arrays import Arrays, Recorded
from spikegate.data.recordings import Binning, read_recordings
from spikegate.data.split import stratified as stratified
from spikegate.graph.ir import DeployError

LARGEST_SIDE = 1024  # pixels
PARTS = ("train", "validation", "test")
IMAGE_SETS = ("digits", "fashion", "cifar10", "cifar100", "npz", "folder")
EVENT_SETS = ("events", "nmnist", "dvsgesture", "cifar10dvs")  # recordings of event cameras, which `Binning` turns into frames


@dataclass
class Part:
    """Pixels `x` uint8 [N, C, H, W], or frames of events uint8 [N, T, 2, H, W], and labels `y` int64 [N]."""

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> Part:
        return Part(self.x[index], self.y[index])


@dataclass
class Parts:
    """The three parts, class names by label, and the largest pixel value `levels` (digits 16, other images 255).

    `name` is the data set's, or of an npz or folder the file's. `recorded` is what is known of event recordings.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    classes: list[str]
    levels: int
    recorded: Recorded | None = None


def load_parts(
    name: str, path: Path | None = None, *, validation: float = 0.1, seed: int = 0, limit_train: int | None = None,
    binning: Binning | None = None,
) -> Parts:
    """Load the data set `name`, check it and split it. Equal arguments give equal parts.

    Parameters
    ----------
    path : local copy of the data
    validation : share of the training images kept for validation, stratified
    seed : of that split
    limit_train : train on so many images only, equally many per class
    binning : how event recordings become frames

    Raises
    ------
    DeployError
        Missing or damaged files, pixels that are no uint8, labels out of range, classes without images.
    """
    found = _read(name, path, binning)
    where = str(path or name)
    train, test = _part(found, "train", where), _part(found, "test", where)
    if train.x.shape[1:] != test.x.shape[1:]:
        raise DeployError(where, f"train images are {_size(train)}, test images {_size(test)}", "bring all images to one size")
    classes = _classes(found, train, test, where)
    if len(train) < 2 * len(classes):
        raise DeployError(where, f"{len(train)} training images for {len(classes)} classes", "give at least two per class")
    held = stratified(train.y, max(1, round(validation * len(train))), seed)
    rest = train.take(np.setdiff1d(np.arange(len(train)), held))
    if limit_train is not None:
        if limit_train < len(classes):
            raise DeployError("data.limit_train", f"{limit_train} images for {len(classes)} classes", "give at least one per class")
        if limit_train < len(rest):
            rest = rest.take(stratified(rest.y, limit_train, seed))
    return Parts(_title(name, path), rest, train.take(held), test, classes, found.levels, found.recorded)


def _title(name: str, path: Path | None) -> str:
    """What tables call the data: a copy in a file goes by the file's name, since it may differ from the published set."""
    own = path is not None and (name in ("npz", "folder") or path.suffix == ".npz")
    return path.stem if path is not None and own else name


def load_split(data: dict[str, Any], split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, C, H, W] and labels int64 [N] of one part of the data that a manifest names."""
    if split not in PARTS:
        raise DeployError("data", f"there is no split {split!r}", f"use one of {', '.join(PARTS)}")
    path = data.get("path")
    parts = load_parts(data["name"], Path(path) if path else None, validation=data.get("validation", 0.1), seed=data.get("seed", 0),
                       limit_train=data.get("limit_train"), binning=binning_of(data))
    part: Part = getattr(parts, split)
    return part.x, part.y


def binning_of(data: dict[str, Any]) -> Binning | None:
    """How the settings `data` of a training say that recordings become frames; None for images."""
    return Binning(data["frames"], data["bin_by"], data["most"]) if data["name"] in EVENT_SETS else None


def _read(name: str, path: Path | None, binning: Binning | None) -> Arrays:
    if name in EVENT_SETS:
        return _events(name, path, binning or Binning(1))
    if name in ("npz", "folder"):
        if path is None:
            raise DeployError("data.path", f"data.name {name} needs a path", "give it with --data.path")
        return archive.read_npz(path) if name == "npz" else folder.read_folder(path)
    if name == "digits":
        if path is not None:
            what = "digits takes no path, it comes with the package"
            raise DeployError("data.path", what, "leave it out, or use data.name npz or folder")
        return known.digits()
    if name == "fashion":
        return known.fashion(path)
    if name in ("cifar10", "cifar100"):
        return known.cifar(name, path)
    raise DeployError("data.name", f"there is no data set {name!r}", f"use {', '.join((*IMAGE_SETS, *EVENT_SETS))}")


def _events(name: str, path: Path | None, binning: Binning) -> Arrays:
    if path is None:
        if name == "events":
            raise DeployError("data.path", "data.name events needs a path", "give an npz file, or a tree {train,test}/<class>/<file>")
        from spikegate.data.tonic_sets import read_tonic

        return read_tonic(name, known.downloads(), binning)
    if path.is_dir():
        return recording_files.read_tree(path, binning)
    if not path.is_file():
        raise DeployError(str(path), "no such file or folder", "give an npz file, or a tree {train,test}/<class>/<file>, with --data.path")
    return read_recordings(path, binning)


def _part(found: Arrays, part: str, where: str) -> Part:
    """Check one part and bring images to [N, C, H, W]."""
    x, y = (found.train_x, found.train_y) if part == "train" else (found.test_x, found.test_y)
    x = x if found.recorded else _pixels(x, f"{where}: {part} images")
    if y.shape != (len(x),):
        raise DeployError(f"{where}: {part} labels", f"shape {y.shape} for {len(x)} images", "give one label per image")
    if not np.issubdtype(y.dtype, np.integer):
        bad = " with nan" if np.issubdtype(y.dtype, np.floating) and np.isnan(y).any() else ""
        raise DeployError(f"{where}: {part} labels", f"are {y.dtype}{bad}, not integers", "give the class numbers 0, 1, 2, ...")
    return Part(x, y.astype(np.int64))


def _pixels(x: np.ndarray, name: str) -> np.ndarray:
    """Images [N, C, H, W] of [N, H, W] or [N, H, W, C], checked."""
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
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _classes(found: Arrays, train: Part, test: Part, where: str) -> list[str]:
    """Class names, after a check of the labels against them."""
    count = len(found.classes) or int(train.y.max()) + 1
    if count < 2:
        raise DeployError(f"{where}: train labels", "there is only one class", "give at least two")
    for part, images in (("train", train), ("test", test)):
        wrong = np.flatnonzero((images.y < 0) | (images.y >= count))
        if len(wrong):
            at = int(wrong[0])
            raise DeployError(f"{where}: {part} labels", f"label {int(images.y[at])} at position {at}, but there are {count} classes",
                              f"labels are 0..{count - 1}; {len(wrong)} of {len(images)} are not")
    if count > len(train):
        what = f"name {count} classes, but there are {len(train)} images"
        raise DeployError(f"{where}: train labels", what, "number the classes 0, 1, 2, ...")
    empty = np.flatnonzero(np.bincount(train.y, minlength=count) == 0).tolist()
    if empty:
        names = ", ".join(found.classes[k] if found.classes else str(k) for k in empty[:5])
        raise DeployError(f"{where}: train labels", f"no image of class {names}", "number the classes without gaps")
    return found.classes or [str(k) for k in range(count)]


def _size(images: Part) -> str:
    return "x".join(map(str, images.x.shape[1:]))
