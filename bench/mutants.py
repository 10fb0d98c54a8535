"""python bench/mutants.py: changes one constant or comparison of an op, neuron, synapse or kernel at a time and counts what tests notice.

Each mutant runs in a forked process that sees the changed source in memory; no source file is written. The kernels of a changed file,
and all that call them, are compiled anew and not kept; others come from their place on disk. A long check is done in parts:
`--more` goes on where the kept result ends.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import contextlib
import hashlib
import importlib.abc
import importlib.machinery
import json
import random
import resource
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.mutant_tests import COMPILING, PATTERNS, ROOT, callers, selection
from bench.mutate import Mutant, chosen, mutants
from spikegate.command import cli
from spikegate.deploy.lava.lifeline import follow
from spikegate.errors import DeployError
from spikegate.files import atomic

OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "timeout=", "-o", "filterwarnings=ignore")
ABOVE_OPS = ("ops", "engine", "formats", "train", "convert", "deploy", "hw_sim")
SAME = Mutant("spikegate/ops/conv.py", 1, 0, "as it is", "", "")


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
    """Most processor time that a group of tests of one mutant may take."""
    minutes: float = 60
    """No mutant is begun after this time."""
    only: str | None = None
    """Part of a mutant's name: run these alone, and keep nothing."""
    more: bool = False
    """Keep the outcomes of mutants that the sources still have, and try those of the sample that have none."""
    again: bool = False
    """Try those survivors of the kept result that are not equal to the source once more, after tests were added."""
    output: Path = ROOT / "bench" / "results" / "mutants.json"
    """The result; reasons that stand there are kept for mutants that survive again."""


def main() -> None:
    args = cli.parse(Args, __doc__ or "")
    begin, rows = time.monotonic(), []
    kept: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {"survivors": [], "noticed_by": {}}
    found = {part: part_of(files) for part, files in PATTERNS.items()}
    alive = {m.name for ms in found.values() for m in ms}
    earlier = [{"mutant": m, "outcome": said} for m, said in kept["noticed_by"].items()]
    earlier += [{"mutant": s["mutant"], "outcome": "survived"} for s in kept["survivors"]]
    earlier = [r for r in earlier if r["mutant"] in alive] if args.more or args.again else []
    doubtful = [s["mutant"] for s in kept["survivors"] if not s["reason"].startswith("equal")]
    checked = set(kept.get("unchanged", [])) if args.more or args.again else set()
    try:
        for part, count, share in (("semantics", args.sample, 0.75), ("kernels", args.kernels, 1), ("shared", args.shared, 1)):
            if args.again or args.only is not None:
                sample = [m for m in found[part] if (m.name in doubtful if args.again else str(args.only) in m.name)]
            else:
                done = {r["mutant"] for r in earlier}
                sample = [m for m in chosen(found[part], count, random.Random(args.seed)) if m.name not in done] if count else []
            left = share * args.minutes * 60 - (time.monotonic() - begin)
            for row in in_process(part, sample, args.limit_s, left, checked) if sample else ():
                rows.append(row)
    finally:  # what was tried before an interruption is kept, too
        tried = {r["mutant"] for r in rows}
        result = summary(rows + [r for r in earlier if r["mutant"] not in tried], kept, found, checked)
        if args.only is None:
            with atomic(args.output) as part_file:
                part_file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "noticed_by"}, indent=1))


def part_of(patterns: tuple[str, ...]) -> list[Mutant]:
    """All mutants of a part's files."""
    files = sorted(str(p.relative_to(ROOT)) for pattern in patterns for p in ROOT.glob(pattern))
    return [m for f in files for m in mutants(f, (ROOT / f).read_text())]


def reason_of(m: Mutant, kept: dict[str, Any]) -> str:
    """The kept reason of a survivor, also where its line has moved since."""
    for s in kept["survivors"]:
        if s["mutant"] == m.name or s.get("source") == m.source((ROOT / m.file).read_text()):
            return str(s["reason"])
    return ""


def summary(rows: list[dict[str, Any]], kept: dict[str, Any], found: dict[str, list[Mutant]], checked: set[str]) -> dict[str, Any]:
    """The file that is kept. A mutant that computes the same as the source is no fault of the tests, and says so in its reason."""
    named = {m.name: (part, m) for part, ms in found.items() for m in ms}
    survivors = []
    for m in (named[r["mutant"]][1] for r in rows if r["outcome"] == "survived"):
        survivors.append({"mutant": m.name, "source": m.source((ROOT / m.file).read_text()), "reason": reason_of(m, kept)})
    equal = {s["mutant"] for s in survivors if s["reason"].startswith("equal")}
    parts = {}
    for part, ms in found.items():
        names = {r["mutant"] for r in rows if named[r["mutant"]][0] == part}
        lost = names & {s["mutant"] for s in survivors}
        parts[part] = {"possible": len(ms), **_score(len(names), len(lost), len(names & equal))}
    return {
        **_score(len(rows), len(survivors), len(equal)), "parts": parts, "unchanged": sorted(checked), "survivors": survivors,
        "noticed_by": {r["mutant"]: r["outcome"] for r in rows if r["outcome"] != "survived"},
    }  # fmt: skip


def _score(tried: int, survived: int, equal: int) -> dict[str, Any]:
    noticed = tried - survived
    share = round(noticed / max(1, tried - equal), 4)
    return {"tried": tried, "noticed": noticed, "equal_to_the_source": equal, "score_without_equal": share}


def signature(file: str) -> str:
    """A file whose tests pass unchanged, by its text and that of the tests and kernels: tried once for each text."""
    texts = [ROOT / file, *sorted((ROOT / "spikegate/kernels").glob("*.py")), *sorted((ROOT / "tests").glob("**/*.py"))]
    return f"{file} {hashlib.sha256(b''.join(p.read_bytes() for p in texts)).hexdigest()[:12]}"


def in_process(part: str, sample: list[Mutant], limit_s: float, left_s: float, checked: set[str]) -> Iterator[dict[str, Any]]:
    """Outcomes of a part's sample, from a process of its own that has imported what the tests need; `checked` gains `signature`s."""
    reading, writing = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        try:
            follow(parent)
            os.close(reading)
            with os.fdopen(writing, "w") as out:
                for row in outcomes(part, sample, limit_s, left_s, set(checked)):
                    out.write(json.dumps(row) + "\n")
                    out.flush()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as given:
        for row in map(json.loads, given):
            if "broken" in row:
                raise DeployError("mutants", f"a test fails before anything is changed: {row['broken']}", "mend it first")
            if "unchanged" in row:
                checked.add(row["unchanged"])
            else:
                yield row
    os.waitpid(child, 0)


def outcomes(part: str, sample: list[Mutant], limit_s: float, left_s: float, passed: set[str]) -> Iterator[dict[str, Any]]:
    """In the child: one row for each mutant, and before a file's first one whether its tests pass as it is."""
    end = time.monotonic() + left_s
    preload()
    for m in sample:
        same = Mutant(m.file, 1, 0, "as it is", "", "") if part != "semantics" else SAME
        if time.monotonic() >= end:
            return
        if signature(same.file) not in passed:
            said = outcome(same, limit_s)
            passed.add(signature(same.file))
            yield {"unchanged": signature(same.file)} if said == "survived" else {"broken": f"{same.file}: {said}"}
        began = time.monotonic()
        row = {"mutant": m.name, "outcome": outcome(m, limit_s)}
        print(f"{time.monotonic() - began:5.0f} s  {row['outcome']:60s}  {m.name}", file=sys.stderr, flush=True)
        yield row


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
        parent, child = os.getpid(), os.fork()
        if child == 0:
            os.close(reading)
            os.setsid()
            follow(parent)
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))
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
    """What the child found; one that waits for ever is ended, and one that used up its processor time has been."""
    ready, _, _ = select.select([reading], [], [], 10 * limit_s)
    text = os.read(reading, 4096).decode() if ready else "waits for ever"
    os.close(reading)
    if not ready:
        os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    if not text and os.WIFSIGNALED(status) and used.ru_utime + used.ru_stime > limit_s - 2:
        return "time limit"
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
