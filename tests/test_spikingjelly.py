"""Import of SpikingJelly models: accuracy kept, integers exact on every target, everything else refused by name."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import binom
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional, layer, neuron

from spikegate.convert.spikingjelly.importing import Pixels, import_model
from spikegate.convert.spikingjelly.loading import load_model, read_state
from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.reporting import float_answers
from spikegate.convert.spikingjelly.twin import trace_graph
from spikegate.engine import integer
from spikegate.formats.host import Host
from spikegate.graph.ir import DeployError
from tests.foreign_import import ENV, ROOT, both, pictures
from tests.foreign_models import Spikformer, Vgg, lif, settle, train


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """Folders of a trained and imported VGG and Spikformer, what the import found, and the float models."""
    folder, found, models = tmp_path_factory.mktemp("imports"), {}, {}
    for name, make, epochs in (("vgg", Vgg, 8), ("spikformer", Spikformer, 10)):
        torch.manual_seed(0)
        model = models[name] = train(make(), digits, epochs)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        found[name] = import_model(model, folder / "runs" / name, {"name": "digits"}, quiet=True)
    return folder, found, models


@pytest.mark.timeout(900)  # the first one trains both
@pytest.mark.parametrize("name", ["vgg", "spikformer"])
def test_integers_are_about_as_often_right_as_the_float_model(trained, digits, name):
    """On all images that the training did not see: no more is lost than chance takes where half a point is lost in truth.

    Of a quantisation that costs half a point, one run in 10,000 loses more images than that.
    """
    done, model = trained[1][name], trained[2][name]
    assert done.float_accuracy > 0.9, "not trained well enough to tell"
    report = json.loads((trained[0] / "runs" / name / "import.json").read_text())
    x, y = (np.concatenate([getattr(part, axis) for part in (digits.test, digits.validation)]) for axis in "xy")
    theirs = float_answers(model, torch.from_numpy(x / digits.levels).float(), report["form"], report["timesteps"]) == y
    ours = integer.run(done.graph, Host(done.folder / "embedding.onnx").encode(x)).prediction == y
    lost, won = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
    assert len(y) > 500 and lost - won <= binom.ppf(1 - 1e-4, len(y), 0.005), f"{lost} lost, {won} won"
    assert min(row["agreement"] for row in done.layers) > 0.9
    assert [row["name"] for row in report["layers"]] == [row["name"] for row in done.layers]


@pytest.mark.lava
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["vgg", "spikformer"])
def test_every_command_takes_the_export(trained, name):
    folder = trained[0]

    def command(*words: str) -> str:
        done = subprocess.run([sys.executable, ROOT / words[0], *words[1:]], cwd=folder, capture_output=True, text=True, env=ENV)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "torch = int = lava" in command("deploy/compare.py", f"runs/{name}", "--data", "test:12", "--patience", "60")
    result = json.loads(command("deploy/run.py", f"runs/{name}", "--target", "int", "--json"))
    assert result["accuracy"] == pytest.approx(trained[1][name].int_accuracy)
    assert "uJ" in command("hw_sim/estimate.py", f"runs/{name}")


def test_the_command_imports_a_file_with_weights(trained, tmp_path):
    (tmp_path / "nets.py").write_text("from tests.foreign_models import Vgg\n\n\ndef make():\n    return Vgg()\n")
    weights = trained[0] / "vgg.safetensors"
    words = [ROOT / "convert/from_spikingjelly.py", "nets.py:make", "--weights", weights, "--output", "out", "--json"]
    done = subprocess.run([sys.executable, *map(str, words)], cwd=tmp_path, capture_output=True, text=True, env=ENV)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["float_accuracy"] == trained[1]["vgg"].float_accuracy
    assert (tmp_path / "out/export/manifest.json").is_file()


KINDS = {
    "soft reset": {"v_reset": None}, "soft reset, no leak": {"node": neuron.IFNode, "v_reset": None},
    "lif": {}, "input not decayed": {"decay_input": False}, "slow": {"tau": 3.7},
    "reset below 0": {"v_reset": -0.4, "v_threshold": 0.7},
    "if": {"node": neuron.IFNode}, "plif": {"node": neuron.ParametricLIFNode, "init_tau": 2.6}, "average": {"pool": layer.AvgPool2d},
    "plif, input not decayed": {"node": neuron.ParametricLIFNode, "init_tau": 1.7, "decay_input": False},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_neurons_of_every_kind_agree_with_their_float_form(digits, kind):
    images = pictures(digits)
    rows = both(settle(Vgg(width=8, **KINDS[kind]), 1, images), images)[2]
    assert all(row.float_rate > 0.01 for row in rows)
    assert rows[0].alone > 0.999 and min(row.alone for row in rows) > 0.98
    assert all(row.alone == 1 for row in rows if row.kind == "max_pool")


FORMS = [("ssa", "spiking_attention"), ("sdsa", "sdsa"), ("token", "qk_token_gate"), ("channel", "qk_channel_gate")]


@pytest.mark.parametrize("form, kind", FORMS)
def test_attention_of_every_form_comes_through(digits, form, kind):
    images = pictures(digits)
    model = settle(Spikformer(dim=16, heads=2, depth=2, form=form), 2, images)
    _, embedded, rows, graph = both(model, images)
    assert graph.only(kind) and len(graph.only(kind)) == 2
    assert min(row.alone for row in rows) > 0.97
    gates = [row for row in rows if row.kind == kind]
    assert all(row.float_rate > 0.01 and row.alone == 1 for row in gates)  # counts and ORs are exact
    ours, theirs = trace_graph(graph, embedded), integer.run(graph, embedded, spikes=True)
    assert all(np.array_equal(ours.spikes[n], theirs.spikes[n]) for n in graph.ops)


def test_residuals_are_lists_of_sources(digits):
    images = pictures(digits, 4)
    graph = both(settle(Spikformer(dim=16, heads=2, depth=2), 3, images), images)[3]
    last = [e.source for e in graph.sources("readout")["x"]]
    assert last == ["rpe_lif", "pool", *(f"blocks.{b}.{part}" for b in (0, 1) for part in ("attn.proj_lif", "mlp.lif2"))]


class Bad(nn.Module):
    """One of everything that cannot be imported, behind a sound start."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fire = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), lif()
        self.below = lif(v_threshold=-0.5)
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.after = nn.Conv2d(4, 4, 3, padding=1), lif()
        self.layer_norm, self.gelu = nn.LayerNorm(64), nn.GELU()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.fire(self.norm(self.conv(x)).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        T, B, C, H, W = x.shape
        y = self.conv2(x.flatten(0, 1)).reshape(T, B, C, H, W)
        self.below(y)
        z = self.after(self.pool(y.flatten(0, 1)).reshape(T, B, C, H // 2, W // 2))
        return self.head(self.gelu(self.layer_norm(z.flatten(2)))).softmax(-1).mean(0)


def test_everything_unsupported_is_listed_at_once_by_path():
    with pytest.raises(DeployError) as caught:
        read(Bad(), torch.rand(2, 1, 8, 8), None)
    said = str(caught.value)
    causes = {"below": "not above v_reset", "pool": "max-pool of currents", "layer_norm": "LayerNorm", "gelu": "GELU", "forward": "softmax"}
    for path, what in causes.items():
        assert any(line.strip().startswith(f"- {path}:") and what in line for line in said.splitlines()), said
    assert "5 things" in said


class Leaky(nn.Module):
    """Neurons fed with time and batch merged, as in published code: state leaks from one sample to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire, self.conv2, self.leak, self.head = nn.Conv2d(1, 4, 3), lif(), nn.Conv2d(4, 4, 1), lif(), nn.Linear(144, 10)

    def forward(self, x):
        x = self.fire(self.conv(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        T, B = x.shape[:2]
        x = self.leak(self.conv2(x.flatten(0, 1))).reshape(T, B, -1)
        return self.head(x).mean(0)


def test_neurons_whose_state_leaks_between_samples_are_refused():
    with pytest.raises(DeployError, match=r"leak: (axis 0|runs over 8)"):
        read(Leaky(), torch.rand(2, 1, 8, 8), None)


class Reordered(nn.Module):
    """A layout bug: the token axis is reshaped into channels without a transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire, self.linear, self.after, self.head = nn.Conv2d(1, 36, 3), lif(), nn.Linear(36, 8), lif(), nn.Linear(8, 10)

    def forward(self, x):
        x = self.fire(self.conv(x).unsqueeze(0).repeat(2, 1, 1, 1, 1)).flatten(3)
        return self.head(self.after(self.linear(x)).mean(2)).mean(0)


def test_elements_out_of_order_are_never_taken_for_channels():
    with pytest.raises(DeployError, match="linear"):
        read(Reordered(), torch.rand(2, 1, 8, 8), None)


def test_single_step_models_and_sequences_import(digits):
    images = pictures(digits, 8)
    model = settle(Vgg(width=8), 4, images)
    whole = both(model, images)[0]

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.classifier = model.features, model.classifier

        def forward(self, x):
            return self.classifier(self.features(x))

    sequence = both(Step(), images, timesteps=4)[0]
    functional.set_step_mode(model, "s")
    stepped, _, rows, graph = both(Step(), images, timesteps=4)
    assert graph.timesteps == 4 and min(row.alone for row in rows) > 0.98
    for name, spikes in whole.items():
        assert np.array_equal(spikes, sequence[name]) and np.array_equal(spikes, stepped[name])


def test_normalised_pixels_reach_the_host_exactly(digits, tmp_path):
    model = settle(Vgg(width=8), 5, pictures(digits) - 0.3)
    done = import_model(model, tmp_path, {"name": "digits"}, pixels=Pixels((0.3,), (0.5,)), quiet=True)
    assert done.layers[0]["agreement"] > 0.999  # a wrong border would show here: the padding is 0 after the offset


def test_fine_tuning_never_ends_worse(digits, tmp_path):
    model = settle(Vgg(width=8), 6, pictures(digits))
    done = import_model(model, tmp_path, {"name": "digits"}, epochs=2, rate=2.0, quiet=True)
    assert max(done.tuned[1:]) > done.tuned[0] + 0.2  # random weights learn
    assert done.int_accuracy > 0.2


def in_its_own_process(path: Path) -> None:
    """`read_state` where no earlier test has left memory to spare."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(read_state, path).result()


def test_weights_that_unpack_to_more_than_the_machine_should_give_are_refused(tmp_path):
    """torch makes room for what a packed record claims : 0.6 MB that unpack to 600."""
    torch.save({"weight": torch.zeros(4)}, tmp_path / "plain.pt")
    assert read_state(tmp_path / "plain.pt")["weight"].shape == (4,)
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            with bomb.open(name, "w") as f:
                for part in [bytes(1 << 20)] * 600 if name.endswith("data/0") else [plain.read(name)]:
                    f.write(part)
    with pytest.raises(DeployError, match=r"bomb\.pt: not a readable state dict .*allocate memory"):
        in_its_own_process(tmp_path / "bomb.pt")


def test_wrong_weights_and_factories_end_in_one_sentence(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("from torch import nn\ndef make():\n    return nn.Linear(3, 2)\ndef bad():\n    raise RuntimeError('no')\n")
    torch.save({"state_dict": {"module.weight": torch.zeros(2, 3)}}, tmp_path / "w.pt")
    with pytest.raises(DeployError, match="lacks bias"):
        load_model(f"{file}:make", tmp_path / "w.pt")
    torch.save({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, tmp_path / "w.pt")
    assert isinstance(load_model(f"{file}:make", tmp_path / "w.pt"), nn.Linear)
    torch.save(nn.Linear(3, 2), tmp_path / "whole.pt")
    with pytest.raises(DeployError, match="not a readable state dict"):
        load_model(f"{file}:make", tmp_path / "whole.pt")
    for wrong, what in ((f"{file}:none", "none"), (f"{file}:bad", "RuntimeError: no"), ("nothing.py", "names no function")):
        with pytest.raises(DeployError, match=what):
            load_model(wrong)
