"""Data sets by name: digits (comes with the package), Fashion-MNIST, CIFAR-10 and -100; local copies before downloads."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command.extras import needs
from spikegate.data.archive import read_npz
from spikegate.data.arrays import Arrays
from spikegate.data.folder import read_folder
from spikegate.data.idx import has_idx, read_idx_folder
from spikegate.data.split import stratified
from spikegate.graph.ir import DeployError

FASHION_CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
DIGITS = Path(__file__).with_name("digits.npz")
DIGITS_TEST, DIGITS_SEED = 360, 0


def downloads() -> Path:
    """Where data sets are downloaded to: $SPIKEGATE_DATA, else data/ in the current folder."""
    return Path(os.environ.get("SPIKEGATE_DATA") or "data")


def debian_fashion() -> Path:
    """Where Debian's package dataset-fashion-mnist puts its files; $SPIKEGATE_SYSTEM_DATA stands for /usr/share/datasets."""
    return Path(os.environ.get("SPIKEGATE_SYSTEM_DATA") or "/usr/share/datasets") / "fashion-mnist"


def digits() -> Arrays:
    """1,797 images of 8x8 pixels with 17 grey levels; the set has no official split, so 360 of it, stratified, are the test part.

    Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0, the part that
    scikit-learn has, too; shipped here, because importing scikit-learn takes longer than most runs.
    """
    with np.load(DIGITS, allow_pickle=False) as found:
        x, y = found["images"], found["labels"].astype(np.int64)
    test = stratified(y, DIGITS_TEST, DIGITS_SEED)
    train = np.setdiff1d(np.arange(len(y)), test)
    return Arrays(x[train], y[train], x[test], y[test], [str(d) for d in range(10)], levels=16)


def fashion(path: Path | None) -> Arrays:
    """60,000 + 10,000 images of 28x28: IDX files in `path`, else Debian's package, else a download."""
    if path is not None:
        return _local(path, lambda p: read_idx_folder(next((q for q in (p, p / "FashionMNIST" / "raw") if has_idx(q)), p), FASHION_CLASSES))
    if has_idx(debian_fashion()):
        return read_idx_folder(debian_fashion(), FASHION_CLASSES)
    hint = "Debian and Ubuntu have it as package dataset-fashion-mnist; or give the folder of its four IDX files with --data.path"
    train, test = _download("FashionMNIST", downloads(), True, hint)
    return Arrays(train.data.numpy(), train.targets.numpy(), test.data.numpy(), test.targets.numpy(), FASHION_CLASSES)


def cifar(name: str, path: Path | None) -> Arrays:
    """50,000 + 10,000 images of 32x32x3: npz, image tree or torchvision's files in `path`, else a download.

    torchvision unpickles CIFAR's own files, after it compared their checksums with those it carries.
    """
    kind = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}[name]
    hint = "give a local copy with --data.path: an npz file, a tree {train,test}/<class>/<file>, or torchvision's folder"
    if path is None:
        return _pair(*_download(kind, downloads(), True, hint))
    return _local(path, lambda p: _pair(*_download(kind, p, False, hint)))


def _local(path: Path, otherwise: Callable[[Path], Arrays]) -> Arrays:
    if not path.exists():
        raise DeployError(str(path), "no such file or folder", "mend --data.path, or leave it out to download the data set")
    if path.is_file():
        return read_npz(path)
    return read_folder(path) if (path / "train").is_dir() else otherwise(path)


def _pair(train: Any, test: Any) -> Arrays:
    return Arrays(np.asarray(train.data), np.asarray(train.targets), np.asarray(test.data), np.asarray(test.targets), list(train.classes))


def _download(kind: str, root: Path, fetch: bool, hint: str) -> tuple[Any, Any]:
    """torchvision's train and test part; its messages go to stderr."""
    with needs(kind):
        import torchvision

    make = getattr(torchvision.datasets, kind)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return make(root, train=True, download=fetch), make(root, train=False, download=fetch)
    except (OSError, RuntimeError, EOFError, ValueError) as e:  # URLError is an OSError
        what = "cannot be downloaded" if fetch else "holds no copy that can be read"
        raise DeployError(kind if fetch else str(root), f"{what} ({e})", hint) from None
