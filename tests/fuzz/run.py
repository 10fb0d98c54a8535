"""Give every reader changed files, each case in a process with limits, and sort what happens.

    python tests/fuzz/run.py --cases 100000            # over all readers
    python tests/fuzz/run.py --target netx --only 4711  # one case again

Allowed are `ran` (and, where the second simulator is asked, with its result), `ran alone` (that one does not take the file) and
`refused`: a DeployError of one paragraph with a hint.
Everything else is a failure: a traceback, a crash, more than --limit-s of processor time, more than --memory-mb, a text that a terminal
would obey, a file left behind, a result that differs from the witness's, a file accepted that its hash should have caught.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gc
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from spikegate.errors import DeployError
from tests.fuzz.cases import Alone, Differs
from tests.fuzz.targets import TARGETS

BATCH = 100  # cases of one process
# Of 100 cases:
SHARES = {"netx": 30, "ours": 22, "nir": 10, "onnx": 9, "manifest": 7, "npy": 6, "npz": 6, "events": 5, "config": 3, "checkpoint": 2}
EXPECTED = re.compile(r"leaves its 24 bits|is clamped to 62")  # warnings that the documents announce
LONGEST = 3000  # characters of a message
GOOD = ("ran", "ran alone", "refused")


def judged(main: Any, must_refuse: bool) -> tuple[str, str]:
    """(outcome, details) of one case."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for quiet in (ResourceWarning, DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", quiet)
        try:
            main()
            kind, text = ("accepted", "") if must_refuse else ("ran", "")
        except DeployError as e:
            text = str(e)
            fit = "\n  hint: " in text and len(text) <= LONGEST and all(c.isprintable() or c == "\n" for c in text)
            kind = "refused" if fit else "ugly"
        except Alone as e:
            kind, text = "ran alone", str(e)
        except Differs as e:
            kind, text = "differs", str(e)
        except MemoryError:
            kind, text = "memory", traceback.format_exc()
        except BaseException:
            kind, text = "traceback", traceback.format_exc()
    odd = [f"{w.category.__name__} {w.filename}:{w.lineno} {w.message}" for w in said if not EXPECTED.search(str(w.message))]
    return ("noisy", odd[0]) if odd and kind in GOOD else (kind, text)


def batch(target: Any, numbers: list[int], seed: int, root: Path, args: argparse.Namespace, pipe: int) -> None:
    """Cases one after the other, each reported through the pipe; never returns."""
    os.setsid()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (args.memory_mb << 21),) * 2)  # twice the limit, which the peak shows
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    for number in numbers:
        folder = root / str(number)
        folder.mkdir()
        try:
            case = target.case(np.random.default_rng([seed, number]), folder)
        except Exception as e:  # this change is none of this file
            os.write(pipe, json.dumps({"number": number, "kind": "not made", "text": type(e).__name__}).encode() + b"\n")
            shutil.rmtree(folder, ignore_errors=True)
            continue
        os.chdir(folder)
        begun = time.process_time()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        resource.setrlimit(resource.RLIMIT_CPU, (int(begun) + args.limit_s + 1, resource.RLIM_INFINITY))
        before = _rss("VmRSS")
        kind, text = judged(case.main, case.must_refuse)
        if kind in GOOD and _rss("VmHWM") - before > args.memory_mb << 10:
            kind, text = "memory", f"{(_rss('VmHWM') - before) >> 10} MB"
        if kind in GOOD and [p for p in folder.rglob(".*")]:
            kind = "leftover"
        found = {"number": number, "kind": kind, "what": case.what, "text": text[-1800:], "seconds": time.process_time() - begun}
        os.chdir(root)
        if kind in GOOD:
            shutil.rmtree(folder, ignore_errors=True)
        os.write(pipe, json.dumps(found).encode() + b"\n")
    os._exit(0)


def _rss(key: str) -> int:
    """kB of this process."""
    found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


def outcomes(target: Any, numbers: list[int], seed: int, root: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What happened to each case; a process that dies takes one with it, the next goes on behind it."""
    left = list(numbers)
    while left:
        part = left[:BATCH]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            batch(target, part, seed, root, args, writer)
        os.close(writer)
        text, killed = b"", False
        while True:
            if not select.select([reader], [], [], 60 * args.limit_s)[0]:  # waiting without computing
                os.killpg(pid, signal.SIGKILL)
                killed = True
            data = os.read(reader, 1 << 16)
            if not data:
                break
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                found = json.loads(line)
                left.remove(found["number"])
                yield found
        os.close(reader)
        code = os.waitstatus_to_exitcode(os.wait4(pid, 0)[1])
        if code < 0 or killed:
            hang = killed or code in (-signal.SIGXCPU, -signal.SIGKILL)
            kind = "hang" if hang else f"crash {signal.Signals(-code).name}"
            yield {"number": left.pop(0), "kind": kind, "text": "", "seconds": args.limit_s}
        elif left[:1] == part[:1]:
            raise RuntimeError(f"the process ended with {code}")


def blame(found: dict[str, Any]) -> str:
    """A failure's last frame in the package and its error without numbers: one bug, one name."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', found.get("text", ""))
    own = [f"{Path(f).name}:{n}" for f, n, _ in frames if "site-packages" not in f and "/lib/python" not in f and "/fuzz/" not in f]
    last = (found.get("text", "").strip().splitlines() or [""])[-1][:100]
    return f"{found['kind']} | {own[-1] if own else '?'} | {re.sub(r'[0-9]+', 'N', last)}"


def rounds(names: dict[str, int], first: int) -> Iterator[tuple[str, list[int]]]:
    """(target, numbers of its next cases), in turns, so that a campaign that is cut short has seen every reader."""
    parts = max(1, max(names.values()) // (3 * BATCH))
    for k in range(parts):
        for name, cases in names.items():
            yield name, list(range(first + cases * k // parts, first + cases * (k + 1) // parts))


def campaign(names: dict[str, int], args: argparse.Namespace) -> dict[str, Any]:
    """Run so many cases of each target; a summary of kinds and bugs."""
    kinds: dict[str, collections.Counter[str]] = {}
    bugs: dict[str, list[str]] = {}
    begun, slowest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory(dir=args.work) as made:
        root = Path(made)
        targets = {name: TARGETS[name](root) for name in names}
        gc.freeze()
        for name in names:
            kinds[name] = collections.Counter()
            (root / f"cases-{name}").mkdir()
        for name, numbers in rounds(names, args.first):
            work = root / f"cases-{name}"
            for found in outcomes(targets[name], numbers, args.seed, work, args):
                kinds[name][found["kind"]] += 1
                slowest = max(slowest, found.get("seconds", 0))
                if args.verbose:
                    print(json.dumps(found, indent=1))
                if found["kind"] not in (*GOOD, "not made"):
                    places = bugs.setdefault(f"{name}: {blame(found)}", [])
                    places.append(f"{found['number']} ({found.get('what', '')})")
                    if args.out and len(places) <= 2:
                        kept = args.out / f"{name}-{found['number']}"
                        shutil.rmtree(kept, ignore_errors=True)
                        if (work / str(found["number"])).exists():
                            shutil.copytree(work / str(found["number"]), kept)
                            (kept / "found.json").write_text(json.dumps(found, indent=1))
                shutil.rmtree(work / str(found["number"]), ignore_errors=True)
            if args.out:
                (args.out / "summary.json").write_text(json.dumps(_summary(kinds, bugs, args, begun, slowest), indent=1))
    return _summary(kinds, bugs, args, begun, slowest)


def _summary(kinds: dict[str, Any], bugs: dict[str, list[str]], args: argparse.Namespace, begun: float, slowest: float) -> dict[str, Any]:
    total = sum((collections.Counter(c) for c in kinds.values()), collections.Counter[str]())
    shown = {k: [len(v), v[:3]] for k, v in sorted(bugs.items(), key=lambda b: -len(b[1]))}
    return {
        "seed": args.seed, "first": args.first, "cases": sum(total.values()), "kinds": dict(total),
        "targets": {n: dict(c) for n, c in kinds.items()}, "slowest_s": round(slowest, 2),
        "minutes": round((time.monotonic() - begun) / 60, 1), "bugs": shown,
    }  # fmt: skip


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=sorted(TARGETS), help="one reader alone")
    parser.add_argument("--cases", type=int, default=1000, help="over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each reader")
    parser.add_argument("--only", type=int, help="one case, with its details")
    parser.add_argument("--limit-s", type=int, default=10)
    parser.add_argument("--memory-mb", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="folder for a summary and two files of each bug")
    parser.add_argument("--work", type=Path, help="where cases are made, a temporary folder if left out")
    args = parser.parse_args(words)
    args.verbose = args.only is not None
    if args.only is not None:
        args.first, args.cases = args.only, 1
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        args.out = args.out.resolve()
    return args


def main(words: list[str] | None = None) -> dict[str, Any]:
    args = arguments(words)
    shares = {args.target: 100} if args.target else SHARES
    return campaign({name: max(1, args.cases * share // 100) for name, share in shares.items()}, args)


if __name__ == "__main__":
    found = main()
    print(json.dumps(found, indent=1))
    sys.exit(bool(set(found["kinds"]) - {*GOOD, "not made"}))
