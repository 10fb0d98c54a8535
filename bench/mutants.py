"""python bench/mutants.py: changes one constant or comparison of an op, neuron, synapse or kernel at a time and counts what tests notice.

Each mutant runs in a forked process that sees the changed source in memory; no source file is written. The kernels of a changed file,
and all that call them, are compiled anew and not kept; others come from their place on disk.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import contextlib
import importlib.abc
import importlib.machinery
import json
import random
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.mutate import Mutant, chosen, mutants
from spikegate.command import cli
from spikegate.errors import DeployError
from spikegate.files import atomic

ROOT = Path(__file__).resolve().parents[1]
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


OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "timeout=", "-o", "filterwarnings=ignore")
ABOVE_OPS = ("ops", "engine", "formats", "train", "convert", "deploy", "hw_sim")
COMPILING = re.compile(r"^(from spikegate\.kernels\.compiling import .*)$", re.MULTILINE)
SAME = [Mutant("spikegate/ops/conv.py", 1, 0, "as it is", "", "")]


@dataclass
class Args:
    """The score is the share of mutants that at least one test notices; one that makes the tests hang is noticed."""

    sample: int = 160
    """Mutants of ops, neurons and synapses."""
    kernels: int = 30
    """Mutants of compiled loops."""
    shared: int = 0
    """Mutants of the kernels that others call. Each takes minutes: its callers are compiled anew, too."""
    seed: int = 1
    """Of the sample."""
    limit_s: float = 300
    """Most that the tests of one mutant may take."""
    minutes: float = 60
    """No mutant is begun after this time."""
    only: str | None = None
    """Part of a mutant's name: run these alone, and keep nothing."""
    again: bool = False
    """Try those survivors of the kept result that are not equal to the source once more, after tests were added."""
    output: Path = ROOT / "bench" / "results" / "mutants.json"
    """The result; reasons that stand there are kept for mutants that survive again."""


def main() -> None:
    args = cli.parse(Args, __doc__ or "")
    begin, rows = time.monotonic(), []
    kept: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {"survivors": [], "noticed_by": {}}
    survivors = [s["mutant"] for s in kept["survivors"]]
    doubtful = [s["mutant"] for s in kept["survivors"] if not s["reason"].startswith("equal")]
    for part, count, share in (("semantics", args.sample, 0.75), ("kernels", args.kernels, 1), ("shared", args.shared, 1)):
        files = sorted(str(p.relative_to(ROOT)) for pattern in PATTERNS[part] for p in ROOT.glob(pattern))
        found = [m for f in files for m in mutants(f, (ROOT / f).read_text())]
        if args.again or args.only is not None:
            sample = [m for m in found if (m.name in doubtful if args.again else str(args.only) in m.name)]
        else:
            sample = list(chosen(found, count, random.Random(args.seed))) if count else []
        left = share * args.minutes * 60 - (time.monotonic() - begin)
        if sample:
            rows += in_process(part, sample, len(found), args.limit_s, left)
    if args.again:
        tried = {r["mutant"] for r in rows}
        rows += [{"mutant": m, "outcome": said} for m, said in kept["noticed_by"].items()]
        rows += [{"mutant": m, "outcome": "survived"} for m in survivors if m not in tried]
    result = summary(rows, kept, args)
    print(json.dumps({k: v for k, v in result.items() if k != "noticed_by"}, indent=1))
    if args.only is None:
        with atomic(args.output) as part_file:
            part_file.write_text(json.dumps(result, indent=1) + "\n")


def summary(rows: list[dict[str, Any]], kept: dict[str, Any], args: Args) -> dict[str, Any]:
    """The file that is kept. A mutant that computes the same as the source is no fault of the tests, and says so in its reason."""
    reasons = {s["mutant"]: s["reason"] for s in kept["survivors"]}
    survivors = [{"mutant": r["mutant"], "reason": reasons.get(r["mutant"], "")} for r in rows if r["outcome"] == "survived"]
    noticed, same = len(rows) - len(survivors), sum(s["reason"].startswith("equal") for s in survivors)
    fresh: dict[str, Any] = {
        "command": f"python bench/mutants.py --sample {args.sample} --kernels {args.kernels} --seed {args.seed} --minutes {args.minutes:g}",
        "possible": {r["part"]: r["possible"] for r in rows if "part" in r},
    }
    return {
        **({k: kept[k] for k in fresh if k in kept} if args.again else fresh), "tried": len(rows), "noticed": noticed,
        "score": round(noticed / max(1, len(rows)), 4), "equal_to_the_source": same,
        "score_without_equal": round(noticed / max(1, len(rows) - same), 4), "survivors": survivors,
        "noticed_by": {r["mutant"]: r["outcome"] for r in rows if r["outcome"] != "survived"},
    }  # fmt: skip


def in_process(part: str, sample: list[Mutant], possible: int, limit_s: float, left_s: float) -> list[dict[str, Any]]:
    """Outcomes of a part's sample, from a process of its own that has imported what the tests need."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        preload()
        end = time.monotonic() + left_s
        with os.fdopen(writing, "w") as out:
            for m in [Mutant(f, 1, 0, "as it is", "", "") for f in dict.fromkeys(m.file for m in sample if part in KERNELS)] or SAME:
                said = outcome(m, 3 * limit_s)
                print(f"unchanged, {m.file}: {said}", file=sys.stderr, flush=True)
                if said != "survived":
                    out.write(json.dumps({"broken": f"{m.file}: {said}"}) + "\n")
                    sample = []
            for m in sample:
                if time.monotonic() < end:
                    began = time.monotonic()
                    row = {"part": part, "possible": possible, "mutant": m.name, "outcome": outcome(m, limit_s)}
                    print(f"{time.monotonic() - began:5.0f} s  {row['outcome'][:60]:60s}  {m.name}", file=sys.stderr, flush=True)
                    out.write(json.dumps(row) + "\n")
                    out.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as given:
        rows = [json.loads(line) for line in given]
    os.waitpid(child, 0)
    for row in rows:
        if "broken" in row:
            raise DeployError("mutants", f"a test fails before anything is changed: {row['broken']}", "mend it first")
    return rows


def preload() -> None:
    """Import what the tests need and load the kernels, once for all mutants."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import hypothesis
    import onnxruntime  # noqa: F401
    import pytest
    import scipy  # noqa: F401

    from spikegate.deploy.lava import lava_import  # noqa: F401

    quick = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # which numbers are the smallest that fail is not asked
    hypothesis.settings.register_profile("mutants", phases=quick, database=None)
    hypothesis.settings.load_profile("mutants")
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        pytest.main([*OPTIONS, "tests/test_witness.py", "-k", "example and 7]"])
    forget("tests")


def forget(*names: str) -> None:
    """Have these packages imported anew."""
    for name in [n for n in sys.modules if any(n == given or n.startswith(f"{given}.") for given in names)]:
        del sys.modules[name]


def outcome(m: Mutant, limit_s: float) -> str:
    """Which test notices a mutant, or ``survived``."""
    for tests in selection(m):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setsid()
            try:
                trial(m, tests, writing)
            finally:
                os._exit(0)
        os.close(writing)
        said = answer(reading, child, limit_s)
        if said != "survived":
            return said
    return "survived"


def answer(reading: int, child: int, limit_s: float) -> str:
    """What the child found; a child that says nothing in time is ended."""
    import select

    ready, _, _ = select.select([reading], [], [], limit_s)
    text = os.read(reading, 4096).decode() if ready else "time limit"
    os.close(reading)
    if not ready:
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return text or "crash"


def trial(m: Mutant, tests: list[str], writing: int) -> None:
    """In the child: run the tests on the changed source and write the name of the first that fails."""
    import pytest

    # A changed op needs its readers anew; anything below it, all of ours.
    forget(*(f"spikegate.{n}" for n in ABOVE_OPS) if m.file.startswith("spikegate/ops/") else ("spikegate",))
    for file in callers(m.file) if m.file.startswith("spikegate/kernels/") else [m.file]:
        text = (ROOT / file).read_text()
        text = m.applied(text) if file == m.file and m.new != m.old else text
        if file.startswith("spikegate/kernels/"):
            text, found = COMPILING.subn(r"\1; compiled = inlined = __import__('numba').njit(nogil=True)", text)
            assert found == 1, file
        sys.meta_path.insert(0, Changed(file[: -len(".py")].replace("/", "."), ROOT / file, text))
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    first: list[str] = []

    class Listener:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                first.append(report.nodeid)

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed:
                first.append(report.nodeid)

    code = pytest.main([*OPTIONS, *tests], plugins=[Listener()])
    said = first[0] if first else "survived" if int(code) in (0, 5) else f"exit code {int(code)}"
    os.write(writing, said.encode())


def callers(file: str) -> list[str]:
    """The kernel file and all that import it, directly or not: what is kept on disk of those holds its code as it was."""
    texts = {str(p.relative_to(ROOT)): p.read_text() for p in sorted((ROOT / "spikegate/kernels").glob("*.py"))}
    found = [file]
    for known in found:
        name = Path(known).stem
        calls = re.compile(rf"^from spikegate\.kernels(\.{name} import|\b.* import .*\b{name}\b)", re.MULTILINE)
        found += [f for f, text in texts.items() if f not in found and calls.search(text) and COMPILING.search(text)]
    return found


def selection(m: Mutant) -> list[list[str]]:
    """Tests for a mutant, the likeliest first; a later group runs only if the ones before noticed nothing."""
    stem = Path(m.file).stem
    kinds = PAIRS.get(stem, stem)
    near = ["tests/test_witness.py", "-k", f"example and ({kinds}) and 7]"]
    form = f"({kinds}) and (event_by_event or does_not_depend or no_trace)"
    if m.function.startswith("accumulate") or m.function == "masked":
        return [["tests/test_ops.py", "-k", form]]
    if m.function == "as it is":
        return [near]
    files = ["tests/test_witness.py", "tests/test_witness_neuron.py", "tests/test_neuron.py", "tests/test_ops.py"]
    return [near, [*files, "-k", f"random or halting or chain or lavas_lif or overflow or voltage or (example and ({kinds})) or {form}"]]


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):  # type: ignore[misc]
    """Imports one module from a text."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        importlib.machinery.SourceFileLoader.__init__(self, name, str(path))
        self.module, self.file, self.text = name, path, text

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.module:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(self.file), is_package=False)

    def get_code(self, fullname: str) -> Any:
        return compile(self.text, str(self.file), "exec")


if __name__ == "__main__":
    cli.run(main)
