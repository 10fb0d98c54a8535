"""Training images that stay on disk: a tree {train,test}/<class>/<file> as `spikegate.data.folder` reads it, decoded batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from spikegate.data import folder
from spikegate.data.split import stratified
from spikegate.graph.ir import DeployError
from spikegate.train.augment import Augment
from spikegate.train.images import Batch, Images, Splits, changes_of
from spikegate.train.mixing import Mix
from spikegate.train.settings.data_config import DataConfig

READERS, AHEAD = 8, 2  # threads that decode; batches that are made ready while one is trained on


class Streamed(Images):
    """As `Images`, but the pixels lie in `files`; `x` holds no pixels, only the shape that all have."""

    def __init__(self, files: list[Path], y: np.ndarray, shape: tuple[int, int, int]) -> None:
        super().__init__(torch.empty((len(files), *shape), dtype=torch.uint8, device="meta"), torch.from_numpy(y))
        self.files = files
        self.readers = ThreadPoolExecutor(READERS)

    def take(self, index: np.ndarray) -> Images:
        """Decode the images at these positions, in this order."""
        shape = tuple(self.x.shape[1:])
        pixels = list(self.readers.map(lambda i: _pixels(self.files[i], shape), index))
        return Images(torch.from_numpy(np.stack(pixels)), self.y[torch.from_numpy(np.asarray(index, np.int64))])

    def to(self, device: torch.device) -> Images:
        """Itself: its batches are brought one by one."""
        return self

    def in_order(self, batch: int, part: slice = slice(None)) -> Iterator[Batch]:
        """As `Images.in_order`."""
        at = np.arange(len(self))[part]
        for start in range(0, len(at), batch):
            chosen = self.take(at[start : start + batch])
            yield chosen.x, chosen.y

    def batches(
        self, batch: int, seed: int, epoch: int, augment: Augment | None = None, mix: Mix | None = None, device: torch.device | None = None,
        passes: int = 1,
    ) -> Iterator[Batch]:
        """As `Images.batches`; the next ones are decoded meanwhile."""
        indices = self.indices(batch, seed, epoch)

        def made(number: int) -> Batch:
            return self.batch(indices[number], [seed, 1, epoch, number], augment, mix, device, passes)

        with ThreadPoolExecutor(1) as maker:
            coming = [maker.submit(made, number) for number in range(min(AHEAD, len(indices)))]
            for number in range(len(indices)):
                ready = coming.pop(0).result()
                if number + AHEAD < len(indices):
                    coming.append(maker.submit(made, number + AHEAD))
                yield ready


def _pixels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [C, H, W]."""
    image = folder.read_image(path)
    image = image[..., None] if image.ndim == 2 else image
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 and shape[0] == 3 else image
    found = image.transpose(2, 0, 1)
    if found.shape != shape:
        have, want = ("x".join(map(str, s)) for s in (found.shape, shape))
        what = f"is {have} (channels, height, width), the first image is {want}"
        raise DeployError(str(path), what, "bring all images to one size and kind")
    return found


def open_folder(config: DataConfig) -> Splits:
    """The folder that `config` names, unread: the same parts as of a folder that is read whole. The first image sets the size.

    Raises
    ------
    DeployError
        No folder, classes that differ, an image of another size (once it is met).
    """
    if config.path is None:
        raise DeployError("data.path", "data.name folder needs a path", "give it with --data.path")
    classes, files = folder.list_folder(config.path)
    paths = {part: [path for path, _ in rows] for part, rows in files.items()}
    labels = {part: np.array([k for _, k in rows], np.int64) for part, rows in files.items()}
    first = folder.read_image(paths["train"][0])
    shape = (1 if first.ndim == 2 else 3, *first.shape[:2])
    held = stratified(labels["train"], max(1, round(config.validation * len(paths["train"]))), config.seed)
    rest = np.setdiff1d(np.arange(len(paths["train"])), held)
    if config.limit_train is not None and config.limit_train < len(rest):
        rest = rest[stratified(labels["train"][rest], max(config.limit_train, len(classes)), config.seed)]

    def part(name: str, at: np.ndarray) -> Streamed:
        return Streamed([paths[name][i] for i in at], labels[name][at], shape)

    changes = changes_of(config, shape[1:], len(classes))
    parts = part("train", rest), part("train", held), part("test", np.arange(len(paths["test"])))
    return Splits(config.path.stem, *parts, classes, 255, *changes)
