"""The GPU bench runs without a GPU on a tiny size: rows, a time limit, and the check by Triton's interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from bench import gpu_rows
from bench.gpu_rows import Case
from spikegate.train.settings.options import read_yaml

ROOT = Path(__file__).parents[1]
TINY = {"data": {"name": "cifar10"}, "model": {"name": "spikformer", "dim": 16, "depth": 1, "heads": 2, "stem_channels": 8,
        "stem_stride": 4, "timesteps": 4}, "train": {"threads": 1}}  # fmt: skip
torch.set_num_threads(1)


def command(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / "bench" / "gpu.py", *map(str, args)], capture_output=True, text=True, timeout=250)


@pytest.mark.parametrize("program", ["spikegate", "spikingjelly torch"])
def test_a_row_is_a_whole_step(program):
    if program != "spikegate":
        pytest.importorskip("spikingjelly")
    row = gpu_rows.measure(TINY, Case(program, "float", 1, 4, "float32"), torch.device("cpu"), 0.0)
    assert row["images_per_s"] > 0 and row["steps"] == 3 and row["peak_bytes"] > 1 << 20


def test_rows_are_saved_one_by_one_and_none_begins_too_late(tmp_path):
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(TINY))
    args = ("--config", tmp_path / "tiny.yml", "--device", "cpu", "--batches", "4", "--timesteps", "1", "--precisions", "float32")
    done = command(*args, "--seconds", "0", "--output", tmp_path / "gpu.json", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert rows == json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {r["program"] for r in rows} == {"spikegate", *(f"spikingjelly {b}" for b in gpu_rows.JELLY)}
    assert all(r["left_out"] == "no time left" for r in rows)


def test_the_check_holds_by_tritons_interpreter():
    rows = list(gpu_rows.check(torch.device("cpu"), "triton", ("spikformer",)))
    assert [r["precision"] for r in rows] == ["float32", "bfloat16", "float16"] and all(r["good"] and r["equal"] for r in rows), rows


def test_the_published_config_is_what_the_bench_runs():
    model = read_yaml(ROOT / "conf" / "published" / "spikformer-4-384.yml")["model"]
    assert (model["dim"], model["depth"], model["timesteps"]) == (384, 4, 4)
