"""hw_sim/report.py on nets of the zoo: figures and files agree with the records, and problems are named."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

import jsonschema
import matplotlib.image
import numpy as np
import pytest

from spikegate.command.runs import ZOO
from spikegate.data.parts import load_split
from spikegate.deploy.agreement import compare as compare_run
from spikegate.engine.record import Record
from spikegate.graph.ir import COUNTERS, DeployError
from spikegate.hw_sim.energy.measured import find_measured
from spikegate.hw_sim.page import data_files, halting_maps, raster, svg
from spikegate.hw_sim.page.examples import choose, kept_spikes, read_row
from spikegate.hw_sim.page.run_view import collect
from spikegate.hw_sim.side_by_side import run
from tests.report_runs import HALTING, IMAGES, STATIC, TABLES, reported

FILES = {"report.html", "report.json", "energy.csv", "cores.csv"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return reported(tmp_path_factory.mktemp("report"))


@pytest.fixture
def folder(shared, tmp_path, monkeypatch):
    """A copy of it to change; the working directory."""
    shutil.copytree(shared / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def views(**more):
    from spikegate.hw_sim.chip.profile import load_chip
    from spikegate.hw_sim.energy.cost_tables import load_tables

    return collect([HALTING, STATIC], None, load_tables(TABLES), chip=load_chip("loihi2"), images=4, **more)


def test_files_sizes_and_a_page_that_fetches_nothing(shared):
    assert {p.name for p in (shared / "both").iterdir()} == FILES
    page = (shared / "both/report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 5_000_000
    assert "http" not in page and "@import" not in page and not re.search(r"(src|href)=\"(?!data:image/png;base64,|#)", page)
    for part in ("energy", "saving", "halting", "spikes", "chip", "latency", "left-out", "repeat", "exact"):
        assert f'<section id="{part}">' in page and f'href="#{part}"' in page


def test_the_page_says_where_its_delay_lines_lie(shared):
    page = (shared / "both/report.html").read_text(encoding="utf-8")
    assert page.count("in axon delays") >= 2 and "Delay lines (wait)" in page and "Delay lines (pipelined)" in page


def test_report_json_is_what_its_schema_says(shared):
    schema = json.loads((Path(data_files.__file__).parent / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert schema["properties"]["schema"]["const"] == data_files.SCHEMA
    for name in ("both", "full"):
        figures = json.loads((shared / name / "report.json").read_text())
        validator.validate(figures)
        broken = json.loads(json.dumps(figures))
        first = next(iter(broken["runs"].values()))
        del first["estimate"]["nets"][first["estimate"]["main"]]["energy"]["loihi1-davies"]["chip_band_pj"]
        assert not validator.is_valid(broken) and not validator.is_valid(figures | {"schema": 1})


def test_which_chip_it_is_stands_on_top(shared):
    top = (shared / "both/report.html").read_text(encoding="utf-8").partition("<nav")[0]
    assert "Which chip is this?" in top and "Loihi 2" in top and "None that ran anything" in top


def test_energy_csv_adds_up_to_the_json(shared):
    figures = json.loads((shared / "both/report.json").read_text())["runs"]
    rows = list(csv.DictReader(io.StringIO((shared / "both/energy.csv").read_text())))
    for label in ("stas-digits", "spikformer-digits"):
        estimate = figures[label]["estimate"]
        net = estimate["nets"][estimate["main"]]
        for table in TABLES:
            energy, own = net["energy"][table], [r for r in rows if r["net"] == label and r[f"{table}_pj"]]
            for component, pj in energy["components_pj"].items():
                assert sum(float(r[f"{table}_pj"]) for r in own if r["component"] == component) == pytest.approx(pj)
            for t, pj in enumerate(energy["timesteps_pj"], 1):
                assert sum(float(r[f"{table}_pj"]) for r in own if r["timestep"] == str(t)) == pytest.approx(pj)
    record = Record.load(shared / "runs/zoo-stas-digits/deploy/events.npz")
    synops = sum(float(r["events_per_inference"]) for r in rows if r["net"] == "stas-digits" and r["event"] == "synop")
    assert synops == pytest.approx(record.counts[..., COUNTERS.index("synop")].sum() / IMAGES)
    assert {r["net"] for r in rows} == {"stas-digits", "stas-digits, halting off", "spikformer-digits"}
    assert all(r["paper45_pj"] == "" for r in rows if r["event"].startswith("neuron_update"))  # no price is no zero


def test_cores_csv_has_every_core_of_the_json(shared):
    figures = json.loads((shared / "both/report.json").read_text())["runs"]
    rows = list(csv.DictReader(io.StringIO((shared / "both/cores.csv").read_text())))
    assert len(rows) == sum(f["hardware"]["cores"] for f in figures.values())
    used = sum(int(r["neurons_used"]) for r in rows if r["net"] == "stas-digits")
    assert used == sum(u["neurons_total"] for u in figures["stas-digits"]["hardware"]["utilisation"])


def test_the_waterfall_ends_where_the_net_is_and_idle_visits_are_counted(shared):
    saving = json.loads((shared / "both/report.json").read_text())["runs"]["stas-digits"]["estimate"]["saving"]
    for table in TABLES:
        energy = saving["energy"][table]
        assert energy["before_pj"] - sum(energy["rows_pj"].values()) == pytest.approx(energy["after_pj"])
    on = Record.load(shared / "runs/zoo-stas-digits/deploy/events.npz")
    neurons = sum(r["neurons"] for r in json.loads((ZOO / "stas-digits/manifest.json").read_text())["ops"])
    idle = (on.exit_step * neurons).sum() - on.counts[..., COUNTERS.index("neuron_update")].sum()
    whole = saving["energy"]["loihi2-pilotnet"]
    assert whole["after_pj"] - whole["after_if_skipped_pj"] == pytest.approx(66.5 * idle / IMAGES) and idle > 0
    assert whole["saved_pj"]["value"] == pytest.approx(whole["before_pj"] - whole["after_pj"])
    assert whole["saved_pj"]["low"] < whole["saved_pj"]["value"] < whole["saved_pj"]["high"]
    assert whole["saved_if_skipped_pj"]["value"] == pytest.approx(whole["before_if_skipped_pj"] - whole["after_if_skipped_pj"])
    assert "if idle neurons are not visited" in (shared / "both/report.html").read_text()
    assert saving["energy"]["paper45"]["after_pj"] == saving["energy"]["paper45"]["after_if_skipped_pj"]  # no price of an update


def test_the_record_is_checked_by_running_the_reference_again(folder, capsys):
    run([HALTING], None, ["paper45"], "loihi2", Path("good"), images=4)
    exact = json.loads(Path("good/report.json").read_text())["runs"]["stas-digits"]["exactness"]
    assert exact == {"target": "int", "compared": None, "run_again": {"images": 4, "equal": True}}
    path = folder / "runs/zoo-stas-digits/deploy/events.npz"
    record = Record.load(path)
    record.counts[choose(find_measured(HALTING), 4)[1], 0, 4, 1] += 1
    record.save(path)
    run([HALTING], None, ["paper45"], "loihi2", Path("bad"), images=4)
    page = Path("bad/report.html").read_text()
    assert "does not agree with this export on 4 images (event counters)" in page and "does not agree" in capsys.readouterr().out


def test_what_compare_found_is_shown_for_this_net_only(folder):
    assert compare_run(HALTING, targets="int,lava", data="test:2", batch=2) is True
    (view, _) = views(again=False)
    assert view.compared["equal"] and view.compared["images"] == 2
    path = folder / "runs/zoo-stas-digits/deploy/compare.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"net": "0" * 64}))
    assert views(again=False)[0].compared is None


def test_kept_spikes_are_those_of_the_record_or_none(folder):
    net = find_measured(HALTING)
    path = folder / "runs/zoo-stas-digits/deploy/spikes.npz"
    with np.load(path) as f:
        for row in (0, 5, IMAGES - 1):
            assert all(np.array_equal(value, f[name][row]) for name, value in read_row(path, row).items())
        arrays = {n: f[n] for n in f.files}
    sample = int(choose(net, 4)[-1])
    assert set(kept_spikes(net, sample)) == set(net.record.ops)
    arrays["block1.q"][sample, 0, 0, 0] ^= 1
    np.savez_compressed(path, **arrays)
    assert kept_spikes(net, sample) == {}
    examples = views()[0].examples
    assert "run again" in examples.source and not examples.differs
    path.write_bytes(b"no archive")
    assert kept_spikes(net) == {}


def test_images_come_from_the_data_where_the_deployment_kept_none(folder):
    before = views()[0].examples
    (folder / "runs/zoo-stas-digits/deploy/images.npz").unlink()
    after = views()[0].examples
    assert np.array_equal(before.images, after.images) and after.compared == 4 and not after.differs


def test_the_raster_holds_every_spike(folder):
    view = views()[0]
    figure = raster.raster(view)
    paths = re.findall(r'class="spikes"[^>]* d="([^"]*)"><title>([^:]+): (\d+) spikes', figure.svg)
    assert len(paths) == len(figure.rows) and "gate1" not in {name for _, name, _ in paths}
    for d, name, count in paths:
        spikes = view.examples.spikes[name].reshape(4, -1) != 0
        assert int(count) == spikes.sum()
        per = -(-spikes.shape[1] // raster.BINS)
        wanted = sum(np.logical_or.reduceat(row, np.arange(0, row.size, per)).sum() for row in spikes)
        width = (svg.WIDTH - raster.LABEL) * per / spikes.shape[1]
        assert sum(float(h) for h in re.findall(r"h([\d.]+)", d)) / width == pytest.approx(wanted, abs=0.03 * wanted + 0.05)


def test_shown_images_span_the_work_and_are_the_same_for_all_runs(folder):
    halting, static = views()
    work = halting.main.record.processed.sum((1, 2, 3))
    shown = work[halting.examples.index]
    assert shown[0] == work.min() and shown[-1] == work.max() and (np.diff(shown) > 0).all() and len(shown) == 4
    assert np.array_equal(halting.examples.index, static.examples.index) and len(set(static.examples.index)) == 4
    images, _ = load_split({"name": "digits"}, "test")
    assert np.array_equal(halting.examples.images, images[halting.examples.index])
    kept = views(again=False)[0].examples
    assert kept.index.max() < 16 and np.array_equal(kept.images, images[kept.index])


def test_images_are_the_kept_ones_where_the_data_is_gone_or_has_changed(folder, monkeypatch):
    def missing(*_):
        raise DeployError("data", "is missing", "")

    def changed(data, split):
        images, labels = load_split(data, split)
        return images[::-1], labels

    wanted = views(again=False)[0].examples
    for instead in (missing, changed):
        monkeypatch.setattr("spikegate.data.parts.load_split", instead)
        examples = views()[0].examples
        assert np.array_equal(examples.index, wanted.index) and np.array_equal(examples.images, wanted.images) and not examples.differs
    (folder / "runs/zoo-stas-digits/deploy/images.npz").unlink()
    monkeypatch.setattr("spikegate.data.parts.load_split", missing)
    view = views()[0]
    assert len(view.examples.images) == 0 and "data: is missing" in " ".join(view.notes)


def test_halting_maps_cover_exactly_the_tokens_that_are_gone():
    rng = np.random.default_rng(0)
    for shape in ((4, 4), (2, 5), (7, 3)):
        alive = rng.random(shape) < 0.5
        drawn = np.ones(shape, bool)
        one = 70 / max(shape)
        for x, y, w in re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v", halting_maps.dead_path(alive, 0, 0, 70)):
            row, first, number = round(float(y) / one), round(float(x) / one), round(float(w) / one)
            drawn[row, first : first + number] = False
        assert np.array_equal(drawn, alive)


def test_pictures_are_the_images():
    image = np.random.default_rng(1).integers(0, 256, (3, 8, 6)).astype(np.uint8)
    for channels in (1, 3):
        address = svg.picture(image[:channels], side=16)
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(address.split(",")[1])))[..., :3]
        wanted = np.broadcast_to(image[:channels], (3, 8, 6)).transpose(1, 2, 0).repeat(2, 0).repeat(2, 1)
        assert np.array_equal((pixels * 255).round().astype(np.uint8), wanted)


def test_the_same_events_give_the_same_files(folder, shared):
    run([HALTING, STATIC], None, TABLES, "loihi2", Path("again"))
    for name in FILES:
        assert (folder / "again" / name).read_bytes() == (shared / "both" / name).read_bytes()


def test_one_run_is_written_beside_it_and_several_in_a_folder_of_their_own(folder):
    assert run([STATIC], None, ["paper45"], "loihi2", None, images=0) == Path("runs/zoo-spikformer-digits/report")
    assert run([HALTING, STATIC], None, ["paper45"], "loihi2", None, images=0) == Path("runs/report")
    page = Path("runs/report/report.html").read_text()
    assert 'id="spikes"' in page and 'class="card"' not in page  # spikes were recorded; no images, no maps


@pytest.mark.parametrize("change, said", [
    (lambda: run([HALTING, HALTING], None, TABLES, "loihi2", None), "named twice"),
    (lambda: run([HALTING], None, TABLES, "loihi2", None, images=40), "--images"),
    (lambda: run([HALTING], None, ["synops"], "loihi2", None), "only counts"),
    (lambda: run([HALTING], None, TABLES, "loihi9", None), "loihi9"),
    (lambda: run([STATIC], HALTING, TABLES, "loihi2", None), "itself static"),
    (lambda: run([Path("zoo:stas-fashion")], None, TABLES, "loihi2", None), "no events recorded"),
    (lambda: run([HALTING], None, TABLES, "loihi2", None, schedule="pipelined"), "cannot be pipelined"),
])
def test_problems_are_named(folder, change, said):
    with pytest.raises(DeployError, match=said):
        change()
    assert not list(folder.glob("runs/*/report"))


def test_a_page_that_is_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr("spikegate.hw_sim.side_by_side.LARGEST", 10_000)
    with pytest.raises(DeployError, match="would have"):
        run([STATIC], None, ["paper45"], "loihi2", None)
