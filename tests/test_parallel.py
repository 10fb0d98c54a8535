"""Several processes train the net that one would: same batches, sums over all of them; any number goes on with a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from spikegate.train import checkpoint
from spikegate.train.settings.runfolder import CHECKPOINT, METRICS, WEIGHTS

ROOT = Path(__file__).parents[1]
SMALL = ["--data.limit_train", "101", "--model.name", "at_snn", "--model.dim", "16", "--model.depth", "1", "--train.batch_size", "34",
         "--train.threads", "1", "--train.device", "cpu"]  # fmt: skip  # 3 batches of 34, 34 and 33 images: unequal parts


def command(count: int, *args: str) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    return [sys.executable, *launcher, str(ROOT / "train" / "run.py"), *args]


def train(count: int, *args: str) -> subprocess.CompletedProcess:
    done = subprocess.run(command(count, *args), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(run / WEIGHTS, "")[0]


def test_two_processes_train_what_one_does_and_one_goes_on_with_it(tmp_path):
    args = [*SMALL, "--train.epochs", "2", "--train.lr", "1e-4", "--train.accumulate", "2"]
    one = train(1, *args, "--output", str(tmp_path / "one"))
    two = train(2, *args, "--output", str(tmp_path / "two"))
    assert two.stdout.count("epoch 1/2") == one.stdout.count("epoch 1/2") == 1 and "2 processes" in two.stdout
    facts = [json.loads((tmp_path / run / METRICS).read_text()) for run in ("one", "two")]
    for a, b in zip(*(f["epochs"] for f in facts)):
        assert np.isclose(a["loss"], b["loss"], rtol=1e-3) and a["learning_rate"] == b["learning_rate"]
        assert abs(a["train_accuracy"] - b["train_accuracy"]) <= 0.03
    a, b = (weights(tmp_path / run) for run in ("one", "two"))
    assert a.keys() == b.keys() and facts[1]["machine"]["processes"] == 2
    far = [n for n in a if a[n].is_floating_point() and not torch.allclose(a[n], b[n], rtol=1e-3, atol=1e-4)]
    assert not far, far


def test_a_killed_process_ends_the_others_with_a_clear_error_and_the_run_goes_on(tmp_path):
    run = tmp_path / "run"
    args = command(2, *SMALL, "--train.epochs", "60", "--output", str(run))
    started = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not (run / CHECKPOINT).exists() and time.monotonic() < until and started.poll() is None:
            time.sleep(0.1)
        os.kill(_worker(started.pid, 1), signal.SIGKILL)
        _, errors = started.communicate(timeout=60)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode != 0
    assert "is gone" in errors or "last.ckpt holds epoch" in errors + _, errors
    kept = checkpoint.read(run / CHECKPOINT, "")[1]["state"]["epoch"]
    assert kept >= 1 and not (run / WEIGHTS).exists()
    begun = (run / "config.yml").read_text()
    assert "epochs: 60" in begun
    resumed = subprocess.Popen(command(1, "--resume", str(run)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while checkpoint.read(run / CHECKPOINT, "")[1]["state"]["epoch"] <= kept and time.monotonic() < until:
            assert resumed.poll() is None, resumed.stderr.read()
            time.sleep(0.2)
    finally:
        resumed.kill()
        out, _ = resumed.communicate()
    assert checkpoint.read(run / CHECKPOINT, "")[1]["state"]["epoch"] > kept
    assert f"resumed after epoch {kept}" in out


def _worker(launcher: int, rank: int) -> int:
    """Process id of a rank."""
    for child in map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()):
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return child
    raise AssertionError("no such process")
