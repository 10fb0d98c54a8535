"""Images as a tree {train,test}/<class>/<file>, all of one size. Grey if every file is grey, else RGB."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from spikegate.data.arrays import Arrays
from spikegate.graph.ir import DeployError

GREY_MODES = ("1", "L")
COLOUR_MODES = ("RGB", "RGBA", "P", "CMYK", "YCbCr", "LA", "PA")
PARTS = ("train", "test")


def read_folder(root: Path) -> Arrays:
    """Read a tree of images; classes are the folders of train/ in alphabetical order. A DeployError names the first odd file."""
    classes, files = list_folder(root)
    images = {part: [read_image(path) for path, _ in files[part]] for part in PARTS}
    grey = all(image.ndim == 2 for part in PARTS for image in images[part])
    size, first = None, None
    for part in PARTS:
        for i, (path, _) in enumerate(files[part]):
            image = images[part][i]
            if size is None:
                size, first = image.shape[:2], path
            elif image.shape[:2] != size:
                h, w = image.shape[:2]
                raise DeployError(str(path), f"is {w}x{h}, but {first} is {size[1]}x{size[0]}", "bring all images to one size")
            if not grey and image.ndim == 2:
                images[part][i] = np.repeat(image[..., None], 3, 2)
    x = {part: np.stack(images[part]) for part in PARTS}
    y = {part: np.array([k for _, k in files[part]], np.int64) for part in PARTS}
    return Arrays(x["train"], y["train"], x["test"], y["test"], classes)


def list_folder(root: Path) -> tuple[list[str], dict[str, list[tuple[Path, int]]]]:
    """Class names of a tree, and for each part its files with their labels; nothing is read."""
    if not root.is_dir():
        raise DeployError(str(root), "no such folder", "give the folder that holds train/ and test/ with --data.path")
    for part in PARTS:
        if not (root / part).is_dir():
            raise DeployError(str(root), f"has no {part}/ in it", "lay the images out as {train,test}/<class>/<file>")
    classes = _classes(root / "train")
    other = _classes(root / "test")
    if other != classes:
        odd = sorted(set(classes) ^ set(other))[0]
        where = "train" if odd in classes else "test"
        raise DeployError(str(root), f"class {odd!r} is only in {where}/", "train/ and test/ need the same class folders")
    return classes, {part: [(path, k) for k, name in enumerate(classes) for path in _files(root / part / name)] for part in PARTS}


def visible(folder: Path) -> list[Path]:
    """Entries of a folder in alphabetical order, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _classes(folder: Path) -> list[str]:
    found = visible(folder)
    for path in found:
        if not path.is_dir():
            raise DeployError(str(path), "a file where class folders are expected", "lay the images out as {train,test}/<class>/<file>")
    if not found:
        raise DeployError(str(folder), "holds no class folders", "lay the images out as {train,test}/<class>/<file>")
    return [p.name for p in found]


def _files(folder: Path) -> list[Path]:
    found = visible(folder)
    if not found:
        raise DeployError(str(folder), "empty class", "put images into it, or remove the folder in train/ and test/")
    return found


def read_image(path: Path) -> np.ndarray:
    """One image, uint8 [H, W] or [H, W, 3]; a DeployError names a file that is none."""
    from PIL import Image

    hint = "remove it, or convert it to an 8-bit PNG or JPEG"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.mode in GREY_MODES:
                    return np.asarray(image.convert("L"))
                if image.mode in COLOUR_MODES:
                    return np.asarray(image.convert("RGB"))
                raise DeployError(str(path), f"an image of mode {image.mode}, not 8 bits per channel", hint)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        what = "a folder, not an image" if path.is_dir() else f"not an image that can be read ({e})"
        raise DeployError(str(path), what, hint) from None
