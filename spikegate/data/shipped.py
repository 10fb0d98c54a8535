"""The images that an export is run on: those that come with it in test.npz, or a part of the data set that its manifest names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.data.remembered import data_path
from spikegate.errors import DeployError
from spikegate.files import write_npz
from spikegate.reading import arrays

FILE = "test.npz"  # x uint8 [N, C, H, W], y int64 [N]: the first N of the test part, in its order
SPLITS = ("test", "validation", "train")


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels `x` uint8 [N, C, H, W] and labels `y` int64 [N]: the first N of the part `split` of `dataset`."""

    x: np.ndarray
    y: np.ndarray
    split: str
    dataset: str
    shipped: bool  # came with the export

    def __len__(self) -> int:
        return len(self.y)

    @property
    def described(self) -> str:
        return images_text(len(self), self.split, self.dataset, self.shipped)


def images_text(number: int, split: str, dataset: str, shipped: bool) -> str:
    """``"500 test images of fashion that come with the net"``."""
    return f"{number:,} {split} images of {dataset}{' that come with the net' if shipped else ''}"


def parse_data(text: str) -> tuple[str, int | None]:
    """``"test"`` or ``"test:64"`` as (split, number of images or None for all)."""
    split, colon, number = text.partition(":")
    if split not in SPLITS:
        raise DeployError("--data", f"no split {split!r}", f"use one of {', '.join(SPLITS)}, as in --data test:64")
    if not colon:
        return split, None
    if not number.isdecimal() or int(number) < 1:
        raise DeployError("--data", f"{number!r} is no number of images", f"give 1 or more, as in --data {split}:64")
    return split, int(number)


def open_images(folder: Path, manifest: dict[str, Any], data: str | None = None, path: Path | None = None, *,
                option: str = "--data") -> Images:
    """The images that an export is to be run on.

    Parameters
    ----------
    folder, manifest : the export
    data : ``"test:64"`` for the first 64 of a part, ``"test"`` for all of it; None for those that come with the export, or all of test
    path : local copy of the data set, which is then read in any case
    option : what the command line calls the number of images

    Raises
    ------
    DeployError
        A damaged test.npz, fewer images than asked for, a data set that is neither here nor to be had.
    """
    split, number = parse_data(data or "test")
    dataset = manifest["dataset"]
    x, y = _shipped(folder, manifest) if split == "test" and path is None else (None, None)
    if x is not None and y is not None:
        number = len(x) if data is None else number
        if number is not None and number <= len(x):
            return Images(x[:number], y[:number], split, dataset, True)
    found_x, found_y = _of_data_set(manifest["data"], split, path or data_path(folder), 0 if x is None else len(x))
    if number is not None and number > len(found_x):
        raise DeployError(option, f"asks for {number} images, {split} has {len(found_x)}", f"use {len(found_x)} at most")
    return Images(found_x[:number], found_y[:number], split, dataset, False)


def write_shipped(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Put the first test images, uint8 [N, C, H, W], and their labels into an export; the manifest is to be written after it."""
    if x.dtype != np.uint8:
        raise DeployError(FILE, f"pixels are {x.dtype}, not uint8", "give the data set's own images")
    write_npz(folder / FILE, x=x, y=np.asarray(y, np.int64))


def _of_data_set(data: dict[str, Any], split: str, path: Path | None, shipped: int) -> tuple[np.ndarray, np.ndarray]:
    from spikegate.data.parts import load_split

    try:
        return load_split(data if path is None else data | {"path": str(path)}, split)
    except DeployError as e:
        where, problem, hint = (text.replace("--data.path", "--data-path") for text in (e.where, e.problem, e.hint))
        if shipped and split == "test":
            hint += f"; or use the images that come with the net: test:{shipped}"
        raise DeployError(where, problem, hint) from e


def _shipped(folder: Path, manifest: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """What test.npz holds, checked against the manifest; nothing where there is none."""
    path = folder / FILE
    if not path.is_file():
        return None, None
    hint = "get the file again from where the export comes from, or name a local copy of the data set with --data-path"
    with arrays.opened(path, hint) as f:
        x, y = f["x"], f["y"]
    shape = tuple(manifest["image_shape"])
    if x.dtype != np.uint8 or x.shape[1:] != shape or not len(x):
        raise DeployError(str(path), f"x is {x.dtype} {list(x.shape)}, the net takes uint8 [N, {', '.join(map(str, shape))}]", hint)
    classes = manifest["classes"]
    if y.dtype != np.int64 or y.shape != x.shape[:1] or y.min() < 0 or y.max() >= classes:
        raise DeployError(str(path), f"y is {y.dtype} {list(y.shape)}, not the labels 0 to {classes - 1} of {len(x)} images", hint)
    return x, y
