"""Which files `bench/mutants.py` changes, which others are compiled anew with them, and which tests are asked, the likeliest first."""

from __future__ import annotations

import re
from pathlib import Path

from bench.mutate import Mutant

ROOT = Path(__file__).resolve().parents[1]
COMPILING = re.compile(r"^(from spikegate\.kernels\.compiling import .*)$", re.MULTILINE)
PATTERNS = {
    "semantics": (
        "spikegate/ops/*.py", "spikegate/ops/base/*.py", "spikegate/neurons/*.py", "spikegate/synapses/*.py", "spikegate/graph/signals.py",
    ),
    "kernels": tuple(f"spikegate/kernels/{n}.py" for n in ("gate_loops", "coincidences", "counting", "neuron_loops", "cuba_loops")),
    "shared": tuple(f"spikegate/kernels/{n}.py" for n in ("gather", "scatter", "interpreter", "instructions", "neuron_lanes", "lanes")),
}
KERNELS = ("kernels", "shared")
PAIRS = {  # kinds whose examples try a file that belongs to several ops
    "gating": "qk_ or sdsa or multiscale", "scoring": "token_gate or rectangle", "maps": "conv or current", "pairs": "token_m",
    "block": "block_", "base": "block_",
    "cuba": "lif or conv or membrane", "leaky": "block_", "resonator": "block_ or resonat", "sigma_delta": "block_",
    "synapse": "conv or current or max_pool or inject", "taps": "conv or dense or block_", "signals": "conv or inject or gate or current",
    "gate_loops": "gate or inject or level_conv or readout or relay or token_m", "coincidences": "attention",
    "counting": "conv or inject or gate or current", "neuron_loops": "block_ or axon", "cuba_loops": "lif or conv or membrane or attention",
    "gather": "conv or dense or current or readout or block_", "scatter": "conv or dense or level_conv or block_",
    "interpreter": "conv or gate or attention or readout", "instructions": "conv or gate or attention or readout",
    "neuron_lanes": "lif or conv or membrane or attention", "lanes": "conv or dense or attention or current",
}  # fmt: skip
DIRECT = {  # tests that call a kernel itself: they compile little
    "lanes": ("tests/test_gather.py", ""), "gather": ("tests/test_gather.py", ""), "scatter": ("tests/test_gather.py", ""),
    "coincidences": ("tests/test_gather.py", "attention"), "neuron_lanes": ("tests/test_neuron.py", ""),
    "cuba_loops": ("tests/test_neuron.py tests/test_gather.py", ""), "neuron_loops": ("tests/test_neuron.py", ""),
    "counting": ("tests/test_neuron.py", "counters"),
    "interpreter": ("tests/test_program.py", "not zoo"), "instructions": ("tests/test_program.py", "not zoo"),
}  # fmt: skip


def selection(m: Mutant) -> list[list[str]]:
    """Tests for a mutant, the likeliest first; a later group runs only if the ones before noticed nothing."""
    stem = Path(m.file).stem
    kinds = PAIRS.get(stem, stem)
    near = ["tests/test_witness.py", "-k", f"example and ({kinds}) and 7]"]
    form = f"({kinds}) and (event_by_event or does_not_depend or no_trace)"
    if m.function.startswith("accumulate") or m.function == "masked":
        return [["tests/test_ops.py", "-k", form]]
    direct = [[*DIRECT[stem][0].split(), *(["-k", DIRECT[stem][1]] if DIRECT[stem][1] else [])]] if stem in DIRECT else []
    if m.function == "as it is":
        return [*direct, near]
    files = ["tests/test_witness.py", "tests/test_witness_neuron.py", "tests/test_neuron.py", "tests/test_ops.py"]
    words = f"random or halting or chain or lavas_lif or overflow or voltage or (example and ({kinds})) or {form}"
    return [*direct, near, [*files, "-k", words]]


def callers(file: str) -> list[str]:
    """The kernel file and all that import it, directly or not: what is kept on disk of those holds its code as it was."""
    texts = {str(p.relative_to(ROOT)): p.read_text() for p in sorted((ROOT / "spikegate/kernels").glob("*.py"))}
    found = [file]
    for known in found:
        name = Path(known).stem
        calls = re.compile(rf"^from spikegate\.kernels(\.{name} import|\b.* import .*\b{name}\b)", re.MULTILINE)
        found += [f for f, text in texts.items() if f not in found and calls.search(text) and COMPILING.search(text)]
    return found
