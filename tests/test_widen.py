"""A wider net that starts from a trained one answers as it does, and its copied channels learn different things."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from spikegate.graph.ir import DeployError
from spikegate.train import models
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.restore import Facts, Start, save_weights, start_from
from spikegate.train.settings.config import Config
from spikegate.train.settings.options import write_yaml
from spikegate.train.settings.runfolder import CONFIG, WEIGHTS

CLASSES = ["a", "b", "c"]
SHAPE = (2, 12, 12)
HIERARCHY = {"stages": [1, 1], "embedding": "published"}


def config_of(name: str, dim: int, heads: int, **more) -> Config:
    return Config.model_validate({"model": {"name": name, "dim": dim, "heads": heads, "depth": 2, "timesteps": 3, **more}})


def run_of(config: Config, folder: Path, shape: tuple[int, ...] = SHAPE) -> tuple[Path, models.Net]:
    """A finished run of random weights whose normalisations have seen images."""
    torch.manual_seed(3)
    net = models.build(config.model, shape, len(CLASSES), 255)
    for parameter in net.parameters():
        if parameter.dim() == 1 and len(parameter) > 3 and parameter.requires_grad:
            parameter.data += 0.3 * parameter.data.std().nan_to_num(1.0) * torch.randn(len(parameter)) + 0.2 * torch.randn(len(parameter))
    for norm in net.modules():
        if isinstance(norm, FoldedNorm):
            norm.momentum = 1.0
    net.train()(images(64, shape))
    folder.mkdir()
    write_yaml(config, folder / CONFIG)
    save_weights(folder / WEIGHTS, net, Facts(config.hash, "random", shape, CLASSES, 255))
    return folder, net


def images(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    high = 2 if len(shape) == 4 else 256
    return torch.randint(0, high, (count, *shape), dtype=torch.uint8)


def wider(config: Config, shape: tuple[int, ...] = SHAPE, **more) -> models.Net:
    torch.manual_seed(4)
    return models.build(config.model.model_copy(update=more), shape, len(CLASSES), 255)


@pytest.mark.parametrize("name, more", [
    ("spikformer", {}),
    ("spikformer", {"head": "mean"}),
    ("spikformer", {"embedding": "published", "pooling": "or"}),
    ("dts_vit", {}),
    ("qkformer", {}),
    ("qkformer", HIERARCHY),
    ("qkformer", {"attention": "channel", "pooling": "or"}),
])
@pytest.mark.parametrize("dim, heads", [(48, 6), (64, 8), (80, 10)])
def test_the_answers_stay(tmp_path, name, more, dim, heads):
    config = config_of(name, 32, 4, **more)
    run, net = run_of(config, tmp_path / "run")
    wide = wider(config, dim=dim, heads=heads, stem_channels=24)
    assert start_from(run, wide, CLASSES) == Start([], wider=True)
    assert wide.parameter_count > 1.3 * net.parameter_count
    for one in (net, wide):
        one.eval()
    x = images(32)
    with torch.inference_mode():
        was, now = net(x), wide(x)
    assert was.logits.std(0).min() > 0
    torch.testing.assert_close(now.logits, was.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(now.answers, was.answers, rtol=1e-3, atol=1e-3)


def test_event_recordings_too(tmp_path):
    config, shape = config_of("spikformer", 32, 4), (3, 2, 12, 12)
    run, net = run_of(config, tmp_path / "run", shape)
    wide = wider(config, shape, dim=48, heads=6)
    start_from(run, wide, CLASSES)
    x = images(16, shape)
    with torch.inference_mode():
        torch.testing.assert_close(wide.eval()(x).logits, net.eval()(x).logits, rtol=1e-3, atol=1e-3)


def test_copies_get_different_gradients(tmp_path):
    config = config_of("spikformer", 32, 4)
    run, _ = run_of(config, tmp_path / "run")
    wide = wider(config, dim=64, heads=8)
    start_from(run, wide, CLASSES)
    wide.train()
    torch.nn.functional.cross_entropy(wide(images(64)).logits, torch.arange(64) % 3).backward()
    layers = [t for t in wide.named.values() if isinstance(t, SpikingConv)]
    assert len(layers) > 10
    for layer in layers:
        half = len(layer.norm.gamma) // 2
        assert torch.equal(layer.norm.gamma[:half], layer.norm.gamma[half:])
        grad = layer.norm.beta.grad
        assert not torch.allclose(grad[:half], grad[half:], rtol=0.1), layer.name


def test_chance_comes_from_the_seed(tmp_path):
    config = config_of("spikformer", 32, 4)
    run, _ = run_of(config, tmp_path / "run")
    found = []
    for seed in (1, 1, 2):
        wide = wider(config, dim=48, heads=6)
        torch.manual_seed(seed)
        start_from(run, wide, CLASSES)
        found.append(wide.state_dict()["twins.block1/fc2.block.synapse.weight"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_other_classes_have_a_fresh_head(tmp_path):
    config = config_of("spikformer", 32, 4)
    run, net = run_of(config, tmp_path / "run")
    wide = models.build(config.model.model_copy(update={"dim": 48, "heads": 6}), SHAPE, 5, 255)
    begun = start_from(run, wide, list("vwxyz"))
    assert begun.wider and begun.fresh and all("readout" in n for n in begun.fresh)
    assert "more channels" in str(begun) and str(begun).endswith("; new: readout")
    a, b = (one.state_dict()["twins.block2/fc1.norm.mean"] for one in (net, wide))
    assert torch.equal(b, a[torch.arange(96) % 64])


@pytest.mark.parametrize("name, more, to, what", [
    ("spikformer", {}, {"dim": 48}, "heads of 12 channels, those of the run have 8"),
    ("at_snn", {"halting": {"enabled": True}}, {"dim": 48, "heads": 6}, "copies of channels change what"),
    ("stas", {}, {"dim": 48, "heads": 6}, "copies of channels change what"),
    ("stmixer", {}, {"dim": 48, "heads": 6}, "copies of channels change what"),
    ("msvit", {}, {"dim": 48, "heads": 6}, "copies of channels change what"),
    ("spike_driven", {}, {"dim": 48, "heads": 6}, "copies of channels change what"),
    ("spikformer", {}, {"dim": 48, "heads": 6, "depth": 3}, "the narrower net has no such layer"),
    ("spikformer", {}, {"dim": 48, "heads": 6, "depth": 1}, "does not fit the model"),
    ("spikformer", {}, {"dim": 48, "heads": 6, "embedding": "published"}, "does not fit the model"),
    ("spikformer", {}, {"dim": 48, "heads": 6, "stem_channels": 8}, "the model needs"),
    ("dts_vit", {}, {"dim": 48, "heads": 6, "timesteps": 4}, "the model needs"),
])
def test_what_would_answer_otherwise_is_refused(tmp_path, name, more, to, what):
    config = config_of(name, 32, 4, **more)
    run, _ = run_of(config, tmp_path / "run")
    wide = wider(config, **to)
    before = {n: t.clone() for n, t in wide.state_dict().items()}
    with pytest.raises(DeployError) as e:
        start_from(run, wide, CLASSES)
    assert re.search(what, str(e.value)) and str(run / WEIGHTS) in str(e.value), e.value
    assert all(torch.equal(t, before[n]) for n, t in wide.state_dict().items())


def test_a_run_whose_settings_were_changed_is_refused(tmp_path):
    config = config_of("spikformer", 32, 4)
    run, _ = run_of(config, tmp_path / "run")
    write_yaml(config_of("spikformer", 40, 5), run / CONFIG)
    with pytest.raises(DeployError, match="not the settings that the weights were trained with"):
        start_from(run, wider(config, dim=64, heads=8), CLASSES)


def test_a_run_that_lacks_a_tensor_is_refused(tmp_path):
    config = config_of("spikformer", 32, 4)
    run, net = run_of(config, tmp_path / "run")
    del net.twins["block1/q"].norm.beta
    save_weights(run / WEIGHTS, net, Facts(config.hash, "random", SHAPE, CLASSES, 255))
    with pytest.raises(DeployError, match=r"block1/q\.norm\.beta is missing"):
        start_from(run, wider(config, dim=64, heads=8), CLASSES)
