"""``import spikegate as sg``: every example of docs/api.md runs as it stands, and the public names are what they claim."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import spikegate as sg
from spikegate.hw_sim.energy.cost_tables import load_table
from spikegate.hw_sim.energy.ledger import NetInfo
from spikegate.hw_sim.energy.pricing import price

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
EXAMPLES = re.findall(r"^## (.*?)$|^```python\n(.*?)^```$", PAGE.read_text(), re.S | re.M)


def test_nothing_is_imported_before_it_is_used():
    code = "import sys, spikegate; print(sorted(m for m in sys.modules if m.startswith('spikegate') or m in ('numpy', 'numba', 'torch')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['spikegate']"


def test_every_public_name_is_there_documented_and_listed():
    for name in sg.__all__:
        assert getattr(sg, name).__doc__ and name in dir(sg)
        assert f"sg.{name}" in PAGE.read_text()
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sg.nothing


@pytest.mark.lava
@pytest.mark.timeout(600)
def test_the_examples_of_the_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = [code for _, code in EXAMPLES if code]
    assert len(blocks) == PAGE.read_text().count("```python") >= 8
    for code in blocks:
        exec(compile(code, "docs/api.md", "exec"), names)
    out = capsys.readouterr().out
    assert "stas" in out and "spikes compared" in out and "NIR" in out and "<Net theirs" in out


@pytest.fixture(scope="module")
def net() -> sg.Net:
    return sg.load("zoo:stas-digits")


@pytest.fixture(scope="module")
def record(net) -> sg.Record:
    images, labels = net.images("test", 4)
    return net.run(images, labels=labels)


def test_energy_is_what_the_command_computes(net, record):
    found = net.energy(record, costs=["paper45"])
    table = load_table("paper45")
    assert found["paper45"].total_pj == price(record, NetInfo.from_manifest(net.manifest), table).total_pj > 0


def test_a_record_of_another_net_or_of_torch_is_refused(net, record):
    other = sg.load("zoo:spikformer-digits")
    with pytest.raises(sg.DeployError, match="another net"):
        other.energy(record)
    with pytest.raises(sg.DeployError, match="another net"):
        other.place(record)
    images, labels = net.images("test", 4)
    torch = net.run(images, labels=labels, target="torch")
    assert torch.accuracy == record.accuracy and np.array_equal(torch.logits, record.logits)
    assert net.energy(torch)["paper45"].total_pj == net.energy(net.run(images))["paper45"].total_pj  # it counts as the reference does
    torch.meta["counts"] = False
    with pytest.raises(sg.DeployError, match="no events"):
        net.energy(torch)


def test_placing_needs_no_events_but_then_has_no_time(net, record):
    bare, full = net.place(chip="loihi1"), net.place(record, chip="loihi1")
    assert bare.times is None and full.times is not None and bare.mapping.cores == full.mapping.cores


def test_training_is_silent_and_tells_of_its_epochs(tmp_path, capfd):
    model = {"name": "stas", "dim": 16, "depth": 1, "heads": 2, "timesteps": 2}
    settings = {"data": {"name": "digits", "limit_train": 64}, "model": model, "train": {"epochs": 2, "threads": 1}}
    rows: list[dict] = []
    run = sg.fit(settings, tmp_path / "run", progress=rows.append)
    said = capfd.readouterr()
    assert said.out == "" and "epoch" not in said.err
    assert rows == json.loads((run / "metrics.json").read_text())["epochs"] and [row["epoch"] for row in rows] == [1, 2]


@pytest.mark.parametrize("call, words", [
    (lambda net: sg.load("zoo:nothing"), "no such net in the zoo"),
    (lambda net: net.images("test", 100_000), "asks for 100000 images"),
    (lambda net: net.run(np.zeros((1, 1, 5, 5), np.uint8)), "the embedding takes uint8"),
    (lambda net: net.compare(np.zeros((1, 1, 8, 8), np.uint8), targets=("int", "int")), "nothing to compare"),
    (lambda net: net.energy(net.run(np.zeros((1, 1, 8, 8), np.uint8)), costs=["gold"]), "no such cost table"),
    (lambda net: sg.fit({"model": {"name": "stas", "dim": -1}}), "dim"),
    (lambda net: sg.read_nir("nothing.nir"), "nothing.nir: no such file"),
])  # fmt: skip
def test_a_mistake_is_one_error(net, call, words):
    with pytest.raises(sg.DeployError, match=re.escape(words)):
        call(net)
