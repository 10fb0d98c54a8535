"""What a GPU would run is compiled for one, and every tensor of a training step is where it should be: without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
ROOT = Path(__file__).parents[1]
PUBLISHED = sorted((ROOT / "conf" / "published").glob("*.yml"))
CASES = [(p, "float16") for p in PUBLISHED] + [(ROOT / "conf" / "published" / "stas-4-384.yml", p) for p in ("bfloat16", "float32")]


def said(config: Path, *changes: str) -> list[dict]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.gpu_standin", config, *changes]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("config, precision", CASES, ids=[f"{c.stem}-{p}" for c, p in CASES])
def test_a_step_stays_on_the_gpu_and_its_kernels_compile(config, precision):
    changes = f"train.precision={precision}", "train.batch_size=4", "model.depth=1", "train.ema=0.9", "train.activity=0.1"
    flat, deployed = said(config, *changes)
    for row in (flat, deployed):
        assert row["device"] == "cuda:0" and row["crossings"] == [], row  # what crosses would wait, and break a CUDA graph
    assert all("gate" in name or name.endswith(".score") for name in flat["no_gradient"]), flat["no_gradient"]
    assert deployed["no_gradient"] == []
    assert deployed["kernels"]["forward"] > flat["kernels"]["forward"] > 0 and deployed["kernels"]["backward"] > 0
