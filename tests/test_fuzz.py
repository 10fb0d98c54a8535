"""A slice of the fuzzing campaign (tests/fuzz/run.py) on the kept corpus: nothing but results and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_changed_files_are_run_rightly_or_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/fuzz/run.py", "--cases", "400", "--out", tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    found = json.loads((tmp_path / "summary.json").read_text())
    assert done.returncode == 0 and found["cases"] == 400, found["bugs"]
    assert found["kinds"]["ran"] > 20 and found["kinds"]["refused"] > 200


def test_a_failure_is_told_from_a_refusal():
    from spikegate.errors import DeployError
    from tests.fuzz.cases import Differs
    from tests.fuzz.run import judged

    def raising(error):
        def main():
            raise error

        return main

    assert judged(lambda: None, False)[0] == "ran" and judged(lambda: None, True)[0] == "accepted"
    assert judged(raising(DeployError("x", "y", "z")), True)[0] == "refused"
    assert judged(raising(DeployError("x", "y" * 300 + "\n" * 3000, "z")), False)[0] == "ugly"
    assert judged(raising(KeyError("x")), False)[0] == "traceback" and judged(raising(MemoryError()), False)[0] == "memory"
    assert judged(raising(Differs("x")), False)[0] == "differs"
    import warnings

    assert judged(lambda: warnings.warn("cut", stacklevel=1), False)[0] == "noisy"


@pytest.mark.parametrize("number", range(3))
def test_a_case_can_be_made_again(tmp_path, number):
    import numpy as np

    from tests.fuzz.nets import NetX

    files = []
    for k in range(2):
        (tmp_path / str(k)).mkdir()
        NetX(tmp_path).case(np.random.default_rng([0, number]), tmp_path / str(k))
        files.append((tmp_path / str(k) / "m.net").stat().st_size)
    assert files[0] == files[1]
