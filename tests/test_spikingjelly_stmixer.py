"""The published STMixer by its key names: the image's short path in the stream, matrices across tokens, scores from the stream."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional

from spikegate.convert.spikingjelly.importing import import_model
from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.published import build
from spikegate.convert.spikingjelly.quantising import quantise
from spikegate.convert.spikingjelly.reporting import compare_layers, float_spikes
from spikegate.convert.spikingjelly.tuning import within_registers
from spikegate.convert.spikingjelly.twin import GraphTwin
from spikegate.engine import integer
from spikegate.engine.chip_time import chip_run
from spikegate.engine.chip_time.schedule import SCHEDULES, schedule
from spikegate.formats.nir.exporter import to_nir
from spikegate.graph.ir import INPUT, DeployError
from spikegate.hw_sim.chip.groups import groups_of
from tests.foreign_import import ENV, ROOT, both, same_in_torch
from tests.foreign_models import train


def published_stmixer(dim: int, depth: int, heads: int, tokens: int, classes: int = 10, ratio: int = 4, kernel: int = 4, colours: int = 3):
    """A state dict with the published net's key names and random weights (without its surrogate modules)."""
    made: dict[str, torch.Tensor] = {}

    def layer_of(name: str, norm: str, *shape: int) -> None:
        made[f"{name}.weight"] = torch.randn(*shape) / int(np.prod(shape[1:])) ** 0.5
        for part, value in (("weight", 1.5), ("bias", 0.2), ("running_mean", 0.0), ("running_var", 0.3)):
            made[f"{norm}.{part}"] = torch.full((shape[0],), value)
        made[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    wide = (colours, dim // 8, dim // 4, dim // 2, dim, dim // 8 * 7)
    for n in range(5):
        layer_of(f"patch_embd.proj_conv.{3 * n}", f"patch_embd.proj_conv.{3 * n + 1}", wide[n + 1], wide[n], 3, 3)
    layer_of("patch_embd.short_proj1.0", "patch_embd.short_proj1.1", dim // 8, colours, kernel, kernel)
    for i in range(depth):
        for part, out, inner in (("token_mix.fc1", dim, dim), ("token_mix.fc2", dim, dim), ("channel_mix.fc1", ratio * dim, dim),
                                 ("channel_mix.fc2", dim, ratio * dim)):
            layer_of(f"block.{i}.{part}.1", f"block.{i}.{part}.2", out, inner, 1)
        for h in range(heads):
            made[f"block.{i}.token_mix.attn.linear_mix.{h}.weight"] = torch.randn(tokens, tokens) * (2 / tokens) ** 0.5
    made["head.weight"], made["head.bias"] = torch.randn(classes, dim) / dim**0.5, torch.randn(classes) / 5
    return made


def test_published_stmixer_comes_through_by_its_key_names():
    """The image's short path feeds every reader of the stream, and the class scores; nothing is approximated but by rounding."""
    torch.manual_seed(3)
    model = build(published_stmixer(32, 2, 4, 16))
    images = torch.randint(0, 256, (8, 3, 16, 16)) / 255
    spikes, embedded, rows, graph = both(model, images, levels=255)
    kinds = [op.kind for op in graph.ops.values()]
    assert kinds.count("token_mix") == 2 and kinds.count("membrane") == 4 and kinds.count("current") == 4 + 4  # of the stream, of the head
    assert graph.ops["block.0.token_mix.fc2.0"].weight.shape == (4, 16, 16)
    assert graph.ops["patch_embd.proj_conv.12"].copies == 4 and graph.ops["block.1.token_mix.fc2.1"].copies == 1
    assert not graph.ops["patch_embd.proj_conv.12"].weight[:4].any()  # the short path's channels
    readers = [n for n, op in graph.ops.items() if op.kind == "membrane"]
    assert len({graph.ops[n].neuron for n in readers}) == 1  # one scale for all who read a stream with a host current
    assert all("host.patch_embd.short_proj1.0.replay" in [e.source for e in graph.sources(n)["x"]] for n in readers)
    assert [e.source for e in graph.sources("readout")["direct"]] == ["host.class_scores.replay"]
    assert min(row.alone for row in rows) > 0.98 and rows[0].agreement > 0.999 and all(row.float_rate > 0.01 for row in rows)
    same_in_torch(graph, embedded)
    functional.reset_net(model)
    with torch.no_grad():
        wanted = model(images).numpy()
    plan = read(model, images[:2], None)[0]
    scores = sum(np.einsum("kpc,ntpc->nk", p.weight, spikes[p.sources[0]].astype(float)) for p in plan.head.parts) + 4 * plan.head.bias
    scores += 4 * np.einsum("kcyx,ncyx->nk", plan.head.image.weight, images.numpy())
    assert np.allclose(scores, wanted, atol=1e-4)
    assert np.corrcoef(integer.run(graph, embedded).logits.ravel(), wanted.ravel())[0, 1] > 0.97


def test_its_graph_can_be_placed_timed_and_is_refused_by_nir():
    torch.manual_seed(3)
    _, embedded, _, graph = both(build(published_stmixer(32, 1, 2, 16)), torch.rand(3, 3, 16, 16), levels=255)
    groups = groups_of(graph)
    assert {p.source for g in groups for p in g.projections} <= {g.name for g in groups} | {INPUT}
    assert {p.form for p in groups[-2].projections} == {"dense", "conv", "direct"} and groups[-2].name == "readout"
    whole = integer.run(graph, embedded, spikes=True)
    for name in SCHEDULES:
        timed = chip_run.run(schedule(graph, name), embedded, spikes=True)
        assert np.array_equal(timed.logits, whole.logits) and all(np.array_equal(timed.spikes[n], whole.spikes[n]) for n in graph.ops)
    with pytest.raises(DeployError, match=r"readout \(reads a stream\)"):
        to_nir(graph)


@pytest.mark.timeout(600)
def test_a_trained_net_loses_at_most_a_point(digits, tmp_path):
    """The published forward in small, trained on digits; the figures of docs/importing.md."""
    torch.manual_seed(0)
    model = train(build(published_stmixer(64, 2, 4, 4, ratio=2, colours=1)), digits, 10)
    done = import_model(model, tmp_path, {"name": "digits"}, quiet=True)
    worst, alone = (min(row[k] for row in done.layers) for k in ("agreement", "alone"))
    print(f"float {done.float_accuracy:.4f}, integers {done.int_accuracy:.4f}, equal {worst:.4f}, alone {alone:.4f}")
    assert done.float_accuracy > 0.92 and done.int_accuracy >= done.float_accuracy - 0.01
    assert worst > 0.7 and alone > 0.98


@pytest.mark.parametrize("depth, parameters", [(4, 8_223_674), (10, 17_496_506)])
def test_published_shapes_have_the_published_number_of_parameters(depth, parameters):
    """STMixer-4-384-16: 8.22 M without surrogate modules; STMixer-10-384-16: 17.5 M."""
    model = build(published_stmixer(384, depth, 16, 64), timesteps=1)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_published_size_fits_the_chip():
    """STMixer-4-384-16, T = 4: registers and accumulators hold its worst case, and what is left is fine enough (docs/importing.md)."""
    torch.manual_seed(1)
    images = (nn.functional.interpolate(torch.rand(4, 3, 4, 4), size=(32, 32), mode="bilinear") * 255).round() / 255
    plan, traced, form = read(build(published_stmixer(384, 4, 16, 64), timesteps=4), images[:2], None)
    found = quantise(plan, 255, np.full(3, 1 / 255), np.zeros(3))
    embedded = found.host.encode((images.numpy() * 255).round().astype(np.uint8))
    rows = compare_layers(plan, found.graph, float_spikes(traced, images, form, 4), embedded)
    alone = {row.name: row.alone for row in rows}
    readers, others = ([v for k, v in alone.items() if k.endswith("fc1.0") == reads] for reads in (True, False))
    print(f"alone: the stream's readers {min(readers):.4f}, others {min(others):.4f}")
    assert min(readers) > 0.97 and min(others) > 0.99
    ours = integer.run(found.graph, embedded, spikes=[p.sources[0] for p in plan.head.parts])
    wanted = sum(np.einsum("kpc,ntpc->nk", p.weight, ours.spikes[p.sources[0]].astype(float)) for p in plan.head.parts)
    wanted += 4 * np.einsum("kcyx,ncyx->nk", plan.head.image.weight, images.numpy())
    differences = [(v - v.mean(0)).ravel() for v in (wanted, ours.logits.astype(float))]  # from image to image
    assert np.corrcoef(*differences)[0, 1] > 0.85  # the head's weights are 1.4 mantissas on average: 24 bits hold 600,000 of them


def test_what_serves_training_alone_is_left_out_and_the_rest_is_checked():
    state = published_stmixer(32, 1, 4, 16)
    aside = {"sml1.proj_conv.0.weight": torch.zeros(32, 32, 1), "sml1.encoder.0.spatial_mix.fc1.1.weight": torch.zeros(32, 32, 1)}
    build({**state, **aside, "sml2.head.bias": torch.zeros(10)})
    for more, said in (({"sml": torch.zeros(1)}, "has unknown sml"), ({"block.0.attn.weight": torch.zeros(1)}, "has unknown block.0.attn")):
        with pytest.raises(DeployError, match=said):
            build({**state, **more})
    with pytest.raises(DeployError, match="hold 4 mixing matrices"):
        build(state, heads=8)
    with pytest.raises(DeployError, match=r"lack patch_embd.proj_conv.0.weight"):
        build({k: v for k, v in state.items() if k != "patch_embd.proj_conv.0.weight"})
    with pytest.raises(DeployError, match="kernel of 8"):
        build({**state, "patch_embd.short_proj1.0.weight": torch.zeros(4, 3, 8, 8)})
    with pytest.raises(DeployError, match="2 channels of events"):
        build({**state, "patch_embd.short_proj1.0.weight": torch.zeros(4, 2, 16, 16)})


def test_the_net_that_halves_the_image_four_times_comes_through():
    torch.manual_seed(6)
    model = build(published_stmixer(32, 1, 2, 4, kernel=16), timesteps=2)
    _, embedded, rows, graph = both(model, torch.rand(3, 3, 32, 32), levels=255)
    assert graph.ops["block.0.token_mix.fc1.0"].out_shape == (4, 32) and min(row.alone for row in rows) > 0.97
    same_in_torch(graph, embedded)


def test_training_cannot_make_a_net_that_overflows():
    """Where weights outgrow the registers, the heaviest rows alone are made smaller; what is not in the way stays as it is."""
    torch.manual_seed(1)
    plan = read(build(published_stmixer(64, 2, 4, 16)), torch.rand(2, 3, 16, 16), None)[0]
    found = quantise(plan, 255, np.full(3, 1 / 255), np.zeros(3))
    twin = GraphTwin(found.graph, found.latent)
    grown = ("patch_embd.proj_conv.12", "block.0.channel_mix.fc2.1", "readout")
    with torch.no_grad():
        for name in grown:
            twin.weights[twin.names[name]] *= 40
    with pytest.raises(DeployError, match="overflows the 24-bit state"):
        twin.to_graph().check()
    graph = within_registers(twin)
    graph.check()
    same = [n for n in twin.names if np.array_equal(graph.ops[n].weight, found.graph.ops[n].weight)]
    assert {"patch_embd.proj_conv.5", "block.0.token_mix.fc2.0"} <= {*same} and not {*grown} & {*same}
    assert all(np.abs(graph.ops[n].weight).mean() > 1.2 * np.abs(found.graph.ops[n].weight).mean() for n in grown)


@pytest.mark.lava
@pytest.mark.timeout(600)
def test_the_command_imports_and_fine_tunes_it_and_lava_agrees(tmp_path):
    torch.manual_seed(5)
    save_file(published_stmixer(32, 2, 4, 16, classes=2), tmp_path / "w.safetensors")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8), np.arange(24) % 2
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images[:8], test_labels=labels[:8])
    words = [ROOT / "convert/from_spikingjelly.py", "published", "--weights", tmp_path / "w.safetensors", "--data", "npz",
             "--data-path", tmp_path / "d.npz", "--mean", "0.4", "--std", "0.3", "--output", tmp_path / "out", "--epochs", "1", "--json"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=ENV)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"token_mix", "membrane", "lif"} <= {row["kind"] for row in found["layers"]} and len(found["validation_accuracy"]) == 2
    manifest = json.loads((tmp_path / "out/export/manifest.json").read_text())
    assert {"host.class_scores.replay", "patch_embd.proj_conv.2"} <= {*manifest["embedding_ops"]} and manifest["grid"] == [4, 4]
    words = [ROOT / "deploy/compare.py", tmp_path / "out", "--data", "test:4", "--patience", "60"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, env=ENV)
    assert done.returncode == 0 and "torch = int = lava" in done.stdout, done.stdout + done.stderr
