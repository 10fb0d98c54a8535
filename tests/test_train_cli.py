"""``python train/run.py`` as a process: exit codes, no traceback, the place and a hint; one real run, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import hear_ctrl_c

ROOT = Path(__file__).parents[1]
RUN = [sys.executable, str(ROOT / "train" / "run.py")]


def run(cwd: Path, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run([*RUN, *args], cwd=cwd, capture_output=True, text=True, timeout=240)


def test_help_shows_units_and_defaults_without_torch(tmp_path):
    code = "import sys, runpy; sys.argv = ['run.py', '--help']\ntry: runpy.run_path(sys.argv.pop(0) and PATH, run_name='__main__')\n" \
           "except SystemExit: pass\nassert 'torch' not in sys.modules"
    code = code.replace("sys.argv.pop(0) and PATH", repr(RUN[1]))
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    for part in ("--model.timesteps", "default: 4", "--seed", "-c", "--resume", "--output"):
        assert part in out.stdout


@pytest.mark.parametrize(
    ("args", "code", "wanted"),
    [
        (["--model.timestep", "3"], 2, ["model.timesteps"]),
        (["--data.name", "mnist"], 2, ["digits"]),
        (["-c", "none.yml"], 1, ["none.yml", "no such settings file"]),
        (["-c", "bad.yml"], 1, ["bad.yml", "model.timestep", "did you mean", "train.lr"]),
        (["--model.timesteps", "17"], 1, ["model.timesteps", "16"]),
        (["--resume"], 1, ["no unfinished run"]),
        (["--resume", "runs/none"], 1, ["runs/none", "no such run"]),
        (["--data.name", "npz", "--data.path", "none.npz"], 1, ["none.npz", "no such file"]),
        (["--model.heads", "3"], 1, ["heads"]),
        (["--output", "/dev/null/x", "--train.epochs", "1"], 1, ["/dev/null/x"]),
    ],
)
def test_a_mistake_is_named_without_a_traceback(tmp_path, args, code, wanted):
    (tmp_path / "bad.yml").write_text("model: {timestep: 2}\ntrain: {lr: 9}\n")
    out = run(tmp_path, *args)
    assert out.returncode == code, out.stderr
    assert "Traceback" not in out.stderr
    for part in wanted + (["hint"] if code == 1 else []):
        assert part in out.stderr
    assert not (tmp_path / "runs").exists()


def test_a_real_run_stopped_by_a_signal_resumes_to_the_same_weights(tmp_path):
    settings = ["--train.epochs", "4", "--data.limit-train", "256", "--train.threads", "1"]
    whole = run(tmp_path, *settings, "--output", "whole")
    assert whole.returncode == 0, whole.stderr
    assert "wrote whole/" in whole.stdout and "python convert/export.py whole" in whole.stdout
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    part = subprocess.Popen([*RUN, *settings], cwd=tmp_path, text=True, preexec_fn=hear_ctrl_c, **pipes)
    last = tmp_path / "runs" / "digits-stas-1" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and part.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    part.send_signal(signal.SIGINT)
    out, err = part.communicate(timeout=120)
    assert part.returncode == 130 and "--resume runs/digits-stas-1" in out and "Traceback" not in err
    more = run(tmp_path, "--resume")
    assert more.returncode == 0 and "resumed after epoch" in more.stdout, more.stderr
    a, b = (read(tmp_path / p / "model.safetensors") for p in ("whole", "runs/digits-stas-1"))
    assert list(a) == list(b) and all(torch.equal(a[n], b[n]) for n in a)
    assert len(json.loads((last.parent / "metrics.json").read_text())["epochs"]) == 4
    again = run(tmp_path, "--output", "whole")
    assert again.returncode == 1 and "not overwritten" in again.stderr
    assert os.listdir(tmp_path / "runs") == ["digits-stas-1"]


def read(path: Path) -> dict[str, torch.Tensor]:
    from spikegate.train.checkpoint import read as read_tensors

    return read_tensors(path, "")[0]
