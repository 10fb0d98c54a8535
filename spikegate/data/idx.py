"""IDX, the file format of MNIST and Fashion-MNIST: a magic number, sizes, then bytes; plain or gzipped."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from spikegate.data.arrays import Arrays
from spikegate.graph.ir import DeployError
from spikegate.reading import limits

UNSIGNED_BYTE = 8
LARGEST = 1 << 31  # bytes of one array; a header that claims more is damaged
HINT = "fetch the file again, or name another copy with --data.path"
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an IDX file with that many dimensions; a DeployError says what a damaged file lacks."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as f:
            head = f.read(4 + 4 * dimensions)
            if len(head) < 4 + 4 * dimensions:
                raise DeployError(str(path), f"ends within its header ({len(head)} bytes)", HINT)
            zero, kind, rank = struct.unpack(">HBB", head[:4])
            if (zero, kind, rank) != (0, UNSIGNED_BYTE, dimensions):
                raise DeployError(
                    str(path), f"magic number {head[:4].hex()}, expected 0000{UNSIGNED_BYTE:02x}{dimensions:02x} "
                    f"(unsigned bytes, {dimensions} dimensions)", "not the IDX file that its name says; " + HINT,
                )
            shape = struct.unpack(f">{dimensions}I", head[4:])
            size = int(np.prod(shape, dtype=object))
            if not 0 < size <= LARGEST:
                raise DeployError(str(path), f"claims {' x '.join(map(str, shape))} values", HINT)
            limits.check_bytes(str(path), size, path.stat().st_size)
            body = f.read(size + 1)
    except FileNotFoundError:
        raise DeployError(str(path), "no such file", HINT) from None
    except (OSError, EOFError, zlib.error) as e:
        raise DeployError(str(path), f"cannot be read ({e})", HINT) from None
    if len(body) != size:
        raise DeployError(str(path), f"holds {'more' if len(body) > size else len(body)} bytes, its header says {size}", HINT)
    return np.frombuffer(body, np.uint8).reshape(shape).copy()


def has_idx(folder: Path) -> bool:
    """True if the folder holds any of the four files: then the others ought to be there."""
    return any(_file(folder, name).is_file() for name in NAMES)


def read_idx_folder(folder: Path, classes: list[str]) -> Arrays:
    """The four files of a folder, gzipped or not."""
    train_x, train_y, test_x, test_y = (read_idx(_file(folder, name), 3 if "images" in name else 1) for name in NAMES)
    return Arrays(train_x, train_y, test_x, test_y, classes)


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"
