"""deploy/run.py and deploy/compare.py from the command line: what they write, and how they refuse."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from spikegate.data.shipped import parse_data
from spikegate.deploy.agreement import compare as compare_run
from spikegate.deploy.agreement import parse_targets
from spikegate.deploy.bundle import without_halting
from spikegate.deploy.inference import deploy
from spikegate.engine import integer
from spikegate.engine.record import Record
from spikegate.formats.host import write_host
from spikegate.formats.manifest import write_manifest
from spikegate.formats.netx.graph_file import write_graph
from spikegate.graph.credit import gates
from spikegate.graph.ir import DeployError
from tests.graphs import CHANNELS, halting_graph

REPOSITORY = Path(__file__).parent.parent
IMAGES = 20


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    """A run folder with an export of the shared halting net on 6 x 6 images."""
    folder = tmp_path_factory.mktemp("runs") / "tiny" / "export"
    folder.mkdir(parents=True)
    graph = halting_graph(scores=300)
    write_graph(graph, folder / "model.net")
    weight = np.random.default_rng(5).integers(-2, 6, (CHANNELS, 1, 2, 2))
    write_host(folder / "embedding.onnx", weight=weight, bias=np.zeros(CHANNELS, int), shift=5, low=0, high=3, stride=2, padding=0,
               image_shape=(1, 6, 6), pixels=16)
    write_manifest(folder, {
        "name": "tiny", "model": "halting", "dataset": "noise", "data": {"name": "noise"}, "classes": 3, "labels": ["a", "b", "c"],
        "timesteps": graph.timesteps, "halting": True, "grid": [3, 3], "image_shape": [1, 6, 6], "host_macs": 1, "dense_ops": {},
        "embedding_ops": ["inject"], "gates": gates(graph),
    })
    return folder


@pytest.fixture
def images(monkeypatch) -> np.ndarray:
    """The data set that the export's manifest names."""
    rng = np.random.default_rng(6)
    x, y = rng.integers(0, 17, (IMAGES, 1, 6, 6)).astype(np.uint8), rng.integers(0, 3, IMAGES)

    def load_split(data, split):
        assert data == {"name": "noise"} and split == "test"
        return x, y

    monkeypatch.setitem(sys.modules, "spikegate.data.parts", types.SimpleNamespace(load_split=load_split))
    return x


def embed(export: Path, x: np.ndarray) -> np.ndarray:
    from spikegate.formats.host import Host

    return Host(export / "embedding.onnx").encode(x)


@pytest.mark.lava
@pytest.mark.parametrize("target", ["int", "lava"])
def test_deploy_writes_what_happened(export, images, target, tmp_path, capsys):
    folder = deploy(export, data="test:17", target=target, record="spikes", output=tmp_path / "out")
    reference = integer.run(halting_graph(scores=300), embed(export, images[:17]), spikes=True)
    record = Record.load(folder / "events.npz")
    assert np.array_equal(record.counts, reference.counts) and np.array_equal(record.alive, reference.alive)
    assert np.array_equal(record.logits, reference.logits) and record.labels is not None
    meta = record.meta
    assert meta["samples"] == list(range(17)) and meta["images_per_s"] > 0
    assert (meta["dataset"], meta["split"], meta["target"], meta["halt"]) == ("noise", "test", target, "on")
    assert (meta["mapping"], meta["gates"]) == (("block", "processes") if target == "lava" else (None, None))
    with np.load(folder / "spikes.npz") as spikes:
        assert all(np.array_equal(spikes[n], reference.spikes[n]) for n in reference.ops)
    with np.load(folder / "images.npz") as shown:
        assert np.array_equal(shown["images"], images[:16])
    result = json.loads((folder / "result.json").read_text())
    assert result["images"] == 17 and result["prediction"] == reference.prediction.tolist()
    out = capsys.readouterr().out
    assert "accuracy" in out and "chip events" in out and "events.npz" in out.splitlines()[-1]


@pytest.mark.lava
@pytest.mark.parametrize("mapping, gates", [("block", "processes"), ("chip", "inside")])
def test_trace_shows_what_each_port_sent(export, images, mapping, gates, tmp_path, capsys):
    folder = deploy(export, data="test:9", mapping=mapping, trace=True, as_json=True, output=tmp_path)
    facts = json.loads(capsys.readouterr().out)
    with (folder / "messages.csv").open() as f:
        lines = list(csv.DictReader(f))
    assert facts["gates"] == gates and str(folder / "messages.csv") in facts["written"]
    assert {p["sender"] for p in facts["ports"]} == {line["from"] for line in lines}
    assert ("gate1" in {line["from"] for line in lines}) == (gates == "processes")
    assert sum(p["rows"] for p in facts["ports"]) == len(lines)
    deploy(export, data="test:9", mapping=mapping, trace=True, output=tmp_path)
    out = capsys.readouterr().out
    assert "messages between Lava processes" in out and ("gates inside" in out) == (gates == "inside")
    with pytest.raises(DeployError, match="--trace: target int sends no messages"):
        deploy(export, data="test:9", target="int", trace=True, output=tmp_path)


def test_halt_off_removes_the_gates_and_keeps_the_other_result(export, images, capsys):
    graph = halting_graph(scores=300)
    assert without_halting(graph).only("token_gate") == []
    on = deploy(export, target="int")
    capsys.readouterr()
    off = deploy(export, target="int", halt="off", as_json=True)
    assert on == off == export.parent / "deploy"
    assert json.loads(capsys.readouterr().out)["mean_tokens"] == 1.0
    assert sorted(p.name for p in on.iterdir()) == ["events.npz", "events_off.npz", "images.npz", "result.json", "result_off.json"]
    halted, static = Record.load(on / "events.npz"), Record.load(on / "events_off.npz")
    assert static.mean_timesteps == 4 and static.chip_events.sum() > halted.chip_events.sum()


@pytest.mark.lava
@pytest.mark.parametrize("mapping", ["block", "chip"])
def test_compare_proves_equality_in_chunks(export, images, mapping, capsys, monkeypatch):
    monkeypatch.setattr("spikegate.deploy.agreement.SAMPLES_AT_A_TIME", 6)
    assert compare_run(export, targets="int,lava", data="test", mapping=mapping)
    out = capsys.readouterr().out
    spikes = sum(np.count_nonzero(s) for s in integer.run(halting_graph(scores=300), embed(export, images), spikes=True).spikes.values())
    assert f"equal: {spikes:,} spikes compared" in out.splitlines()[-1] and "block1.fc1" in out


def test_compare_names_the_first_divergence(export, images, capsys, monkeypatch, tmp_path):
    """Another net on the side of torch: one weight of block2.fc2 negated."""
    def trace(folder, x, margin, **_):
        graph = halting_graph(scores=300)
        graph.ops["block2.fc2"].weight[3] *= -1
        record = integer.run(graph, embed(export, x), spikes=True)
        record.meta["counts"] = False
        return record

    monkeypatch.setitem(sys.modules, "spikegate.train.tracing", types.SimpleNamespace(trace=trace))
    monkeypatch.setattr("spikegate.deploy.agreement.SAMPLES_AT_A_TIME", 6)
    assert not compare_run(export, targets="torch,int", data="test")
    last = capsys.readouterr().out.splitlines()[-1]
    assert "first divergence: spike at op block2.fc2, timestep" in last and "channel 3" in last and "torch has" in last
    assert not compare_run(export, targets="torch,int", data="test", as_json=True, output=tmp_path / "result.json")
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert result["equal"] is False and result["divergence"]["op"] == "block2.fc2"


def test_chip_time_writes_the_same_result_and_how_many_chip_steps(export, images, tmp_path, capsys):
    plain, chip = (deploy(export, target="int", timing=t, output=tmp_path / t) for t in ("algorithmic", "loihi"))
    out = capsys.readouterr().out
    assert "wait: a timestep every 15 chip steps, 15 chip steps deep; delay lines of up to" in out
    a, b = (Record.load(folder / "events.npz") for folder in (plain, chip))
    assert np.array_equal(a.counts, b.counts) and np.array_equal(a.logits, b.logits) and np.array_equal(a.exit_step, b.exit_step)
    assert b.meta["chip_steps"] == (15 * b.exit_step).tolist() and (a.meta["timing"], b.meta["timing"]) == ("algorithmic", "loihi")
    result = json.loads((chip / "result.json").read_text())
    assert result["mean_chip_steps"] == 15 * b.mean_timesteps and result["delay_bits"] > 0 and result["schedule"] == "wait"
    halted = deploy(export, target="int", timing="loihi", schedule="pipelined", halt="off", output=tmp_path / "off", as_json=True)
    assert json.loads((halted / "result_off.json").read_text())["chip_steps"] == [3 + 13] * IMAGES


@pytest.mark.lava
@pytest.mark.timeout(180)
def test_compare_in_chip_time_has_algorithmic_timing_as_its_reference(export, images, capsys):
    args = {"targets": "int,lava", "data": "test:16", "timing": "loihi", "batch": 16, "patience": 60, "mapping": "block", "as_json": True}
    assert compare_run(export, **args)
    result = json.loads(capsys.readouterr().out)
    assert result["targets"] == ["int", "int@wait", "lava@wait"] and result["timing"]["depth"] == 15 and result["values"] > 0
    assert compare_run(export, targets="int", data="test", timing="loihi")
    out = capsys.readouterr().out
    assert "(int = int@wait)" in out and "event counters of int and int@wait" in out and "chip steps deep" in out


def test_compare_in_chip_time_finds_what_a_schedule_breaks(export, images, capsys, monkeypatch):
    """A reset that comes a chip step late: some op keeps its state of the sample before."""
    from spikegate.engine.integer import Chunk, Stage

    honest = Stage.step

    def late(stage, chunk):
        sent = Chunk(chunk.rows, chunk.sample, np.maximum(chunk.t, 2) if "block1.fc1" in stage.names else chunk.t, chunk.signals)
        honest(stage, sent if len(stage.names) == 1 else chunk)

    monkeypatch.setattr(Stage, "step", late)
    assert not compare_run(export, targets="int", data="test", timing="loihi", batch=4)
    assert "first divergence: spike at op block1.fc1, timestep 1" in capsys.readouterr().out


@pytest.mark.parametrize("options, said", [
    ({"schedule": "wait"}, "no chip steps"), ({"timing": "loihi", "protocol": "async"}, "leave it out"),
    ({"timing": "loihi", "schedule": "pipelined"}, "slack -12"),
])
def test_timing_options_that_do_not_go_together(export, images, options, said):
    for refused in (lambda: deploy(export, target="int", **options), lambda: compare_run(export, **options)):
        with pytest.raises(DeployError, match=said):
            refused()


@pytest.mark.parametrize("text, said", [("tset", "no split"), ("test:", "no number"), ("test:0", "no number"), ("test:-4", "no number"),
                                        ("test:4x", "no number"), ("", "no split")])
def test_bad_data_is_refused(text, said):
    with pytest.raises(DeployError, match=said):
        parse_data(text)


@pytest.mark.parametrize("text", ["int", "int,int", "int,chip", ""])
def test_bad_targets_are_refused(text):
    with pytest.raises(DeployError, match="--targets"):
        parse_targets(text)


def test_more_images_than_there_are(export, images):
    with pytest.raises(DeployError, match=f"asks for 999 images, test has {IMAGES}"):
        deploy(export, data="test:999", target="int")


def test_spikes_that_do_not_fit_are_refused_before_the_run(export, images, monkeypatch):
    monkeypatch.setattr("spikegate.deploy.inference.SPIKES_MAX", 100_000)
    with pytest.raises(DeployError, match=r"record fewer: --data test:\d+"):
        deploy(export, target="int", record="spikes")


@pytest.mark.parametrize("batch", [0, -1])
def test_batch_of_nothing_is_refused(export, images, batch):
    with pytest.raises(DeployError, match="--batch"):
        deploy(export, target="int", batch=batch)


@pytest.mark.parametrize("script", ["run.py", "compare.py"])
@pytest.mark.parametrize("args, code, said", [
    (["no/such/export"], 1, "no such export"), (["--dta", "test"], 2, "--data"), (["--data", "nope"], 1, "no split 'nope'"),
    (["--mapping", "core"], 2, "chip"), (["--schedule", "eager"], 2, "pipelined"), (["--help"], 0, "--timing"),
])
def test_command_line(script, args, code, said, tmp_path):
    command = [sys.executable, str(REPOSITORY / "deploy" / script), *args]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_export_is_named(export, tmp_path):
    for name in ("model.net", "embedding.onnx", "manifest.json"):
        (tmp_path / name).write_bytes((export / name).read_bytes())
    (tmp_path / "model.net").write_bytes(b"nonsense")
    with pytest.raises(DeployError, match="differs from what was exported"):
        deploy(tmp_path, target="int")
