"""The README is short, its example runs as it stands, and the nets of the zoo work at once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from spikegate.command.runs import ZOO, find_export
from spikegate.convert.checks.audit import audit
from spikegate.data.shipped import open_images
from spikegate.engine import integer
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph

ROOT = Path(__file__).parents[1]
NETS = sorted(p.name for p in ZOO.iterdir())


@pytest.mark.lava
@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", ["README.md", "docs/how-to/deploy-and-compare.md"])
def test_the_example_of_the_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    exec(compile(block, page, "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_readme_fits_two_screens_and_names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 100
    assert "\nmake demo " in text and "\nmake test " in text


@pytest.mark.parametrize("name", NETS)
def test_zoo_nets_are_complete_and_accumulate_only(name):
    export = find_export(Path(f"zoo:{name}"))
    manifest = read_manifest(export)  # verifies the hashes
    graph = read_graph(export / "model.net")
    metrics = json.loads((export / "metrics.json").read_text())
    least = {"cifar10": 0.8, "cifar100": 0.55, "stas-cifar100": 0.54, "at_snn-cifar100": 0.54, "spikformer-taught-cifar10": 0.825}
    assert metrics["test"]["accuracy"] > least.get(name, least.get(name.split("-")[-1], 0.85))
    host = open_host(export, graph, manifest)
    images = np.random.default_rng(0).integers(0, min(16, host.pixels) + 1, (1, *manifest["image_shape"])).astype(np.uint8)
    assert all(row.macs == 0 and row.exact for row in audit(graph, host.encode(images)))


@pytest.mark.parametrize("name", [n for n in NETS if n.endswith(("digits", "nmnist"))])
def test_zoo_accuracy_is_what_its_log_says(name):
    export = find_export(Path(f"zoo:{name}"))
    manifest, graph = read_manifest(export), read_graph(export / "model.net")
    images = open_images(export, manifest)
    record = integer.run(graph, open_host(export, graph, manifest).encode(images.x), images.y)
    assert record.accuracy == pytest.approx(json.loads((export / "metrics.json").read_text())["test"]["accuracy"])
