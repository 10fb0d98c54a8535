"""Import of SpikingJelly models: accuracy kept, integers exact on every target, everything else refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.clock_driven.neuron import MultiStepLIFNode

from convert import engine
from convert.data import load_parts
from convert.imported.importing import Pixels, import_model
from convert.imported.loading import load_model
from convert.imported.published import build
from convert.imported.quantising import quantise
from convert.imported.reporting import compare_layers, float_spikes
from convert.imported.tracing import read
from convert.imported.twin import trace_graph
from convert.ir import DeployError
from hw_sim.groups import groups_of
from tests.foreign_models import Spikformer, Vgg, lif, settle, train

ROOT = Path(__file__).parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def digits():
    torch.set_num_threads(1)
    return load_parts("digits")


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """Folders of a trained and imported VGG and Spikformer, and what the import found."""
    folder, found = tmp_path_factory.mktemp("imports"), {}
    for name, make, epochs in (("vgg", Vgg, 8), ("spikformer", Spikformer, 10)):
        torch.manual_seed(0)
        model = train(make(), digits, epochs)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        found[name] = import_model(model, folder / "runs" / name, {"name": "digits"}, quiet=True)
    return folder, found


@pytest.mark.timeout(900)  # the first one trains both
@pytest.mark.parametrize("name", ["vgg", "spikformer"])
def test_a_trained_net_loses_at_most_half_a_point(trained, name):
    done = trained[1][name]
    assert done.float_accuracy > 0.93
    assert done.int_accuracy >= done.float_accuracy - 0.005
    assert min(row["agreement"] for row in done.layers) > 0.8
    report = json.loads((trained[0] / "runs" / name / "import.json").read_text())
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


def both(model: nn.Module, images: torch.Tensor, levels: int = 16, timesteps: int | None = None):
    """Float and integer spikes by layer, layer reports and the graph, for images in 0..1."""
    plan, traced, form = read(model, images[:2], timesteps)
    found = quantise(plan, levels, np.full(images.shape[1], 1 / levels), np.zeros(images.shape[1]))
    spikes = float_spikes(traced, images, form, plan.timesteps)
    embedded = found.host.encode((images.numpy() * levels).round().astype(np.uint8))
    return spikes, embedded, compare_layers(plan, found.graph, spikes, embedded), found.graph


def same_in_torch(graph, embedded: np.ndarray) -> None:
    """Torch and the engine agree in every spike and answer."""
    ours, theirs = trace_graph(graph, embedded), engine.run(graph, embedded, spikes=True)
    assert all(np.array_equal(ours.spikes[n], theirs.spikes[n]) for n in graph.ops)
    assert np.array_equal(ours.logits, theirs.logits)


def pictures(digits, count: int = 24) -> torch.Tensor:
    return torch.from_numpy(digits.train.x[:count] / digits.levels).float()


KINDS = {
    "lif": {}, "input not decayed": {"decay_input": False}, "slow": {"tau": 3.7}, "reset below 0": {"v_reset": -0.4, "v_threshold": 0.7},
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


class Tiny(nn.Module):
    """Exact spikes from the image (threshold 0.5 without leak), then neurons on whole-numbered weights."""

    def __init__(self, weight: torch.Tensor, node: nn.Module, T: int) -> None:
        super().__init__()
        self.T = T
        self.first, self.fire = nn.Conv2d(1, 3, 1), neuron.IFNode(v_threshold=0.5, step_mode="m")
        self.conv, self.node, self.head = nn.Conv2d(3, len(weight), 3, padding=1, bias=False), node, nn.Linear(16 * len(weight), 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, 0.26, 0.13]).reshape(3, 1, 1, 1))
            self.first.bias.zero_()
            self.conv.weight.copy_(weight)

    def forward(self, x):
        x = self.fire(self.first(x).unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        x = self.conv(x.flatten(0, 1)).unflatten(0, (self.T, -1))
        return self.head(self.node(x).flatten(2))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000), T=st.integers(1, 6), leaks=st.booleans(), decay_input=st.booleans(),
    reset=st.sampled_from([0.0, -0.5, 0.25]), above=st.sampled_from([0.5, 1.0, 1.5, 3.0]),
)  # fmt: skip
@example(seed=0, T=2, leaks=True, decay_input=False, reset=0.0, above=0.5)  # its smallest exact scale leaves no threshold, its double does
def test_ties_with_the_threshold_fall_as_in_float(seed, T, leaks, decay_input, reset, above):
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.integers(-2, 3, (4, 3, 3, 3))).float()
    make = {"v_threshold": reset + above, "v_reset": reset, "step_mode": "m"}
    node = neuron.LIFNode(tau=2.0, decay_input=decay_input, **make) if leaks else neuron.IFNode(**make)
    images = torch.from_numpy(rng.integers(0, 2, (5, 1, 4, 4))).float()
    rows = both(Tiny(weight, node, T).eval(), images, levels=1)[2]
    assert [row.agreement for row in rows] == [1.0, 1.0]


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
    ours, theirs = trace_graph(graph, embedded), engine.run(graph, embedded, spikes=True)
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
        self.soft = lif(v_reset=None)
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.after = nn.Conv2d(4, 4, 3, padding=1), lif()
        self.layer_norm, self.gelu = nn.LayerNorm(64), nn.GELU()
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = self.fire(self.norm(self.conv(x)).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        T, B, C, H, W = x.shape
        y = self.conv2(x.flatten(0, 1)).reshape(T, B, C, H, W)
        self.soft(y)
        z = self.after(self.pool(y.flatten(0, 1)).reshape(T, B, C, H // 2, W // 2))
        return self.head(self.gelu(self.layer_norm(z.flatten(2)))).softmax(-1).mean(0)


def test_everything_unsupported_is_listed_at_once_by_path():
    with pytest.raises(DeployError) as caught:
        read(Bad(), torch.rand(2, 1, 8, 8), None)
    said = str(caught.value)
    causes = {"soft": "soft reset", "pool": "max-pool of currents", "layer_norm": "LayerNorm", "gelu": "GELU", "forward": "softmax"}
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


def published_spikformer(dim: int, depth: int, classes: int = 10) -> dict[str, torch.Tensor]:
    """A state dict with the published net's key names and random weights."""
    made: dict[str, torch.Tensor] = {}

    def layer_of(name: str, norm: str, *shape: int, bias: bool = False) -> None:
        fan = int(np.prod(shape[1:]))
        made[f"{name}.weight"] = torch.randn(*shape) / fan**0.5
        if bias:
            made[f"{name}.bias"] = torch.zeros(shape[0])
        for part, value in (("weight", 2.0), ("bias", 0.3), ("running_mean", 0.0), ("running_var", 0.3)):
            made[f"{norm}.{part}"] = torch.full((shape[0],), value)
        made[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    wide = (3, dim // 8, dim // 4, dim // 2, dim)
    for n in range(4):
        end = str(n or "")
        layer_of(f"patch_embed.proj_conv{end}", f"patch_embed.proj_bn{end}", wide[n + 1], wide[n], 3, 3)
    layer_of("patch_embed.rpe_conv", "patch_embed.rpe_bn", dim, dim, 3, 3)
    for i in range(depth):
        for part in ("q", "k", "v", "proj"):
            layer_of(f"block.{i}.attn.{part}_linear", f"block.{i}.attn.{part}_bn", dim, dim, bias=True)
        for n, (a, b) in enumerate(((dim, 4 * dim), (4 * dim, dim)), 1):
            layer_of(f"block.{i}.mlp.fc{n}_linear", f"block.{i}.mlp.fc{n}_bn", b, a, bias=True)
        for n in (1, 2):  # declared and never used
            made[f"block.{i}.norm{n}.weight"] = made[f"block.{i}.norm{n}.bias"] = torch.zeros(dim)
    made["head.weight"], made["head.bias"] = torch.randn(classes, dim), torch.zeros(classes)
    return made


def published_qkformer(dim: int, depth: int, classes: int = 10) -> dict[str, torch.Tensor]:
    """The same for QKFormer."""
    made: dict[str, torch.Tensor] = {}

    def layer_of(name: str, *shape: int, bias: bool = False) -> None:
        made[f"{name}_conv.weight"] = torch.randn(*shape) / int(np.prod(shape[1:])) ** 0.5
        if bias:
            made[f"{name}_conv.bias"] = torch.zeros(shape[0])
        for part, value in (("weight", 2.0), ("bias", 0.3), ("running_mean", 0.0), ("running_var", 0.3)):
            made[f"{name}_bn.{part}"] = torch.full((shape[0],), value)

    for stage in (1, 2, 3):
        d, e = dim // 2 ** (3 - stage), f"patch_embed{stage}"
        if stage == 1:
            layer_of(f"{e}.proj", d // 2, 3, 3, 3)
            layer_of(f"{e}.proj1", d, d // 2, 3, 3)
        else:
            layer_of(f"{e}.proj3", d, d // 2, 3, 3)
            layer_of(f"{e}.proj4", d, d, 3, 3)
        layer_of(f"{e}.proj_res", d, d // 2, 1, 1)
        for i in range(depth - 2 if stage == 3 else 1):
            kind = f"stage{stage}.{i}." + ("ssa" if stage == 3 else "tssa")
            for part in ("q", "k", "v") if stage == 3 else ("q", "k"):
                layer_of(f"{kind}.{part}", d, d, 1)
            layer_of(f"{kind}.proj", d, d, 1, bias=True)
            layer_of(f"stage{stage}.{i}.mlp.mlp1", 4 * d, d, 1, 1, bias=True)
            layer_of(f"stage{stage}.{i}.mlp.mlp2", d, 4 * d, 1, 1, bias=True)
    made["head.weight"], made["head.bias"] = torch.randn(classes, dim), torch.zeros(classes)
    return made


def test_published_spikformer_comes_through_by_its_key_names():
    torch.manual_seed(3)
    model = build(published_spikformer(64, 2), heads=4)
    spikes, _, rows, graph = both(model, torch.randint(0, 256, (4, 3, 16, 16)) / 255, levels=255)
    assert [n for n in graph.ops if n.endswith("attn_lif")] == ["block.0.attn.attn_lif", "block.1.attn.attn_lif"]
    assert len(spikes) == 7 + 2 * 7 and rows[0].agreement > 0.999
    assert graph.ops["readout"].weight.shape == (10, 16, 64)
    with pytest.raises(DeployError, match="do not divide"):
        build(published_spikformer(64, 1), heads=5)


def test_published_qkformer_is_refused_as_it_is_and_named_when_repaired(tmp_path):
    torch.manual_seed(4)
    state = published_qkformer(64, 3)
    with pytest.raises(DeployError) as caught:
        read(build(state, heads=4), torch.rand(2, 3, 16, 16), None)
    said = str(caught.value)
    assert "patch_embed2.proj4_maxpool: max-pool of currents" in said and "patch_embed3.proj4_maxpool" in said
    assert "stage3.0.ssa.proj_lif: axis 0 holds time and batch merged" in said and "leak into the next sample's" in said
    assert "3 things" in said and "--repaired" in said
    _, embedded, rows, graph = both(build(state, heads=4, repaired=True), torch.rand(4, 3, 16, 16), levels=255)
    assert len(graph.only("qk_token_gate")) == 2 and len(graph.only("spiking_attention")) == 1 and len(graph.only("max_pool")) == 2
    same_in_torch(graph, embedded)
    assert min(row.alone for row in rows) > 0.9


def test_the_command_imports_and_fine_tunes_a_repaired_qkformer(tmp_path):
    torch.manual_seed(5)
    save_file(published_qkformer(32, 3, classes=2), tmp_path / "w.safetensors")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8), np.arange(24) % 2
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images[:8], test_labels=labels[:8])
    words = [ROOT / "convert/from_spikingjelly.py", "published", "--weights", tmp_path / "w.safetensors", "--heads", 4, "--data", "npz",
             "--data-path", tmp_path / "d.npz", "--output", tmp_path / "out", "--json"]
    done = subprocess.run([sys.executable, *map(str, words), "--repaired", "--epochs", "1"], capture_output=True, text=True, env=ENV)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    kinds = {row["kind"] for row in found["layers"]}
    assert {"qk_token_gate", "spiking_attention", "max_pool"} <= kinds and len(found["validation_accuracy"]) == 2
    assert all(0 <= row["agreement"] <= 1 for row in found["layers"]) and (tmp_path / "out/export/manifest.json").is_file()


def published_stmixer(dim: int, depth: int, heads: int, tokens: int, classes: int = 10) -> dict[str, torch.Tensor]:
    """Key names and shapes of STMixer's CIFAR net (its surrogate modules left out)."""
    made = {"head.weight": torch.zeros(classes, dim), "head.bias": torch.zeros(classes)}

    def layer_of(name: str, norm: str, *shape: int) -> None:
        made[f"{name}.weight"] = torch.zeros(*shape)
        for part in ("weight", "bias", "running_mean", "running_var"):
            made[f"{norm}.{part}"] = torch.ones(shape[0])

    wide = (3, dim // 8, dim // 4, dim // 2, dim, dim // 8 * 7)
    for n in range(5):
        layer_of(f"patch_embd.proj_conv.{3 * n}", f"patch_embd.proj_conv.{3 * n + 1}", wide[n + 1], wide[n], 3, 3)
    layer_of("patch_embd.short_proj1.0", "patch_embd.short_proj1.1", dim // 8, 3, 4, 4)
    for i in range(depth):
        for part, out, inner in (("token_mix.fc1", dim, dim), ("token_mix.fc2", dim, dim), ("channel_mix.fc1", 4 * dim, dim),
                                 ("channel_mix.fc2", dim, 4 * dim)):
            layer_of(f"block.{i}.{part}.1", f"block.{i}.{part}.2", out, inner, 1)
        for h in range(heads):
            made[f"block.{i}.token_mix.attn.linear_mix.{h}.weight"] = torch.zeros(tokens, tokens)
    return made


def test_published_stmixer_is_refused_with_both_reasons(tmp_path):
    save_file(published_stmixer(64, 2, 4, 64), tmp_path / "w.safetensors")
    words = [ROOT / "convert/from_spikingjelly.py", "published", "--weights", tmp_path / "w.safetensors", "--output", tmp_path / "out"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=ENV)
    said = " ".join(done.stderr.split())
    assert done.returncode == 1 and "Traceback" not in said
    assert "patch_embd.short_proj1" in said and "straight from the image" in said and "scores are read from that stream" in said


class Shortcuts(nn.Module):
    """Membrane shortcuts (currents add up), q and k from one convolution, an average before neurons, voting on firing rates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.start = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)), lif()
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.AvgPool2d(2))
        self.one, self.two = lif(), lif()
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8))
        self.both, self.q, self.k = nn.Sequential(nn.Conv1d(8, 16, 1), nn.BatchNorm1d(16)), lif(), MultiStepLIFNode(tau=2.0)
        self.gate, self.last, self.vote = lif(v_threshold=0.5), lif(), layer.VotingLayer(2, step_mode="m")
        self.linear = nn.Linear(8 * 16, 20)

    def forward(self, x):
        x = self.start(self.stem(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        T, B = x.shape[:2]
        stream = self.first(x.flatten(0, 1)).unflatten(0, (T, B))
        stream = stream + self.second(self.one(stream).flatten(0, 1)).unflatten(0, (T, B))
        y = self.both(self.two(stream).flatten(3).flatten(0, 1)).unflatten(0, (T, B))
        q, k = y.chunk(2, dim=2)
        y = self.gate(self.q(q).sum(dim=3, keepdim=True)) * self.k(k)
        return self.vote(self.last(self.linear(y.flatten(2)))).mean(0)


def test_currents_add_up_channels_split_and_rates_vote(digits):
    images = pictures(digits)
    model = settle(Shortcuts(), 7, images)
    _, embedded, rows, graph = both(model, images)
    assert graph.ops["two"].kind == "membrane" and graph.only("current") == ["two.branch1", "two.branch2"]
    assert graph.ops["q"].weight.shape == graph.ops["k"].weight.shape == (8, 8, 1, 1)
    assert graph.ops["two.branch1"].weight.shape == (8, 8, 4, 4) and graph.ops["two.branch1"].stride == 2  # the average is in the weights
    assert len(graph.only("qk_channel_gate")) == 1
    assert all(row.float_rate > 0 for row in rows) and min(row.alone for row in rows) > 0.97
    votes = graph.ops["readout"].weight
    assert votes.shape == (10, 1, 20) and [np.flatnonzero(v[0]).tolist() for v in votes] == [[2 * c, 2 * c + 1] for c in range(10)]
    same_in_torch(graph, embedded)


class SpikeDriven(nn.Module):
    """Spike-driven Transformer: membrane shortcuts, SDSA, neurons on the stream's mean. `split`: where one convolution's q, k, v part."""

    def __init__(self, split: str, groups: int = 1) -> None:
        super().__init__()
        self.stem, self.start = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8)), lif()
        self.first = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.blocks = nn.ModuleList(DrivenBlock(8, split, groups) for _ in range(2))
        self.last, self.head = lif(v_threshold=0.3), nn.Linear(8, 10)

    def forward(self, x):
        x = self.start(self.stem(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        x = self.first(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x.flatten(3).mean(3))).mean(0)


class DrivenBlock(nn.Module):
    def __init__(self, dim: int, split: str, groups: int) -> None:
        super().__init__()
        self.split, self.heads, self.into = split, 4, lif()
        self.qkv, self.norm = nn.Conv2d(dim, 3 * dim, 1, groups=groups), nn.BatchNorm2d(3 * dim)
        self.q, self.k, self.v = lif(), lif(), lif()
        self.qkv_lif = lif()
        self.gate, self.proj = lif(v_threshold=0.5), nn.Sequential(nn.Conv2d(dim, dim, 1), nn.BatchNorm2d(dim))

    def forward(self, x):
        T, B, C, H, W = x.shape
        x_spikes = self.into(x).flatten(0, 1)
        if self.split == "layers":
            q, k, v = (n(c(x_spikes).reshape(T, B, C, H * W)) for n, c in zip((self.q, self.k, self.v), self.apart))
        elif self.split == "currents":
            q, k, v = self.norm(self.qkv(x_spikes)).reshape(T, B, 3 * C, H * W).chunk(3, dim=2)
            q, k, v = self.q(q), self.k(k), self.v(v)
        else:
            y = self.qkv_lif(self.norm(self.qkv(x_spikes)).reshape(T, B, 3 * C, H * W))
            y = y.reshape(T, B, self.heads, 3, C // self.heads, H * W).permute(3, 0, 1, 2, 4, 5)
            q, k, v = (y[i].flatten(2, 3) for i in range(3))
        y = q * self.gate((k * v).sum(dim=-1, keepdim=True))
        return x + self.proj(y.reshape(T * B, C, H, W)).reshape(T, B, C, H, W)

    def part(self) -> None:
        """The convolution as three, with their rows of weights, biases and normalisation."""
        out, per = self.qkv.weight.shape[:2]
        dim, dense = out // 3, torch.zeros(out, per * self.qkv.groups)
        for row in range(out):
            start = row * self.qkv.groups // out * per
            dense[row, start : start + per] = self.qkv.weight.detach()[row, :, 0, 0]
        channels = torch.arange(out)
        parts = channels.chunk(3) if self.split == "currents" else channels.reshape(self.heads, 3, -1).transpose(0, 1).flatten(1)
        self.apart = nn.ModuleList()
        for rows in parts:
            conv, norm = nn.Conv2d(per * self.qkv.groups, dim, 1), nn.BatchNorm2d(dim)
            conv.weight.data, conv.bias.data = dense[rows][..., None, None].clone(), self.qkv.bias.data[rows].clone()
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).data = getattr(self.norm, name).data[rows].clone()
            self.apart.append(nn.Sequential(conv, norm))
        self.split = "layers"


@pytest.mark.parametrize("split, groups", [("currents", 1), ("currents", 2), ("spikes", 1), ("spikes", 4)])
def test_channels_that_part_before_or_after_neurons_are_layers_of_their_own(digits, split, groups):
    """Head by head or one after the other, the graph is that of a model with three convolutions: same integers, same answers."""
    images = pictures(digits, 6)
    model = settle(SpikeDriven(split, groups), 8, images)
    _, embedded, rows, graph = both(model, images)
    assert all(row.float_rate > 0 for row in rows) and min(row.alone for row in rows) > 0.95
    same_in_torch(graph, embedded)
    for block in model.blocks:
        block.part()
    apart = both(model.eval(), images)[3]
    assert [op.kind for op in graph.ops.values()] == [op.kind for op in apart.ops.values()] and len(graph.only("sdsa")) == 2
    for a, b in zip(graph.ops.values(), apart.ops.values()):
        assert getattr(a, "neuron", None) == getattr(b, "neuron", None)
        assert all(np.array_equal(getattr(a, field, 0), getattr(b, field, 0)) for field in ("weight", "bias"))
    assert np.array_equal(engine.run(graph, embedded).logits, engine.run(apart, embedded).logits)


class StreamHead(nn.Module):
    """Class scores from the mean of a stream of currents: no neurons before the head; its first branch comes from a finer map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.start = nn.Conv2d(1, 6, 3, padding=1), lif(v_threshold=0.3)
        self.down, self.norm, self.one = nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), lif(v_threshold=0.5)
        self.branch, self.norm2, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x):
        x = self.start(self.stem(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        stream = self.norm(self.down(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        stream = stream + self.norm2(self.branch(self.one(stream).flatten(0, 1))).unflatten(0, x.shape[:2])
        return self.head(stream.flatten(3).mean(3)).mean(0)


def test_class_scores_may_be_read_from_a_stream_of_currents(digits):
    """The head's weights times each branch's, on the spikes that feed the branch: the float net's scores but for the rounding."""
    images = pictures(digits, 24)
    model = settle(StreamHead(), 9, images)
    spikes, embedded, _, graph = both(model, images)
    assert [op.kind for op in graph.ops.values()][-4:] == ["route", "route", "readout", "exit_gate"]
    assert graph.ops["readout"].weight.shape == (10, 16, 4 * 6 + 8) and graph.ops["head.start"].fold == 2
    same_in_torch(graph, embedded)
    plan = read(model, images[:2], None)[0]
    scores = sum(np.einsum("kpc,ntpc->nk", p.weight, spikes[p.sources[0]].astype(float)) for p in plan.head.parts) + 4 * plan.head.bias
    functional.reset_net(model)
    with torch.no_grad():
        assert np.allclose(scores, model(images).numpy(), atol=1e-4)
    record = engine.run(graph, embedded)
    assert np.corrcoef(record.logits.ravel(), scores.ravel())[0, 1] > 0.99
    synapses = {p.source: p.taps for g in groups_of(graph) for p in g.projections if g.name == "readout"}
    for p in plan.head.parts:  # what places the net on cores sees the same synapses
        assert synapses[p.sources[0]].shape == (10, p.weight[0].size) and synapses[p.sources[0]].mean() > 0.9


class Sliced(nn.Module):
    """Some channels of the spikes beside all of them; or of one timestep alone."""

    def __init__(self, one_step: bool = False) -> None:
        super().__init__()
        self.one_step, self.conv, self.fire, self.after = one_step, nn.Conv2d(1, 6, 3, 2, 1), lif(v_threshold=0.2), lif(v_threshold=0.2)
        self.next, self.last, self.head = nn.Conv2d(6, 4, 1), lif(v_threshold=0.2), nn.Linear(4 * 16, 10)
        self.narrow = nn.Conv2d(2, 4, 1)

    def forward(self, x):
        x = self.fire(self.conv(x).unsqueeze(0).repeat(4, 1, 1, 1, 1))
        y = self.after(self.next(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        z = y[0][:, 1:3] if self.one_step else y[:, :, 1:3].flatten(0, 1)
        z = self.narrow(z) if self.one_step else self.narrow(z).unflatten(0, x.shape[:2])
        return self.head((self.last(z) if self.one_step else y + self.last(z)).flatten(2)).mean(0)


def test_a_layer_that_is_read_whole_and_in_part_is_there_twice(digits):
    """The part is exact neurons of its own; the whole one stays."""
    images = pictures(digits, 6)
    torch.manual_seed(2)
    spikes, embedded, rows, graph = both(Sliced().eval(), images)
    assert graph.ops["after.part1"].weight.shape[0] == 2 and graph.ops["after"].weight.shape[0] == 4
    assert np.array_equal(spikes["after.part1"], spikes["after"][..., 1:3]) and min(row.alone for row in rows) > 0.97
    same_in_torch(graph, embedded)
    with pytest.raises(DeployError):
        read(Sliced(one_step=True), images[:2], None)


def test_a_split_that_leaves_tokens_out_is_refused():
    """Neurons on part of the positions would be another layer; they are never taken for a split by channels."""
    model = SpikeDriven("currents")
    model.blocks[0].forward = lambda x: x[..., :2]
    with pytest.raises(DeployError, match=r"every sample's map once|whole maps"):
        read(model, torch.rand(2, 1, 8, 8), None)
