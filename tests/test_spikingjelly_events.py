"""SpikingJelly models of event recordings [T, N, 2, H, W]: no host, the first layer is on chip, accuracy kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from spikegate.convert.spikingjelly.importing import Pixels, import_model
from spikegate.convert.spikingjelly.models import read
from spikegate.data.parts import binning_of, load_parts
from spikegate.deploy.bundle import open_export
from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.manifest import read_manifest
from tests.test_events import moving_bars

FRAMES = {"frames": 4, "bin_by": "time", "most": 1}


class Camera(nn.Module):
    def __init__(self, **settings) -> None:
        super().__init__()
        torch.manual_seed(1)

        def lif() -> nn.Module:
            return neuron.LIFNode(v_threshold=0.5, surrogate_function=surrogate.ATan(), detach_reset=True, **settings)

        maps = layer.Conv2d(2, 8, 3, 2, 1, bias=False), layer.BatchNorm2d(8), lif(), layer.MaxPool2d(2)
        self.body = nn.Sequential(*maps, layer.Flatten(), layer.Linear(128, 16), lif(), layer.Linear(16, 2))
        functional.set_step_mode(self, "m")

    def forward(self, frames):
        return self.body(frames).mean(0)


@pytest.mark.timeout(600)
def test_a_trained_net_of_events_keeps_its_accuracy_and_has_no_host(tmp_path):
    np.savez(tmp_path / "bars.npz", **moving_bars(np.random.default_rng(0)))
    data = {"name": "events", "path": str(tmp_path / "bars.npz"), **FRAMES}
    parts = load_parts("events", tmp_path / "bars.npz", binning=binning_of(data))
    model = Camera()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x, y = torch.from_numpy(parts.train.x).float(), torch.from_numpy(parts.train.y)
    for epoch in range(5):
        for chosen in np.array_split(np.random.default_rng(epoch).permutation(len(x)), 6):
            functional.reset_net(model)
            loss = cross_entropy(model(x[chosen].transpose(0, 1)), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    done = import_model(model, tmp_path / "run", data, quiet=True)
    assert done.float_accuracy > 0.9 and abs(done.int_accuracy - done.float_accuracy) <= 1 / len(parts.test)
    manifest = read_manifest(done.folder)
    assert manifest["host_macs"] == 0 and manifest["image_shape"] == [4, 2, 16, 16] and not (done.folder / "embedding.onnx").exists()
    assert manifest["recording_ms"] > 0 and [op.kind for op in done.graph.ops.values()][:2] == ["conv", "max_pool"]
    bundle = open_export(done.folder)
    record = integer.run(bundle.graph, bundle.host.encode(parts.test.x))
    assert float((record.prediction == parts.test.y).mean()) == done.int_accuracy
    with pytest.raises(DeployError, match="events are spikes, not pixels"):
        import_model(model, tmp_path / "run", data, pixels=Pixels((0.5,), (0.5,)), quiet=True)


def test_frames_are_read_in_time_and_counts_refused():
    frames = (torch.rand(2, 4, 2, 16, 16) < 0.3).float()
    plan, _, form = read(Camera(), frames, None)
    assert form == "events" and plan.events and plan.timesteps == 4 and plan.layers["body.2"].inputs[0].sources == ("input",)
    assert read(Camera(v_reset=None), frames, None)[0].layers["body.6"].neuron.soft
    with pytest.raises(DeployError, match="other values than 0 and 1"):
        read(Camera(), frames * 2, None)
    backwards = Camera()
    backwards.forward = lambda x: Camera.forward(backwards, x.flip(0))
    with pytest.raises(DeployError, match="axis 0 mixes samples into time"):
        read(backwards, frames, None)
    stepped = Camera()
    functional.set_step_mode(stepped, "s")
    with pytest.raises(DeployError, match="does not take frames"):
        read(stepped, frames, None)
