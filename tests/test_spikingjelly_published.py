"""Published nets in SpikingJelly by their key names: taken, repaired or refused with the reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")

from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.published import build
from spikegate.graph.ir import DeployError
from tests.foreign_import import ENV, ROOT, both, same_in_torch


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


def published_sew(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SpikingJelly's key names of a SEW-ResNet as the authors' repository has them: a container around each convolution and its norm."""
    found = {}
    for key, value in state.items():
        key = re.sub(r"^(layer\d\.\d+)\.conv(\d)\.", r"\1.conv\2.module.0.", key)
        key = re.sub(r"^(layer\d\.\d+)\.bn(\d)\.", r"\1.conv\2.module.1.", key)
        found[re.sub(r"^(layer\d\.\d+\.downsample)\.(\d)\.", r"\1.0.module.\2.", key)] = value
    return found


@pytest.mark.parametrize("make", ["sew_resnet18", "sew_resnet50"])
def test_published_sew_resnet_computes_what_spikingjellys_own_does(make):
    sew_resnet = pytest.importorskip("spikingjelly.activation_based.model.sew_resnet")
    from spikingjelly.activation_based import functional, neuron

    torch.manual_seed(6)
    theirs = getattr(sew_resnet, make)(cnf="ADD", spiking_neuron=neuron.IFNode, num_classes=5)
    functional.set_step_mode(theirs, "m")
    for m in theirs.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(m.bias, 0.5)
    counted = {"layer2.0.conv1.total_ops": torch.zeros(1, dtype=torch.float64)}  # as thop leaves it
    ours, x = build(published_sew(theirs.eval().state_dict()) | counted, timesteps=3), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        scores = theirs(x.unsqueeze(0).repeat(3, 1, 1, 1, 1)).mean(0)
        assert torch.allclose(ours(x), scores, atol=1e-4 * float(scores.abs().max())) and scores.std() > 0


def test_published_sew_resnet_comes_through_by_its_key_names():
    torch.manual_seed(7)
    state = {"fc.weight": torch.randn(4, 32), "fc.bias": torch.zeros(4)}

    def layer_of(conv: str, norm: str, *shape: int) -> None:
        state[f"{conv}.weight"] = torch.randn(shape) * 2 / (shape[1] * shape[2] ** 2) ** 0.5
        for part, value in (("weight", 1.0), ("bias", 0.5), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{norm}.{part}"] = torch.full(shape[:1], value)

    layer_of("conv1", "bn1", 4, 3, 7, 7)
    for stage, (before, width) in enumerate(((4, 4), (4, 8), (8, 16), (16, 32)), 1):
        for b in range(2):
            name, i = f"layer{stage}.{b}", before if b == 0 else width
            for n, source in ((1, i), (2, width)):
                layer_of(f"{name}.conv{n}.module.0", f"{name}.conv{n}.module.1", width, source, 3, 3)
            if b == 0 and stage > 1:
                layer_of(f"{name}.downsample.0.module.0", f"{name}.downsample.0.module.1", width, before, 1, 1)
    _, embedded, rows, graph = both(build(state, timesteps=2), torch.randint(0, 256, (4, 3, 32, 32)) / 255, levels=255)
    assert len(rows) == 1 + 1 + 16 + 3 and rows[0].agreement > 0.99
    same_in_torch(graph, embedded)


@pytest.mark.parametrize("key, said", [("block.0.attn.talking_heads.weight", "maximum of currents"),
                                       ("module.conv2_x.0.residual_function.1.weight", "convolve a stream of currents")])
def test_published_nets_that_cannot_be_imported_are_named_with_their_reason(key, said):
    with pytest.raises(DeployError, match=said):
        build({key: torch.zeros(8, 8, 1)})
