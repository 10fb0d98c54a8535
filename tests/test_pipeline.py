"""The main job on real images, through the commands that a user types: train, export, deploy in Lava, compare, estimate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikegate.engine.record import Record
from spikegate.formats.manifest import write_manifest
from spikegate.graph.ir import COUNTERS

ROOT = Path(__file__).parents[1]


def command(folder: Path, *words: object, code: int = 0) -> str:
    """Run a script of the repository in `folder`; returns stdout and stderr."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([sys.executable, ROOT / str(words[0]), *map(str, words[1:])], cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with runs/static, runs/adaptive and runs/leaving, trained for a few epochs on digits and exported."""
    folder = tmp_path_factory.mktemp("pipeline")
    for name, conf in (("static", "digits-spikformer"), ("adaptive", "digits-stas")):
        short = ["--train.epochs", 6, "--train.threads", 1] + (["--model.halting.beta", -3] if name == "adaptive" else [])
        command(folder, "train/run.py", "-c", ROOT / f"conf/{conf}.yml", "--output", f"runs/{name}", *short)
        command(folder, "convert/export.py", f"runs/{name}")
    leaving = ["--model.name", "at_snn", "--model.merge.enabled", False, "--model.halting.embedding", "--model.halting.beta", -4]
    short = ["--data.name", "digits", "--train.epochs", 5, "--train.threads", 1]
    command(folder, "train/run.py", *leaving, *short, "--output", "runs/leaving")
    command(folder, "convert/export.py", "runs/leaving")
    return folder


def test_dry_run_lists_every_op_and_writes_nothing(runs):
    before = sorted(p.name for p in (runs / "runs/adaptive").rglob("*"))
    listed = json.loads(command(runs, "convert/export.py", "runs/adaptive", "--dry-run", "--json"))
    names = [op["name"] for op in listed["ops"]]
    assert {"isps.conv", "isps.inject", "block1.attention", "gate1", "readout", "exit"} <= set(names)
    assert all({"shape", "neurons", "synapses", "payload_bits"} <= set(op) for op in listed["ops"])
    assert sorted(p.name for p in (runs / "runs/adaptive").rglob("*")) == before


def test_the_manifest_holds_the_audit(runs):
    manifest = json.loads((runs / "runs/adaptive/export/manifest.json").read_text())
    assert {row["macs"] for row in manifest["audit"]} == {0}
    assert sum(row["add"] for row in manifest["audit"]) > 10_000


@pytest.mark.lava
@pytest.mark.parametrize("mapping", ["op", "block", "chip"])
def test_torch_int_and_lava_agree(runs, mapping):
    said = command(runs, "deploy/compare.py", "runs/adaptive", "--data", "test:24", "--mapping", mapping)
    assert "equal:" in said and "torch = int = lava" in said


@pytest.mark.lava
def test_tokens_that_leave_the_patch_splitting(runs):
    """All agree, some tokens of an image live on, and the patch splitting's work falls with them."""
    assert "torch = int = lava" in command(runs, "deploy/compare.py", "runs/leaving", "--data", "test:24")
    command(runs, "deploy/run.py", "runs/leaving", "--data", "test:64", "--target", "int")
    record = Record.load(runs / "runs/leaving/deploy/events.npz")
    living = record.alive[:, :, 0]
    assert (living.any(2) & ~living.all(2)).any()
    updates = record.counts[:, :, record.ops.index("sps.encode"), COUNTERS.index("neuron_update")]
    assert np.array_equal(updates, living.sum(2) * (64 * 16 // living.shape[2]))


def test_the_static_net_agrees_on_the_whole_test_set(runs):
    assert "360 test images" in command(runs, "deploy/compare.py", "runs/static", "--data", "test", "--targets", "torch,int")


def test_calibrated_exits_agree_too(runs):
    command(runs, "convert/export.py", "runs/adaptive", "--exit-drop", 0.1, "--output", "runs/adaptive/early")
    manifest = json.loads((runs / "runs/adaptive/early/manifest.json").read_text())
    assert manifest["exit_drop"] == 0.1
    said = command(runs, "deploy/compare.py", "runs/adaptive/early", "--data", "test:64", "--targets", "torch,int")
    assert "equal:" in said
    command(runs, "deploy/run.py", "runs/adaptive/early", "--target", "int", "--data", "test")
    assert Record.load(runs / "runs/adaptive/early/deploy/events.npz").mean_timesteps < 4


def test_exits_with_a_guarantee(runs):
    said = command(runs, "convert/export.py", "runs/adaptive", "--exit-risk", 0.06, "--output", "runs/adaptive/sure")
    assert "guarantee: with confidence 0.9, at most 6.00% of the answers change" in said
    manifest = json.loads((runs / "runs/adaptive/sure/manifest.json").read_text())
    assert manifest["halting"] and manifest["exit_guarantee"]["tested"] == 72 and manifest["exit_guarantee"]["changed"] <= 2
    command(runs, "deploy/compare.py", "runs/adaptive/sure", "--data", "test:64", "--targets", "torch,int")
    assert "two ways" in command(runs, "convert/export.py", "runs/adaptive", "--exit-risk", 0.06, "--exit-drop", 0.1, code=1)


def test_exits_within_a_loss(runs):
    said = command(runs, "convert/export.py", "runs/adaptive", "--exit-loss", 0.05, "--output", "runs/adaptive/bold")
    assert "accuracy on validation images that did not shape the margins" in said
    manifest = json.loads((runs / "runs/adaptive/bold/manifest.json").read_text())
    found = manifest["exit_loss"]
    assert manifest["halting"] and found["loss"] == 0.05 and found["drop"] > 0 and found["timesteps"] < 4
    assert found["accuracy"] >= found["accuracy_before"] - 0.05
    command(runs, "deploy/compare.py", "runs/adaptive/bold", "--data", "test:64", "--targets", "torch,int")
    command(runs, "deploy/run.py", "runs/adaptive/bold", "--target", "int", "--data", "test")
    assert Record.load(runs / "runs/adaptive/bold/deploy/events.npz").mean_timesteps < 4
    assert "two ways" in command(runs, "convert/export.py", "runs/adaptive", "--exit-loss", 0.05, "--exit-drop", 0.1, code=1)


def test_energy_of_both_nets_side_by_side(runs):
    for name in ("static", "adaptive"):
        command(runs, "deploy/run.py", f"runs/{name}", "--target", "int", "--data", "test:100")
    command(runs, "deploy/run.py", "runs/adaptive", "--target", "int", "--data", "test:100", "--halt", "off")
    command(runs, "hw_sim/estimate.py", "runs/adaptive", "--static", "runs/static")
    on, off = (Record.load(runs / f"runs/adaptive/deploy/{n}.npz") for n in ("events", "events_off"))
    assert on.mean_tokens < 1 == off.mean_tokens
    assert on.chip_events.sum() < off.chip_events.sum()
    page = (runs / "runs/adaptive/report/report.html").read_text()
    assert "<svg" in page and "left out" in page.lower()


def test_one_flipped_weight_is_named(runs):
    """The file is changed behind the manifest's back, then vouched for again: only the comparison can see it."""
    export = runs / "runs/adaptive/flipped"
    export.mkdir()
    for name in ("model.net", "embedding.onnx", "manifest.json"):
        (export / name).write_bytes((runs / "runs/adaptive/export" / name).read_bytes())
    manifest = json.loads((export / "manifest.json").read_text())
    with h5py.File(export / "model.net", "a") as f:
        groups = {g.attrs["name"]: g for g in f["graph/ops"].values()}
        weight = f["layer"][str(groups["block1.fc1"].attrs["layer"])]["weight"]
        values = weight[()]
        values[3, 5] = 254 if values[3, 5].max() < 100 else -256
        weight[...] = values
    refused = command(runs, "deploy/compare.py", export, "--targets", "torch,int", code=1)
    assert "model.net" in refused and "hash" in refused
    write_manifest(export, {k: v for k, v in manifest.items() if k not in ("schema", "sha256")})
    said = command(runs, "deploy/compare.py", export, "--data", "test", "--targets", "torch,int", code=1)
    assert "block1.fc1" in said and "timestep" in said and "channel 3" in said


def test_what_is_missing_is_said_in_one_paragraph(runs, tmp_path):
    for script, word in (("convert/export.py", "train"), ("deploy/run.py", "export"), ("hw_sim/estimate.py", "export")):
        said = command(tmp_path, script, code=1)
        assert "hint" in said and word in said
    (runs / "runs/broken").mkdir()
    for name in ("config.yml", "model.safetensors"):
        (runs / "runs/broken" / name).write_bytes((runs / "runs/static" / name).read_bytes()[:-100])
    said = command(runs, "convert/export.py", "runs/broken", code=1)
    assert "broken" in said and "hint" in said
