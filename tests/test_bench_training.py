"""The training bench compares like with like: same spikes and gradients from every program, and its command keeps the house's manners."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import timing
from bench.contestants import PLAIN, PlainLayer, Shape, steps

ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)


def command(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / "bench" / "training.py", *args], capture_output=True, text=True)


@pytest.mark.parametrize("shape", [Shape(8, 5, 3, 4, 3), Shape(8, 4, 1, 3, 2)])
def test_programs_compute_the_same_layer(shape):
    contestants, left_out = steps(shape)
    spikes = {name: step() for name, step in contestants.items()}
    wanted = (shape.timesteps, shape.batch, shape.channels)
    for name, found in spikes.items():
        found = found.flatten(3)
        assert found.shape == (*wanted, shape.grid**2), name
        assert 0.005 < float(found.mean()) < 0.5 and set(found.unique().tolist()) == {0.0, 1.0}, name
    plain = spikes[PLAIN].flatten(3)
    assert torch.equal(spikes["spikegate, float"].flatten(3), plain)
    if not left_out:
        assert torch.equal(spikes["spikingjelly, LIFNode"].flatten(3), plain)
    assert torch.equal(spikes["spikegate, deployed"], spikes["spikegate, deployed, bfloat16"])


def test_the_plain_layers_surrogate_is_ours():
    """Same gradients, so that no program is given less to compute."""
    torch.manual_seed(2)
    from spikegate.train.layers.conv import SpikingConv

    ours = SpikingConv(6, 6, 3, (4, 4))
    plain = PlainLayer(ours.weight.detach(), ours.block.neuron.threshold)
    from bench.contestants import _ours

    ours.name = "layer"
    x = (torch.rand(4, 2, 6, 4, 4) < 0.3).float()
    grad = torch.randn_like(x)
    plain(x).backward(grad)
    _ours(ours, x.flatten(3).transpose(2, 3)).backward(grad.flatten(3).transpose(2, 3))
    assert torch.allclose(ours.block.synapse.weight.grad.squeeze(-1), plain.weight.grad, rtol=1e-3, atol=1e-4)


def test_contestants_take_turns_and_the_first_turn_does_not_count():
    calls = []
    middle, times = timing.medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert middle.keys() == {"a", "b"} and all(len(t) == 3 for t in times.values())


def test_the_command_measures_prints_json_and_keeps_the_other_part(tmp_path):
    path = tmp_path / "new" / "training.json"
    path.parent.mkdir()
    path.write_text('{"layers": {"rows": []}}')
    args = ("nets", "--datasets", "digits", "--nets", "at_snn", "--batch", "4", "--net-repeats", "1", "--output", str(path))
    done = command(*args, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads(path.read_text()) and found["layers"] == {"rows": []}
    rows = found["nets"]["rows"]
    assert len(rows) == 6 and all(r["images_per_s"] > 0 for r in rows) and found["nets"]["machine"]["threads"] == 1


@pytest.mark.parametrize("args, wanted", [(("--nets", "vgg"), "vgg"), (("speed",), "speed"), (("--repeats", "0"), "repeats")])
def test_mistakes_are_named_without_a_traceback(args, wanted, tmp_path):
    done = command(*args, "--output", str(tmp_path / "x.json"))
    assert done.returncode == 1 and wanted in done.stderr and "hint" in done.stderr and "Traceback" not in done.stderr
