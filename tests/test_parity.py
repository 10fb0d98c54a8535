"""The twin in SpikingJelly is the same net: equal weights, spikes in, spikes out, layer by layer; and the bench keeps what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("spikingjelly")

from bench import parity, parity_rows
from bench.contestants import statistics_of_last_batch
from bench.jelly_twin import Jelly, pairs, transplant
from spikegate.train import models
from spikegate.train.layers.base import Moment

ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)


@pytest.mark.parametrize("row", ["cifar10-8", "cifar10-8-published"])
def test_layers_of_equal_weights_fire_equally(row):
    model = parity_rows.settings(row, "spikegate", 0, None).model
    torch.manual_seed(0)
    net, jelly = models.build(model, (3, 8, 8), 10, 255), Jelly(model, (3, 8, 8), 10, 255)
    net.train()
    with statistics_of_last_batch(net), torch.no_grad():
        net(torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8))
    net.eval()
    transplant(net, jelly)
    jelly.eval()
    assert sum(p.numel() for p in jelly.parameters()) == net.parameter_count - 1  # the read-out's scale
    for name, (there, here) in pairs(jelly, net).items():
        if name == "stem":
            continue
        tokens = here.grid[0] * here.grid[1]
        x = (torch.rand(4, 6, tokens, here.weight.shape[1]) < 0.3).float()
        here.prepare()
        ours, theirs = here({"x": [x]}, Moment(1, 4, 4)), there(x)
        assert 0.001 < float(theirs.detach().mean()) < 0.999, name
        assert float((ours != theirs).float().mean()) < 1e-3, name  # rounding near the threshold
    spikes = (torch.rand(2, 3, jelly.tokens, model.dim) < 0.3).float()
    readout = net.twin("readout")
    readout.prepare()
    ours = readout({"x": [spikes.repeat(2, 1, 1, 1)]}, Moment(1, 4, 4))[-1] * readout.log_scale.exp()
    mean = spikes.mean(0)
    assert torch.allclose(ours, jelly.head(mean.mean(1) if jelly.shared else mean.flatten(1)), rtol=1e-4, atol=1e-5)


def test_a_training_is_kept_shown_and_not_done_again(tmp_path):
    out = tmp_path / "parity.json"
    found = {"accuracy": 0.9, "deployed": 0.89, "first_loss": 2.3, "seconds": 1.0, "epochs": [{"validation": 0.5}, {"validation": 0.9}]}
    rows = {"digits": {p: {"0": found | {"settings": parity_rows.stamp("digits", p, 0)}} for p in parity.BESIDE}}
    out.write_text(json.dumps(rows))
    command = [sys.executable, ROOT / "bench" / "parity.py", "digits", "--seeds", "1", "--output", out]
    done = subprocess.run([*command, "--markdown"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| digits | spikegate | 1 | 2.30 | 90.0 | +0.0 | 89.0 | 1 | 50 90 |" in done.stdout
    assert json.loads(out.read_text()) == rows
    odd = subprocess.run([*command[:2], "digit", "--output", out], capture_output=True, text=True)
    assert odd.returncode == 1 and "cifar10-8" in odd.stderr


def test_one_short_training_of_each_program(monkeypatch):
    monkeypatch.setitem(parity_rows.ROWS["digits"], "train.epochs", 1)
    monkeypatch.setitem(parity_rows.ROWS["digits"], "data.limit_train", 100)
    for program in parity.BESIDE:
        found = parity_rows.train("digits", program, 0, None, lambda text: None)
        assert len(found["epochs"]) == 1 and 0 <= found["accuracy"] <= 1 and abs(found["first_loss"] - 2.3) < 0.3
        assert (found["deployed"] is None) == (program == "spikingjelly")
