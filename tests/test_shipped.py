"""Images that come with a net stand for the first of its data set, and everything else takes the data set."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from spikegate.command.runs import ZOO
from spikegate.data import idx
from spikegate.data.shipped import FILE, images_text, open_images, parse_data, write_shipped
from spikegate.deploy.agreement import compare
from spikegate.deploy.inference import deploy
from spikegate.formats.manifest import read_manifest
from spikegate.graph.ir import DeployError
from spikegate.hw_sim import energy_report, side_by_side
from spikegate.hw_sim.what_if import open_net, sweep

NETS = sorted(p.name for p in ZOO.iterdir())
FASHION = ZOO / "stas-fashion"


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def copy(tmp_path) -> Path:
    """Fashion-MNIST as it would be: the images that come with the net, then more of them."""
    with np.load(FASHION / FILE) as f:
        x, y = f["x"][:, 0], f["y"].astype(np.uint8)
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in idx.NAMES:
        array = x if "images" in name else y
        write_idx(folder / name, np.concatenate([array, array[::-1][:100]]) if name.startswith("t10k") else array)
    return folder


@pytest.fixture
def net(tmp_path) -> Path:
    """A copy of the net to spoil."""
    return Path(shutil.copytree(FASHION, tmp_path / "net"))


@pytest.mark.parametrize("name", NETS)
def test_every_net_of_the_zoo_has_images_at_once(name):
    manifest = read_manifest(ZOO / name)
    images = open_images(ZOO / name, manifest)
    brings = not name.endswith("-digits")  # scikit-learn has the digits
    assert images.shipped == brings == (ZOO / name / FILE).is_file()
    assert len(images) == {"digits": 360, "fashion": 500, "nmnist": 100, "cifar10": 100, "cifar100": 100}[name.split("-")[-1]]
    assert len(np.unique(images.y)) == {"cifar100": 62}.get(name.split("-")[-1], 10), "labels among its first test images"
    assert images.x.shape[1:] == tuple(manifest["image_shape"])


@pytest.mark.parametrize("data", ["fashion", "nmnist"])
def test_twins_bring_the_same_images(data):
    first, *others = [open_images(ZOO / n, read_manifest(ZOO / n)) for n in NETS if n.endswith(f"-{data}")]
    assert others
    for other in others:
        assert np.array_equal(first.x, other.x) and np.array_equal(first.y, other.y)


def test_they_are_the_first_of_the_data_set(copy):
    manifest = read_manifest(FASHION)
    ours, theirs = open_images(FASHION, manifest, "test:40"), open_images(FASHION, manifest, "test:40", copy)
    assert ours.shipped and not theirs.shipped and len(ours) == 40
    assert np.array_equal(ours.x, theirs.x) and np.array_equal(ours.y, theirs.y)
    assert ours.described == "40 test images of fashion that come with the net" == images_text(40, "test", "fashion", True)
    assert theirs.described == "40 test images of fashion"


def test_more_images_and_other_parts_take_the_data_set(copy, monkeypatch):
    manifest = read_manifest(FASHION)
    for data in ("test", "test:501", "validation:8"):
        with pytest.raises(DeployError, match=r"(?s)FashionMNIST: .*--data-path") as e:
            open_images(FASHION, manifest, data)
        assert ("test:500" in e.value.hint) == data.startswith("test") and "--data.path" not in str(e.value)
    assert len(open_images(FASHION, manifest, "test:501", copy)) == 501
    assert len(open_images(FASHION, manifest, None, copy)) == 600
    monkeypatch.setenv("SPIKEGATE_SYSTEM_DATA", str(copy.parent))
    copy.rename(copy.parent / "fashion-mnist")
    assert len(open_images(FASHION, manifest, "test")) == 600
    with pytest.raises(DeployError, match="asks for 601 images, test has 600"):
        open_images(FASHION, manifest, "test:601")
    assert open_images(FASHION, manifest).shipped
    assert open_net(FASHION, 8).images.shipped and not open_net(FASHION, 600).images.shipped


def test_a_wrong_file_is_named(net):
    manifest = read_manifest(net)
    x, y = np.zeros((3, 1, 28, 28), np.uint8), np.zeros(3, np.int64)
    wrong = {
        "x is float32": {"x": x.astype(np.float32), "y": y}, r"x is uint8 \[3, 28, 28\]": {"x": x[:, 0], "y": y},
        r"x is uint8 \[0, 1, 28": {"x": x[:0], "y": y[:0]}, r"y is int64 \[2\]": {"x": x, "y": y[:2]},
        "labels 0 to 9": {"x": x, "y": y + 10}, "y is float64": {"x": x, "y": y * 0.5}, "lacks y": {"x": x},
        "not numbers or text": {"x": np.array([{}, {}]), "y": y},
    }  # fmt: skip
    for what, arrays in wrong.items():
        np.savez_compressed(net / FILE, **arrays)
        with pytest.raises(DeployError, match=rf"test\.npz: .*{what}"):
            open_images(net, manifest)
    whole = (FASHION / FILE).read_bytes()
    for damaged in (b"", b"no archive", whole[:-1000], whole[:4000] + bytes(100) + whole[4100:]):
        (net / FILE).write_bytes(damaged)
        with pytest.raises(DeployError, match=r"test\.npz: (x: )?cannot be read"):
            open_images(net, manifest)
        with pytest.raises(DeployError, match=r"test\.npz: differs from what was exported") as e:
            read_manifest(net)
        assert "get the file again" in e.value.hint
    write_shipped(net, x, y)
    assert len(open_images(net, manifest)) == 3


def test_numbers_of_images_are_read_strictly():
    assert parse_data("test:64") == ("test", 64) and parse_data("train") == ("train", None)


def test_the_commands_say_whose_images_they_took(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stas, spikformer = Path("zoo:stas-fashion"), Path("zoo:spikformer-fashion")

    def said(command, *args, **options) -> str:
        command(*args, **options)
        return " ".join(capsys.readouterr().out.split())

    ours = "8 test images of fashion that come with the net"
    assert ours in said(deploy, stas, target="int", data="test:8")
    assert ours in said(sweep, stas, "bits", images=8)
    assert ours in said(compare, stas, targets="torch,int", data="test:8")
    assert "8 test images of fashion (" in said(deploy, spikformer, target="int", data="test:8", data_path=copy)
    # The same images both ways: a pair.
    out = said(energy_report.run, stas, spikformer, ["paper45"], None)
    assert ours in out and "static" in out
    said(side_by_side.run, [stas, spikformer], None, ["paper45"], "loihi2", None)
    page = (tmp_path / "runs/report/report.html").read_text()
    assert ours in page and "recorded on different images" not in page
    result = json.loads((tmp_path / "runs/zoo-stas-fashion/deploy/result.json").read_text())
    assert result["shipped"] and result["images"] == 8
