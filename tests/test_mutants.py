"""What the mutation check compiles anew: without the callers of a changed kernel it would try the source as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.mutant_tests import COMPILING, DIRECT, PAIRS, PATTERNS, ROOT, callers
from bench.mutants import signature
from bench.mutate import mutants

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


def test_each_kernel_file_has_tests_that_are_asked_first():
    for stem in {Path(f).stem for part in ("kernels", "shared") for f in PATTERNS[part]}:
        assert stem in PAIRS, stem
        asked = DIRECT[stem][0].split() if stem != "gate_loops" else []
        assert all((ROOT / file).is_file() for file in asked), stem  # gates are small ops: their examples come first


def test_a_survivor_is_found_again_when_its_line_moves():
    file = "spikegate/kernels/counting.py"
    text = (ROOT / file).read_text()
    moved = "\n\n" + text
    found, later = mutants(file, text), mutants(file, moved)
    assert [m.source(text) for m in found] == [m.source(moved) for m in later]
    assert all(a.name != b.name for a, b in zip(found, later))
    assert signature(file) == signature(file)
