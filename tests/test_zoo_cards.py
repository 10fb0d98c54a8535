"""Cards of the zoo's nets say what lies beside them; a run becomes a net of the zoo by one command."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pytest

from bench import into_zoo, zoo_card
from spikegate.command.runs import ZOO
from spikegate.formats.manifest import read_manifest, sha256
from spikegate.graph.ir import DeployError
from spikegate.train import checkpoint
from spikegate.train.restore import load_run
from spikegate.train.settings.options import of_run, write_yaml

NETS = sorted(p.name for p in ZOO.iterdir())


@pytest.mark.parametrize("name", NETS)
def test_a_card_is_of_the_files_beside_it(name):
    text = (ZOO / name / zoo_card.FILE).read_text()
    assert text == zoo_card.card(ZOO / name)
    hashes = dict(reversed(line.split()) for line in text.split("```")[1].splitlines() if line)
    others = {p.name for p in (ZOO / name).iterdir()} - {zoo_card.FILE}
    assert set(hashes) == others and all(sha256(ZOO / name / n) == h for n, h in hashes.items())
    metrics = json.loads((ZOO / name / "metrics.json").read_text())["test"]
    assert f"{100 * metrics['accuracy']:.2f} % of {metrics['images']:,} test " in text
    assert re.search(r"from (random weights|zoo:[a-z0-9_-]+): .*epochs.*min", text) and "Limits:" in text


def test_a_card_says_which_net_of_the_zoo_the_training_began_with():
    lines = ["epoch 1/2 float: loss 1.0, 30.0 s, 9 images/s", "epoch 2/2 deployed: loss 1.0, 30.0 s, 9 images/s"]
    plain, warm = "\n".join(["$ python train/run.py", *lines]), "\n".join(["starts from zoo:stas-digits; new: head", *lines])
    assert zoo_card._parts(plain) == ["from random weights: 1 epoch float, 1 epoch deployed, 1.0 min"]
    assert zoo_card._parts(warm + "\nstarts from runs/a\n" + lines[0]) == [
        "from zoo:stas-digits: 1 epoch float, 1 epoch deployed, 1.0 min", "from there: 1 epoch float, 0.5 min",
    ]  # fmt: skip


def test_the_zoo_stays_small():
    assert sum(p.stat().st_size for p in ZOO.rglob("*")) < 60e6


@pytest.fixture
def run(tmp_path):
    """A net of the zoo as the run that it came from."""
    folder = tmp_path / "bench" / "digits" / "stas-0"
    (folder / "export").mkdir(parents=True)
    for name in ("config.yml", "metrics.json", "model.safetensors"):
        shutil.copyfile(ZOO / "stas-digits" / name, folder / name)
    for name in ("manifest.json", "model.net", "embedding.onnx"):
        shutil.copyfile(ZOO / "stas-digits" / name, folder / "export" / name)
    log = (ZOO / "stas-digits" / "train.log").read_text().splitlines()
    (tmp_path / "log").write_text("\n".join([*log, f"$ python convert/export.py {folder}", "a table", f"{folder}: no line of sizes"]))
    return folder


def test_a_run_becomes_a_net_of_the_zoo(run, tmp_path):
    net = tmp_path / "zoo" / "stas-digits"
    into_zoo.ship(run, run / "export", net, (tmp_path / "log",), 5, None)
    manifest, (_, ours), (_, theirs) = read_manifest(net), load_run(net), load_run(run)
    assert all(np.array_equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert set(manifest["sha256"]) == {"model.net", "embedding.onnx", "test.npz"}
    with np.load(net / "test.npz") as f:
        assert f["x"].shape == (5, 1, 8, 8) and f["x"].dtype == np.uint8
    log = (net / "train.log").read_text()
    assert "$ python convert/export.py runs/bench/digits/stas-0\n" in log and str(tmp_path) not in log and "table" not in log
    assert "test.npz has the first 5 of the test images" in zoo_card.card(net)


def test_where_a_run_lay_is_left_out(run, tmp_path):
    config = of_run(run)
    config.train.start, config.data.path = run.parent / "stas-base-0", tmp_path / "data.npz"
    write_yaml(config, run / "config.yml")
    with pytest.raises(DeployError, match="not the settings"):
        into_zoo.ship(run, run / "export", tmp_path / "net", (tmp_path / "log",), 0, None)
    assert not (tmp_path / "net").exists()
    tensors, facts = checkpoint.read(run / "model.safetensors", "")
    checkpoint.write(run / "model.safetensors", tensors, facts | {"config_hash": config.hash})
    into_zoo.ship(run, run / "export", tmp_path / "net", (tmp_path / "log",), 0, None)
    found, _ = load_run(tmp_path / "net")
    assert str(found.train.start) == "runs/bench/digits/stas-base-0" and found.data.path is None
    assert all(str(tmp_path).encode() not in p.read_bytes() for p in (tmp_path / "net").iterdir())


@pytest.mark.parametrize("words", [(), ("RUN",), ("RUN", "No Name"), ("RUN", "../x-y")])
def test_wrong_names_are_refused(run, words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["into_zoo.py", *(str(run) if w == "RUN" else w for w in words)])
    with pytest.raises(DeployError, match="are needed"):
        into_zoo.main()
