"""What the mutation check compiles anew: without the callers of a changed kernel it would try the source as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.mutants import COMPILING, PATTERNS, ROOT, callers

KERNELS = ROOT / "spikegate" / "kernels"


@pytest.mark.parametrize("part", ["kernels", "shared"])
def test_every_kernel_file_of_the_sample_is_there_and_compiled(part):
    for pattern in PATTERNS[part]:
        assert len(COMPILING.findall((ROOT / pattern).read_text())) == 1, pattern


def test_the_callers_of_a_kernel_are_those_that_import_it():
    found = {Path(f).stem for f in callers("spikegate/kernels/scatter.py")}
    assert found == {"scatter", "gather", "instructions", "interpreter"}
    assert callers("spikegate/kernels/interpreter.py") == ["spikegate/kernels/interpreter.py"]
    assert "spikegate/kernels/interpreter.py" in callers("spikegate/kernels/neuron_lanes.py")
