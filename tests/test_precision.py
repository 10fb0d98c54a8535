"""Training with bfloat16 operands: exact where the chip's form must be, float32 in evaluation, resumable; batch mates never matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.train import checkpoint, loop, models
from spikegate.train.layers.conv import SpikingConv
from spikegate.train.layers.dynamics import MANT
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.layers.products import map_conv
from spikegate.train.settings.config import Config, ModelConfig
from spikegate.train.settings.runfolder import WEIGHTS

torch.set_num_threads(1)
SMALL = {"dim": 16, "depth": 1, "heads": 4, "stem_channels": 8, "attention_threshold": 1, "embedding_levels": 2}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 1), (3, 1), (3, 2)]))
def test_bfloat16_products_of_the_deployed_form_are_exact(seed, form):
    """Property: spikes and 8-bit mantissas give float32's sums to the bit; the gradients are bfloat16's, about 1 part in 100."""
    kernel, stride = form
    rng = np.random.default_rng(seed)
    spikes = (rng.random((2, 3, 36, 8)) < 0.3).astype(np.float32)
    mantissas = 2 * rng.integers(-127, 128, (6, 8, kernel, kernel)) / MANT
    to_y, results = None, []
    for half in (None, torch.bfloat16):
        x, w = torch.tensor(spikes, requires_grad=True), torch.tensor(mantissas, dtype=torch.float32, requires_grad=True)
        y = map_conv(x, w, torch.ones(6), (6, 6), stride, kernel // 2, half=half, exact=True)
        to_y = torch.tensor(rng.normal(size=y.shape), dtype=torch.float32) if to_y is None else to_y
        (y * to_y).sum().backward()
        results.append((y.detach(), x.grad, w.grad))
    (y0, *grads0), (y1, *grads1) = results
    assert torch.equal(y0, y1)
    for g0, g1 in zip(grads0, grads1):
        assert (g0 - g1).norm() <= 0.02 * g0.norm()
        assert not torch.equal(g0, g1)  # it did work in bfloat16


def small_net(name: str, precision: str):
    torch.manual_seed(5)
    net = models.build(ModelConfig.model_validate({"name": name, **SMALL}), (1, 8, 8), 5, 16)
    net.set_precision(precision)
    return net


IMAGES = torch.randint(0, 17, (6, 1, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("phase", ["float", "deployed"])
@pytest.mark.parametrize("name", ["spikformer", "at_snn"])
def test_precision_changes_training_alone(name, phase):
    """Evaluation is float32 whatever the option; so is the deployed forward pass in training."""
    logits = {}
    for precision in ("float32", "bfloat16"):
        net = small_net(name, precision)
        net.set_phase(phase)
        net.eval()
        assert not any(twin.halved for twin in net.named.values())
        logits[precision, "eval"] = net(IMAGES).logits
        net.train()
        logits[precision, "train"] = net(IMAGES).logits
    assert torch.equal(logits["float32", "eval"], logits["bfloat16", "eval"])
    if phase == "deployed":
        assert torch.equal(logits["float32", "train"], logits["bfloat16", "train"])


def test_float_training_does_use_bfloat16():
    layer = SpikingConv(8, 8, 1, (3, 3))
    layer.name = "layer"
    x = (torch.rand(2, 4, 9, 8) < 0.5).float()
    seen = []
    for layer.operands in (None, torch.bfloat16):
        layer.prepare()
        seen.append(map_conv(x, layer.weight, None, (3, 3), 1, 0, half=layer.halved, exact=False))
    assert not torch.equal(*seen) and torch.allclose(*seen, rtol=0.03, atol=0.05)


@pytest.mark.parametrize("phase", ["float", "deployed"])
def test_logits_are_equal_whatever_the_batch(phase):
    """Alone, in any company and order, in evaluation of a net that may train in bfloat16."""
    net = small_net("at_snn", "bfloat16")
    net.train()
    for _ in range(5):
        net(IMAGES)
    for module in net.modules():
        if isinstance(module, FoldedNorm):
            module.beta.data += module.gamma.data  # so that every layer spikes
    net.set_phase(phase)
    net.eval()
    with torch.no_grad():
        whole = net(IMAGES).logits
        assert whole.unique(dim=0).shape[0] > 1
        same = torch.equal if phase == "deployed" else lambda a, b: torch.allclose(a, b, atol=1e-5)  # float sums depend on blocking
        assert same(torch.cat([net(x[None]).logits for x in IMAGES]), whole)
        assert same(net(IMAGES.flip(0)).logits.flip(0), whole)


def test_training_in_bfloat16_resumes_to_the_same_bits(monkeypatch, tmp_path):
    """Stopped after each epoch, of either phase, or never: the same weights."""
    monkeypatch.chdir(tmp_path)

    def settings_of(**more) -> Config:
        train = {"epochs": 3, "threads": 1, "precision": "bfloat16", "float_share": 0.67}
        return Config.model_validate({"data": {"limit_train": 130}, "model": {"name": "at_snn", **SMALL}, "train": train} | more)

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return checkpoint.read(folder / WEIGHTS, "")[0]

    whole = weights(loop.fit(settings_of(output="whole")))
    real = loop._epoch
    for more in ({"output": "parts"}, {"resume": "parts"}):
        left = iter([True])

        def stop(*args, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(loop, "_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            loop.fit(settings_of(**more))
    monkeypatch.setattr(loop, "_epoch", real)
    parts = weights(loop.fit(settings_of(resume="parts")))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)
