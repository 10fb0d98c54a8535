"""Event recordings: read, binned, trained on, deployed without a host embedding, exactly as in torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spikegate.convert.exits import Rule
from spikegate.convert.trained_run import write_export
from spikegate.data import tonic_sets
from spikegate.data.parts import load_parts
from spikegate.data.recording_files import read_file
from spikegate.data.recordings import Binning, read_recordings
from spikegate.deploy.agreement import agreement
from spikegate.deploy.bundle import load_images, open_export
from spikegate.errors import DeployError
from spikegate.formats.manifest import read_manifest
from spikegate.train.loop import fit
from spikegate.train.settings.config import MODELS, check

BINNING = Binning(4)
RECORDINGS, TEST, SIDE = 240, 40, 16


def moving_bars(rng: np.random.Generator, number: int = RECORDINGS) -> dict[str, np.ndarray]:
    """Bars of events that move right (class 0) or down (class 1) over 8 ms, and noise."""
    parts: list[np.ndarray] = []
    labels = np.arange(number) % 2
    for label in labels:
        t = np.sort(rng.integers(0, 8000, 150))
        along, across = t * SIDE // 8000, rng.integers(0, SIDE, len(t))
        noise = rng.random(len(t)) < 0.1
        along[noise] = rng.integers(0, SIDE, int(noise.sum()))
        x, y = (along, across) if label == 0 else (across, along)
        parts.append(np.stack([x, y, rng.integers(0, 2, len(t)), t]))
    x, y, p, t = np.concatenate(parts, 1)
    lengths = np.array([part.shape[1] for part in parts])
    return {"x": x, "y": y, "p": p, "t": t, "lengths": lengths, "labels": labels, "is_test": np.arange(number) >= number - TEST}


@pytest.fixture(scope="module")
def bars(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("events") / "bars.npz"
    np.savez(path, **moving_bars(np.random.default_rng(0)))
    return path


@pytest.mark.parametrize("by", ["time", "count"])
@pytest.mark.parametrize("most", [1, 3])
def test_frames_hold_the_events_of_their_timestep(bars, by, most):
    """Against a loop over single events."""
    found = read_recordings(bars, Binning(4, by, most))
    data = np.load(bars)
    ends = np.cumsum(data["lengths"])
    for i in (0, 7, RECORDINGS - 1):
        part = slice(ends[i] - data["lengths"][i], ends[i])
        expected = np.zeros((4, 2, SIDE, SIDE), int)
        t = data["t"][part]
        for k, (x, y, p) in enumerate(zip(data["x"][part], data["y"][part], data["p"][part])):
            step = (t[k] - t[0]) * 4 // (t[-1] - t[0] + 1) if by == "time" else k * 4 // len(t)
            expected[step, p, y, x] = min(most, expected[step, p, y, x] + 1)
        split, at = (found.train_x, i) if i < RECORDINGS - TEST else (found.test_x, i - RECORDINGS + TEST)
        assert np.array_equal(split[at], expected)
    assert found.recorded is not None and 7 < found.recorded.milliseconds <= 8 and 0 <= found.recorded.left_out < 0.5
    assert found.levels == most and found.train_x.max() <= most


BROKEN = {
    "lacks t": ({"t": None}, "lacks t"),
    "falling time": ({"t": lambda a: a[::-1].copy()}, "falls at event"),
    "lengths": ({"lengths": lambda a: a[:-1]}, "sum to"),
    "no events": ({"lengths": lambda a: np.concatenate([a[:-1], [0]])}, "sum to"),
    "polarity": ({"p": lambda a: a * 3}, "use 0 and 1"),
    "negative": ({"x": lambda a: a - 1}, "events reach"),
    "fractions": ({"x": lambda a: a.astype(float)}, "not whole numbers"),
    "one part": ({"is_test": np.zeros_like}, "both parts"),
    "labels": ({"labels": lambda a: a[:-3]}, "has 237 values"),
    "sensor": ({"size": lambda _: np.array([8, 8])}, "sensor has 8x8"),
    "huge": ({"size": lambda _: np.array([8, 1 << 20])}, "8x1048576 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_recordings_are_refused_by_name(bars, tmp_path, name):
    changes, says = BROKEN[name]
    arrays = dict(np.load(bars))
    for key, change in changes.items():
        if change is None:
            del arrays[key]
        else:
            arrays[key] = change(arrays.get(key))
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(DeployError, match=says):
        read_recordings(tmp_path / "odd.npz", BINNING)


def test_files_of_cameras(tmp_path):
    """The same recording in every kind of file that is read; a damaged one is named."""
    tonic, expelliarmus = pytest.importorskip("tonic"), pytest.importorskip("expelliarmus")
    assert tonic
    rng = np.random.default_rng(1)
    events = np.zeros(50, [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
    events["t"], events["p"] = np.sort(rng.integers(0, 10_000, 50)), rng.integers(0, 2, 50)
    events["x"], events["y"] = rng.integers(0, 30, (2, 50))
    np.save(tmp_path / "a.npy", events)
    np.savez(tmp_path / "a.npz", **{k: events[k] for k in "xypt"})
    raw = np.stack([events["x"], events["y"], events["p"] * 128 + (events["t"] >> 16), events["t"] >> 8 & 255, events["t"] & 255], 1)
    (tmp_path / "a.bin").write_bytes(raw.astype(np.uint8).tobytes())
    for name, encoding in (("a.dat", "dat"), ("a.raw", "evt2"), ("b.raw", "evt3")):
        expelliarmus.Wizard(encoding=encoding).save(fpath=tmp_path / name, arr=events)
    for name in ("a.npy", "a.npz", "a.bin", "a.dat", "a.raw", "b.raw"):
        found = read_file(tmp_path / name)
        assert all(np.array_equal(getattr(found, k), events[k]) for k in "xyp"), name
        assert np.array_equal(found.t - found.t[0], events["t"] - events["t"][0]), name
    (tmp_path / "c.npz").write_bytes(b"nothing")
    for name, says in (("c.npz", "cannot be read"), ("a.aedat4", "no recording that is read here")):
        (tmp_path / name).touch()
        with pytest.raises(DeployError, match=says):
            read_file(tmp_path / name)


def test_a_tree_of_files_is_the_npz_of_all(bars, tmp_path):
    data = np.load(bars)
    ends = np.cumsum(data["lengths"])
    for i, (end, n) in enumerate(zip(ends, data["lengths"])):
        folder = tmp_path / ("test" if data["is_test"][i] else "train") / "ab"[data["labels"][i]]
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{i:03}.npz", **{k: data[k][end - n : end] for k in "xypt"})
    tree, whole = (load_parts("events", p, binning=BINNING, validation=0.2) for p in (tmp_path, bars))
    assert tree.classes == ["a", "b"] and len(tree.test) == TEST
    for label in (0, 1):
        assert np.array_equal(tree.test.x[tree.test.y == label], whole.test.x[whole.test.y == label])
    (tmp_path / "test/c").mkdir()
    with pytest.raises(DeployError, match="a class that train/ lacks"):
        load_parts("events", tmp_path, binning=BINNING)


@pytest.mark.parametrize("name", tonic_sets.SETS)
def test_tonics_data_sets(monkeypatch, name):
    """Through a stand-in: nothing is downloaded here."""
    tonic = pytest.importorskip("tonic")

    class Set:
        sensor_size, classes = (20, 12, 2), ["u", "v"]

        def __init__(self, root, train=None):
            self.targets = [0, 1] * (10 if train is None or train else 3)

        def __getitem__(self, i):
            t = np.arange(40)
            return {"x": np.full(40, 19), "y": np.full(40, i % 12), "p": t % 2, "t": t}, self.targets[i]

    monkeypatch.setattr(tonic.datasets, tonic_sets.SETS[name], Set)
    parts = load_parts(name, None, binning=BINNING)
    assert parts.test.x.shape[1:] == (4, 2, 12, 20) and parts.classes == ["u", "v"]
    assert len(parts.test) == (2 if name == "cifar10dvs" else 6)


def settings(bars: Path, output: Path, model: str, **more: object) -> dict:
    return {
        "data": {"name": "events", "path": str(bars), "validation": 0.2, **more.pop("data", {})},  # type: ignore[dict-item]
        "model": {"name": model, "dim": 16, "depth": 1, "heads": 2, "timesteps": 4, "stem_channels": 8, "stem_stride": 2,
                  "attention_threshold": 1, **more},
        "train": {"epochs": 4, "batch_size": 10, "threads": 1}, "output": str(output),
    }  # fmt: skip


@pytest.mark.parametrize("model", [m for m in MODELS if m != "stas"])
def test_every_backbone_takes_events_exactly(bars, tmp_path, model):
    """Graded frames, halting where the model has it: torch = int, nothing on the host, no multiplication on chip."""
    values = settings(bars, tmp_path / "run", model, data={"most": 3, "bin_by": "count"})
    run = fit(check(values, "test"))
    done = write_export(run, rule=Rule(drop=0.1))
    manifest = read_manifest(done.folder)
    assert manifest["host_macs"] == 0 and manifest["image_shape"] == [4, 2, SIDE, SIDE] and not (done.folder / "embedding.onnx").exists()
    assert all(row.macs == 0 for row in done.audit)
    bundle = open_export(run)
    assert agreement(bundle, load_images(bundle).x, ("torch", "int")).equal


def test_stas_says_why_it_takes_none(bars, tmp_path):
    with pytest.raises(DeployError, match="embeds one image once"):
        fit(check(settings(bars, tmp_path / "run", "stas"), "test"))


@pytest.mark.parametrize("section, value", [("data", {"frames": 3}), ("train", {"float_timesteps": 2})])
def test_one_frame_for_each_timestep(bars, tmp_path, section, value):
    values = settings(bars, tmp_path / "run", "spikformer")
    values[section] |= value
    with pytest.raises(DeployError, match=next(iter(value))):
        check(values, "test")


@pytest.mark.lava
def test_from_the_camera_to_the_report(bars, tmp_path, monkeypatch):
    """Learned, equal in Lava, priced without a host, told in milliseconds of the recording."""
    from spikegate.deploy.inference import deploy
    from spikegate.hw_sim.page.halting_maps import drawable
    from spikegate.hw_sim.side_by_side import run as side_by_side

    monkeypatch.chdir(tmp_path)
    values = settings(bars, Path("runs/bars"), "at_snn")
    values["train"]["epochs"] = 8
    run = fit(check(values, "test"))
    assert json.loads((run / "metrics.json").read_text())["test"]["accuracy"] > 0.75  # 40 recordings, chance would give 0.5
    write_export(run, rule=Rule(drop=0.05))
    bundle = open_export(run)
    images = load_images(bundle).x
    assert agreement(bundle, images[:8], ("torch", "int", "lava")).equal
    deploy(run, target="int")
    result = json.loads((run / "deploy/result.json").read_text())
    assert result["recording_ms"] == pytest.approx(8, rel=0.1) and result["mean_recording_ms"] < result["recording_ms"]
    assert drawable(images).shape == (TEST, 3, SIDE, SIDE)
    side_by_side([run], None, ["paper45", "loihi2-pilotnet"], "loihi2", None)
    assert (run / "report/report.html").is_file()
