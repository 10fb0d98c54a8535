"""Nothing in a net assumes where its tensors lie: checked without a GPU, on torch's device of shapes alone."""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from spikegate.graph.ir import DeployError
from spikegate.train import devices
from spikegate.train.criterion import loss_of
from spikegate.train.layers.timestep_gate import keep_open
from spikegate.train.settings.config import Config
from tests.test_layers import NETS, lively


class OneDevice(TorchFunctionMode):
    """Refuses any call whose tensors lie on two devices, and any read of a number by the host: a GPU would wait, a graph could not be."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        name = getattr(func, "__name__", "")
        assert len(found) <= 1, f"{name} mixes {sorted(found)}"
        assert "meta" not in found or name not in ("item", "tolist", "__bool__", "__int__", "__float__", "numpy", "cpu"), f"{name} reads"
        return func(*args, **kwargs)


@pytest.mark.parametrize("phase", ["float", "deployed"])
@pytest.mark.parametrize("name, change", NETS)
def test_a_step_never_leaves_its_device(name, change, phase):
    net, x = lively(name, **change)
    assert net.layout  # read from the integers once, before the first step
    settings = Config.model_validate({"train": {"activity": 0.1, "ponder_below": 1.0, "alive_target": 0.5}}).train
    net = net.to("meta")
    net.set_phase(phase)
    net.train()
    x, labels = x.to("meta"), torch.zeros(len(x), dtype=torch.int64, device="meta")
    with OneDevice():
        out = net(x)
        loss_of(net, out, x, labels, settings, None).backward()
        if net.masks and phase == "deployed":
            keep_open(net.masks, 0.6)
        net.eval()
        with torch.no_grad():
            net(x)
    assert out.logits.device.type == "meta" and out.logits.shape == (len(x), 5)


def test_the_check_sees_what_it_is_for():
    here, there = torch.ones(2), torch.ones(2, device="meta")
    with OneDevice(), pytest.raises(AssertionError, match="mixes"):
        there[here.long()]
    with OneDevice(), pytest.raises(AssertionError, match="reads"):
        bool(there.sum())


MISTAKES = [("gpu", "unknown"), ("cpu:1", "unknown"), ("cuda:x", "unknown"), ("cuda:", "no GPU"), ("cuda:99", "GPU")]


@pytest.mark.parametrize("name, what", MISTAKES)
def test_a_device_that_is_not_there_is_named(name, what):
    if name == "cuda:" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(DeployError, match=what):
        devices.resolve(name)


def test_auto_takes_what_there_is():
    assert devices.resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert devices.resolve("cpu") == torch.device("cpu")
