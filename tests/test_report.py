"""hw_sim/estimate.py as a user meets it: figures, files, the HTML page, and what it says when something is missing or broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from spikegate.command import cli
from spikegate.graph.ir import DeployError
from spikegate.hw_sim.energy_report import run
from spikegate.hw_sim.estimate import main
from tests.run_folder import adaptive_graph, record_of, static_graph, write_export, write_runs

SCRIPT = Path(__file__).parents[1] / "hw_sim" / "estimate.py"
TABLES = ["paper45", "loihi1-davies"]
FIGURES = {"tokens-adaptive.svg"} | {f"{kind}-{t}.svg" for kind in ("energy", "ops-adaptive", "saving-adaptive") for t in TABLES}
FILES = {"energy.json", "report.html"} | FIGURES


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("estimate")
    write_runs(root / "runs")
    return root


@pytest.fixture
def folder(shared, tmp_path):
    """A folder to work in, with runs/adaptive and runs/static."""
    shutil.copytree(shared / "runs", tmp_path / "runs")
    return tmp_path


def command(folder: Path, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *args], cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})


def estimated(folder: Path) -> dict:
    """Run in this process; the figures written."""
    run(folder / "runs" / "adaptive", None, TABLES, None, as_json=True)
    return json.loads((folder / "runs" / "adaptive" / "report" / "energy.json").read_text())


def test_the_newest_run_by_default_and_every_file_written(folder):
    os.utime(folder / "runs/adaptive/export/manifest.json", (2e9, 2e9))
    done = command(folder)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (folder / "runs/adaptive/report").iterdir()} == FILES
    for part in ("paper45 leaves out: neuron update", "loihi1-davies leaves out", "left out", "token halting", "gates' own cost", "static"):
        assert part in done.stdout


def test_json_alone_on_stdout_equals_the_file(folder):
    done = command(folder, "runs/adaptive", "--json", "--output", "elsewhere", "--costs", "loihi1-davies")
    figures = json.loads(done.stdout)
    assert figures == json.loads((folder / "elsewhere/energy.json").read_text())
    assert list(figures["tables"]) == ["loihi1-davies"] and set(figures["nets"]) == {"static", "halt_off", "adaptive"}
    assert not (folder / "runs/adaptive/report").exists()


def test_figures_agree_with_the_record(folder, capsys):
    figures = estimated(folder)
    assert json.loads(capsys.readouterr().out) == figures
    record = record_of(adaptive_graph())
    net = figures["nets"]["adaptive"]
    n = len(record.exit_step)
    acs = record.total("synop").sum() + record.total("attention_ac").sum()
    assert net["synaptic_operations"]["Effective_ACs"] == acs / n and net["synaptic_operations"]["Effective_MACs"] == 5000
    dense = sum(op.dense_ops for op in adaptive_graph().ops.values())
    assert net["synaptic_operations"]["Dense"] == 4 * dense + 5000
    assert 0 < net["activation_sparsity"] < 1 and net["mean_timesteps"] == record.mean_timesteps and net["accuracy"] == record.accuracy
    energy = net["energy"]["paper45"]
    assert energy["chip_pj"] == pytest.approx(0.9 * record.chip_events.mean()) and energy["host_pj"] == pytest.approx(4.6 * 5000)
    assert sum(sum(op.values()) for op in energy["ops_pj"].values()) == pytest.approx(energy["chip_pj"])
    rows = figures["saving"]["rows_events"]
    for quantity in rows["gates"]:
        difference = figures["saving"]["before_events"][quantity] - figures["saving"]["after_events"][quantity]
        assert sum(r[quantity] for r in rows.values()) == difference


class Outside(HTMLParser):
    """Collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.images = self.scripts = 0

    def handle_starttag(self, tag, attrs):
        self.images += tag in ("img", "image")
        self.scripts += tag == "script"
        assert tag not in ("link", "iframe", "object")
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data") and not value.startswith(("data:image/png;base64,", "#")):
                self.fetched.append(value)


def test_the_page_is_self_contained_and_holds_the_figures(folder):
    figures = estimated(folder)
    page = (folder / "runs/adaptive/report/report.html").read_text(encoding="utf-8")
    outside = Outside()
    outside.feed(page)
    outside.close()
    assert outside.fetched == [] and "http" not in page and "@import" not in page and not re.search(r"url\((?!#)", page)
    assert outside.images == 16 and outside.scripts == 1  # eight images, each above its halting maps; the slider's script
    assert page.count("<svg") == page.count("</svg>") == len(FIGURES) + 16
    from spikegate.hw_sim.energy.units import energy_text

    for name in TABLES:
        assert energy_text(figures["nets"]["adaptive"]["energy"][name]["chip_pj"]) in page
        for value in figures["saving"]["energy"][name]["rows_pj"].values():
            assert energy_text(abs(value)) in page
        for reason in figures["tables"][name]["leaves_out"].values():
            assert reason.replace("'", "&#39;") in page
    assert "Davies et al., 2018, Table 2" in page and "our assumption" in page


def test_drawings_are_well_formed_files_of_their_own(folder):
    estimated(folder)
    for path in (folder / "runs/adaptive/report").glob("*.svg"):
        root = ET.fromstring(path.read_text(encoding="utf-8"))
        assert root.tag.endswith("svg") and root.get("viewBox")


def test_the_same_events_give_the_same_files(folder):
    estimated(folder)
    report = folder / "runs/adaptive/report"
    first = {p.name: p.read_bytes() for p in report.iterdir()}
    estimated(folder)
    assert {p.name: p.read_bytes() for p in report.iterdir()} == first


def test_names_from_files_cannot_break_the_page(folder):
    path = folder / "runs/adaptive/export/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"name": "<script>alert(1)</script>", "labels": ["<b>a", "[red]b", "c"]}))
    done = command(folder, "runs/adaptive")
    page = (folder / "runs/adaptive/report/report.html").read_text()
    assert done.returncode == 0 and page.count("<script") == 1 and "<b>a" not in page and "&lt;script&gt;alert" in page and "[red]b" in page


def test_without_twin_and_without_the_record_with_halting_off(folder):
    shutil.rmtree(folder / "runs/static")
    (folder / "runs/adaptive/deploy/events_off.npz").unlink()
    (folder / "runs/adaptive/deploy/images.npz").unlink()
    done = command(folder, "runs/adaptive")
    assert done.returncode == 0 and "No static twin was found" in done.stdout and "--halt off" in done.stdout
    figures = json.loads((folder / "runs/adaptive/report/energy.json").read_text())
    assert figures["saving"] is None and set(figures["nets"]) == {"adaptive"}


def test_a_static_run_alone(folder):
    done = command(folder, "runs/static")
    assert done.returncode == 0 and "nothing halts" in done.stdout
    done = command(folder, "runs/static", "--static", "runs/adaptive")
    assert done.returncode == 1 and "is itself static" in done.stderr


def test_the_newest_twin_of_the_same_dataset_and_images_is_taken(folder):
    for name, dataset, samples, time in (("other", "digits", 11, 3e9), ("validation", "shapes", 11, 4e9), ("newer", "shapes", 11, 2e9)):
        write_export(folder / "runs" / name, static_graph(), halting=False, dataset=dataset)
        record_of(static_graph(), samples=samples, dataset=dataset).save(folder / "runs" / name / "deploy" / "events.npz")
        os.utime(folder / "runs" / name / "export" / "manifest.json", (time, time))
    record_of(static_graph(), split="validation").save(folder / "runs" / "validation" / "deploy" / "events.npz")
    shutil.copytree(folder / "runs/adaptive", folder / "runs/halting")  # newest of all, same images, but no static net
    os.utime(folder / "runs/halting/export/manifest.json", (5e9, 5e9))
    assert estimated(folder)["nets"]["static"]["name"] == "newer"
    with pytest.raises(DeployError, match="other images") as e:
        run(folder / "runs/adaptive", folder / "runs/validation", TABLES, None)
    assert e.value.hint.endswith("--data test:11")
    with pytest.raises(DeployError, match="halting gates"):
        run(folder / "runs/adaptive", folder / "runs/halting", TABLES, None)


def broken(folder: Path, what: str) -> list[str]:
    """Break something; returns the command's arguments."""
    deploy = folder / "runs/adaptive/deploy"
    if what == "missing":
        (deploy / "events.npz").unlink()
    elif what == "corrupt":
        data = (deploy / "events.npz").read_bytes()
        (deploy / "events.npz").write_bytes(data[: len(data) // 2])
    elif what == "bits":
        data = bytearray((deploy / "events.npz").read_bytes())
        data[200:260] = bytes(60)
        (deploy / "events.npz").write_bytes(data)
    elif what == "empty":
        (deploy / "events_off.npz").write_bytes(b"")
    elif what == "array":
        with open(deploy / "events.npz", "wb") as f:
            np.save(f, np.zeros(3))
    elif what == "negative":
        record = record_of(adaptive_graph())
        record.counts[0, 0, 0, 1] = -1
        record.save(deploy / "events.npz")
    elif what == "other net":
        record_of(static_graph()).save(deploy / "events.npz")
    elif what == "other images":
        record_of(adaptive_graph(), "off", samples=9).save(deploy / "events_off.npz")
    elif what == "images":
        np.savez(deploy / "images.npz", images=np.zeros((2, 1, 5, 5), np.uint8))
    elif what == "manifest":
        (folder / "runs/adaptive/export/manifest.json").write_text("{")
    elif what == "yaml":
        (folder / "mine.yml").write_text("name: mine\nprices: {synop: 3}\n")
        return ["runs/adaptive", "--costs", "paper45", "mine.yml"]
    elif what == "table":
        return ["runs/adaptive", "--costs", "loihi3"]
    elif what == "output":
        (folder / "file").write_text("")
        return ["runs/adaptive", "--output", "file"]
    elif what == "run":
        return ["runs/nothing"]
    return ["runs/adaptive"]


@pytest.mark.parametrize(
    ("what", "where", "hint"),
    [
        ("missing", "events.npz: no events recorded", "python deploy/run.py runs/adaptive"),
        ("corrupt", "events.npz: not an event record", "deploy/run.py"),
        ("bits", "events.npz: ops: cannot be read", "deploy/run.py"),
        ("empty", "events_off.npz: not an event record", "--halt off"),
        ("array", "events.npz: not an event record", "deploy/run.py"),
        ("negative", "events.npz: the event record contradicts itself", "deploy/run.py"),
        ("other net", "events.npz: the events are not of this export (op sps.conv", "deploy/run.py"),
        ("other images", "events_off.npz: holds other samples", "same images"),
        ("images", "images.npz: images of shape", "deploy/run.py"),
        ("manifest", "manifest.json: not a readable manifest", "export"),
        ("yaml", "mine.yml: schema: Field required", "hw_sim/energy/costs/int8-45.yml"),
        ("table", "loihi3: no such cost table", "known: int8-45, lemaire, loihi1-davies, loihi2-pilotnet, paper45"),
        ("output", "file", "--output"),
        ("run", "runs/nothing: no such export", "convert/export.py"),
    ],
)
def test_problems_name_place_and_remedy_without_a_traceback(folder, what, where, hint, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["estimate.py", *broken(folder, what)])
    with pytest.raises(SystemExit) as e:
        cli.run(main)
    out, err = capsys.readouterr()
    assert e.value.code == 1 and out == ""
    assert where in err and hint in err.split("hint: ")[1]


def test_a_problem_is_one_paragraph_on_stderr(folder):
    done = command(folder, *broken(folder, "missing"))
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: runs/adaptive/deploy/events.npz: no events recorded")
    assert "hint: python deploy/run.py runs/adaptive" in done.stderr


def test_wrong_usage_exits_with_2(folder):
    done = command(folder, "--cost", "paper45")
    assert done.returncode == 2 and "--costs" in done.stdout + done.stderr


def test_an_unpriced_counter_is_named_wherever_the_total_stands(folder):
    text = (SCRIPT.parent / "energy" / "costs" / "loihi1-davies.yml").read_text().replace("name: loihi1-davies", "name: bare")
    (folder / "bare.yml").write_text(re.sub(r"  message:\n(    .*\n)+", "", text))
    done = command(folder, "runs/adaptive", "--costs", "bare.yml")
    assert done.returncode == 0, done.stderr
    assert "partial: no price for message" in " ".join(done.stdout.split())
    assert "no price for message" in (folder / "runs/adaptive/report/report.html").read_text()
    energy = json.loads((folder / "runs/adaptive/report/energy.json").read_text())["nets"]["adaptive"]["energy"]["bare"]
    assert energy["partial"] and energy["unpriced_events"]["message"] > 0
