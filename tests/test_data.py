"""Image sets: deterministic splits and batches, and a named refusal of everything that is not images with labels."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from spikegate.data import idx
from spikegate.data.parts import stratified
from spikegate.graph.ir import DeployError
from spikegate.train.augment import Augment
from spikegate.train.data import load
from spikegate.train.images import changes_of
from spikegate.train.settings.config import DataConfig


def config(name: str, path: Path | None = None, **more) -> DataConfig:
    return DataConfig(name=name, path=path, **more)


def arrays(rng, n=40, shape=(8, 8), classes=4) -> dict:
    def part():
        return rng.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n) % classes

    (a, b), (c, d) = part(), part()
    return {"train_images": a, "train_labels": b, "test_images": c, "test_labels": d}


def npz(tmp_path, values) -> Path:
    path = tmp_path / "set.npz"
    np.savez(path, **values)
    return path


def rows(images) -> set[bytes]:
    return {x.numpy().tobytes() for x in images.x}


def test_digits_split_is_deterministic_disjoint_and_stratified():
    a, b = load(config("digits")), load(config("digits"))
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(a, part).x, getattr(b, part).x) and torch.equal(getattr(a, part).y, getattr(b, part).y)
    assert (len(a.train) + len(a.validation), len(a.test), a.levels, a.image_shape) == (1437, 360, 16, (1, 8, 8))
    assert not rows(a.train) & rows(a.validation) and not rows(a.test) & (rows(a.train) | rows(a.validation))
    for part in (a.train, a.validation, a.test):
        share = torch.bincount(part.y, minlength=10) / len(part)
        assert (share - 0.1).abs().max() < 0.015
    other = load(config("digits", seed=1))
    assert torch.equal(other.test.x, a.test.x) and not torch.equal(other.validation.x, a.validation.x)


def test_limit_keeps_every_class_and_leaves_validation_alone():
    a, b = load(config("digits")), load(config("digits", limit_train=50))
    assert len(b.train) == 50 and torch.bincount(b.train.y).min() >= 4 and torch.equal(a.validation.x, b.validation.x)
    with pytest.raises(DeployError, match="limit_train"):
        load(config("digits", limit_train=9))


def test_stratified_takes_exactly_the_count(rng):
    y = rng.integers(0, 7, 500)
    for count in (1, 7, 50, 499, 500):
        chosen = stratified(y, count, 3)
        assert len(np.unique(chosen)) == count and np.array_equal(chosen, stratified(y, count, 3))


def test_batches_depend_on_seed_and_epoch_alone_and_hold_every_image_once():
    s = load(config("digits"))
    def draw(*at):
        return [(x, y) for x, y in s.train.batches(64, *at, s.augment)]

    first = draw(0, 3)
    torch.manual_seed(9)
    np.random.seed(9)
    again, other_epoch, other_seed = draw(0, 3), draw(0, 4), draw(1, 3)
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, again))
    assert not torch.equal(first[0][0], other_epoch[0][0]) and not torch.equal(first[0][0], other_seed[0][0])
    assert len(first) == s.train.count(64) and min(len(y) for _, y in first) > 55
    plain = torch.cat([x for x, _ in s.train.batches(64, 0, 3)])
    assert sorted(x.numpy().tobytes() for x in plain) == sorted(x.numpy().tobytes() for x in s.train.x)


@pytest.mark.parametrize("shift, farthest", [(None, 3), (0, 0), (2, 2)])
def test_images_are_shifted_as_far_as_asked_for(shift, farthest):
    augment, _ = changes_of(DataConfig(name="fashion", shift=shift, flip=False), (28, 28), 10)
    x = torch.zeros(400, 1, 28, 28, dtype=torch.uint8)
    x[:, :, 14, 14] = 1
    rows, columns = augment(x, np.random.default_rng(0))[:, 0].nonzero(as_tuple=True)[1:]
    assert {*(rows - 14).tolist()} == {*(columns - 14).tolist()} == {*range(-farthest, farthest + 1)}


def test_augmentation_shifts_with_zeros_and_mirrors(rng):
    x = torch.from_numpy(rng.integers(1, 200, (64, 3, 8, 6), dtype=np.uint8))
    before = x.clone()
    out = Augment(shift=2, flip=True)(x, np.random.default_rng(1))
    assert torch.equal(x, before) and out.shape == x.shape and out.dtype == torch.uint8
    seen = set()
    for image, new in zip(x, out):
        wide = torch.nn.functional.pad(image, [2] * 4)
        moved = {(dy, dx, m): (w.flip(2) if m else w) for dy in range(5) for dx in range(5) for m in (False, True)
                 for w in [wide[:, dy:dy + 8, dx:dx + 6]]}
        found = [k for k, v in moved.items() if torch.equal(v, new)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 20 and {m for *_, m in seen} == {False, True}
    assert torch.equal(out, Augment(2, True)(x, np.random.default_rng(1)))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (6, 9, 3)])
def test_npz_loads_grey_and_colour(tmp_path, rng, shape):
    values = arrays(rng, shape=shape) | {"classes": np.array(["a", "b", "c", "d"])}
    values["train_labels"] = values["train_labels"][:, None]
    s = load(config("npz", npz(tmp_path, values)))
    assert s.image_shape == ((shape[2] if len(shape) == 3 else 1), *shape[:2]) and s.classes == ["a", "b", "c", "d"] and s.levels == 255
    assert torch.equal(s.test.x[0], torch.from_numpy(values["test_images"][0].reshape(*shape[:2], -1).transpose(2, 0, 1).copy()))
    assert s.augment is None and load(config("cifar10", tmp_path / "set.npz")).augment == Augment(1, True)


def change(key, value):
    return lambda v: v | {key: value(v[key]) if callable(value) else value}


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (lambda v: {k: v[k] for k in v if k != "test_labels"}, "lacks test_labels"),
        (change("train_images", lambda x: x / np.float32(255)), "float32.*not uint8"),
        (change("train_images", lambda x: np.where(x > 9, np.nan, x)), "with nan"),
        (change("train_images", lambda x: x[0]), "shape"),
        (change("train_images", lambda x: x[:0]), "shape"),
        (change("train_images", lambda x: np.zeros((40, 3, 8, 8), np.uint8)), "transpose"),
        (change("test_images", lambda x: x[:, :7]), "train images are 1x8x8, test images 1x7x8"),
        (change("train_images", lambda x: x[:, :2]), "images of 2x8"),
        (change("train_labels", lambda y: y[:-1]), "train labels.*shape"),
        (change("train_labels", lambda y: y - 1), "label -1 at position 0"),
        (change("test_labels", lambda y: y + 1), "label 4 at position 3"),
        (change("train_labels", lambda y: y * 1.0), "float64, not integers"),
        (change("train_labels", lambda y: np.where(y > 2, np.nan, y)), "with nan, not integers"),
        (change("train_labels", lambda y: y * 2), "no image of class 1, 3, 5"),
        (change("train_labels", lambda y: y * 0), "only one class"),
        (change("train_labels", lambda y: y + 10**9), "name 1000000004 classes"),
        (lambda v: v | {"classes": np.array(["a", "b"])}, "label 2 at position 2, but there are 2 classes"),
        (lambda v: v | {"classes": np.array(list("abcde"))}, "no image of class e"),
        (change("train_images", lambda x: np.array([x, None], object)), "not numbers or text"),
    ],
)
def test_npz_with_a_fault_is_refused_by_name(tmp_path, rng, spoil, wanted):
    path = npz(tmp_path, spoil(arrays(rng)))
    with pytest.raises(DeployError, match=wanted) as e:
        load(config("npz", path))
    assert "set.npz" in str(e.value) and "hint" in str(e.value)


def test_files_that_are_no_npz(tmp_path, rng):
    whole = npz(tmp_path, arrays(rng)).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "one.npy", np.zeros(3))
    faults = {"cut.npz": "cannot be read", "text.npz": "cannot be read", "one.npy": "single array", "no.npz": "no such file"}
    for name, what in faults.items():
        with pytest.raises(DeployError, match=what):
            load(config("npz", tmp_path / name))
    with pytest.raises(DeployError, match="is a folder"):
        load(config("npz", tmp_path))
    with pytest.raises(DeployError, match="needs a path"):
        load(config("npz"))
    with pytest.raises(DeployError, match="takes no path"):
        load(config("digits", tmp_path))


@pytest.fixture
def tree(tmp_path, rng) -> Path:
    for part in ("train", "test"):
        for k, name in enumerate(("cat", "dog")):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.fromarray(rng.integers(0, 256, (8, 10), dtype=np.uint8)).save(folder / f"{i}.png")
            (folder / ".hidden").write_text(str(k))
    return tmp_path


def test_folder_loads_grey_and_turns_to_rgb_when_one_is_coloured(tree):
    s = load(config("folder", tree))
    assert s.image_shape == (1, 8, 10) and s.classes == ["cat", "dog"] and (len(s.train), len(s.validation), len(s.test)) == (5, 1, 6)
    Image.new("RGB", (10, 8), (9, 8, 7)).save(tree / "test" / "cat" / "0.png")
    assert load(config("folder", tree)).image_shape == (3, 8, 10)


def test_folder_with_a_fault_is_refused_by_name(tree):
    def refused(wanted: str) -> None:
        with pytest.raises(DeployError, match=wanted) as e:
            load(config("folder", tree))
        assert "hint" in str(e.value)

    odd = tree / "train" / "dog" / "9.png"
    odd.write_text("no image")
    refused("dog/9.png: not an image")
    odd.write_bytes((tree / "train" / "dog" / "0.png").read_bytes()[:60])
    refused("dog/9.png: not an image")
    Image.new("L", (10, 9)).save(odd)
    refused("dog/9.png: is 10x9, but .*cat/0.png is 10x8")
    Image.fromarray(np.zeros((8, 10), np.uint16)).save(odd)
    refused("dog/9.png: an image of mode I;16")
    odd.unlink()
    odd.mkdir()
    refused("dog/9.png: a folder")
    odd.rmdir()
    (tree / "train" / "eel").mkdir()
    refused("class 'eel' is only in train/")
    (tree / "test" / "eel").mkdir()
    refused("train/eel: empty class")
    (tree / "test" / "loose.png").write_text("")
    refused("a file where class folders are expected")


def write_idx(path: Path, array: np.ndarray, magic: int | None = None, cut: int = 0) -> None:
    body = struct.pack(f">I{array.ndim}I", magic or 0x0800 + array.ndim, *array.shape) + array.tobytes()
    with (gzip.open if path.suffix == ".gz" else open)(path, "wb") as f:
        f.write(body[: len(body) - cut])


def test_idx_round_trip_and_damage(tmp_path, rng):
    x = rng.integers(0, 256, (5, 4, 6), dtype=np.uint8)
    for name in ("a", "a.gz"):
        write_idx(tmp_path / name, x)
        assert np.array_equal(idx.read_idx(tmp_path / name, 3), x)
    write_idx(tmp_path / "short", x, cut=3)
    write_idx(tmp_path / "magic", x, magic=0x0D03)
    write_idx(tmp_path / "huge", np.zeros(0, np.uint8))
    (tmp_path / "huge").write_bytes(struct.pack(">4I", 0x0803, 1 << 31, 1 << 31, 1 << 31))
    (tmp_path / "long").write_bytes((tmp_path / "a").read_bytes() + b"x")
    (tmp_path / "head").write_bytes(b"\0\0\x08")
    (tmp_path / "cut.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:30])
    (tmp_path / "no.gz").write_bytes(b"plain")
    write_idx(tmp_path / "bomb.gz", np.zeros((1 << 8, 1 << 10, 1 << 10), np.uint8))
    faults = {
        "bomb.gz": "256 MiB of memory",
        "short": "holds 117 bytes, its header says 120", "magic": "magic number 00000d03", "huge": "claims", "long": "holds more",
        "head": "within its header", "cut.gz": "cannot be read", "no.gz": "cannot be read", "none": "no such file",
    }
    for name, what in faults.items():
        with pytest.raises(DeployError, match=what):
            idx.read_idx(tmp_path / name, 3)


def test_fashion_reads_a_local_copy(tmp_path, rng):
    x, y = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), (np.arange(40) % 10).astype(np.uint8)
    for name in idx.NAMES:
        write_idx(tmp_path / f"{name}.gz", x if "images" in name else y)
    s = load(config("fashion", tmp_path))
    assert s.image_shape == (1, 28, 28) and s.classes[9] == "Ankle boot" and s.augment == Augment(3, True)
    (tmp_path / f"{idx.NAMES[3]}.gz").unlink()
    with pytest.raises(DeployError, match=r"t10k-labels.*no such file"):
        load(config("fashion", tmp_path))


def test_a_failed_download_says_how_to_give_a_local_copy(tmp_path, monkeypatch):
    import torchvision

    def fail(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(DeployError, match=r"(?s)cannot be downloaded.*no network.*--data.path"):
        load(config("cifar10"))
    with pytest.raises(DeployError, match="no such file or folder"):
        load(config("cifar10", tmp_path / "none"))
