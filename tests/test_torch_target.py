"""deploy/run.py --target torch: the trained net runs a test set with all that the integer reference records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spikegate.deploy.bundle import load_images, open_export
from spikegate.deploy.inference import infer
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from spikegate.train.tracing import trace_net
from tests.test_layers import NETS, lively

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"
torch.set_num_threads(1)


@pytest.mark.parametrize("name, change", NETS)
def test_every_counter_is_that_of_the_integer_reference(name, change):
    """Each kind of net: counts, masks, exits, logits, activity and sums of graded values."""
    net, x = lively(name, **change)
    net.set_phase("deployed")
    net.eval()
    with torch.no_grad():
        embedded = np.rint(net.stem(x).numpy()).astype(np.int32)
    ours = trace_net(net, x.numpy(), 4, counts=True, spikes=False)
    wanted = integer.run(net.graph(), embedded)
    assert ours.ops == wanted.ops and not ours.spikes and wanted.counts.sum() > 0
    for what in ("counts", "exit_step", "logits", "alive"):
        assert np.array_equal(getattr(ours, what), getattr(wanted, what)), what
    for what in ("activity", "values"):
        theirs = getattr(wanted, what)
        assert getattr(ours, what).keys() == theirs.keys()
        assert all(np.array_equal(getattr(ours, what)[n], theirs[n]) for n in theirs), what


def test_a_zoo_net_gives_the_same_record_on_both_targets():
    bundle = open_export(ZOO / "stas-exit-digits")
    images = load_images(bundle, "test:20")
    ours, wanted = (infer(bundle, images.x, images.y, target=t) for t in ("torch", "int"))
    assert np.array_equal(ours.counts, wanted.counts) and np.array_equal(ours.exit_step, wanted.exit_step)
    assert ours.accuracy == wanted.accuracy and ours.mean_tokens == wanted.mean_tokens and ours.meta["target"] == "torch"


@pytest.mark.parametrize("more, what", [
    (["--halt", "off"], "halting"), (["--device", "cuda:77"], "device"), (["--timing", "loihi"], "algorithmic"),
    (["--target", "int", "--device", "cpu"], "--device"),
])  # fmt: skip
def test_what_torch_cannot_do_is_said(more, what, tmp_path):
    args = [sys.executable, ROOT / "deploy" / "run.py", ZOO / "stas-digits", "--target", "torch", "--data", "test:2"]
    done = subprocess.run([*args, "--output", tmp_path, *more], capture_output=True, text=True)
    assert done.returncode == 1 and what in done.stderr and "hint" in done.stderr and "Traceback" not in done.stderr


def test_the_command_writes_what_the_others_write(tmp_path):
    args = [sys.executable, ROOT / "deploy" / "run.py", ZOO / "stas-digits", "--target", "torch", "--data", "test:8", "--json"]
    done = subprocess.run([*args, "--device", "cpu", "--output", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "result.json").read_text())
    assert facts["images"] == 8 and facts["chip_events_per_inference"] > 0 and facts["target"] == "torch"


def test_an_unknown_device_is_named():
    bundle = open_export(ZOO / "stas-digits")
    images = load_images(bundle, "test:2")
    with pytest.raises(DeployError, match="unknown"):
        infer(bundle, images.x, images.y, target="torch", device="tpu")
