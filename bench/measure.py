"""One net of a plan from training to its JSON: the pipeline's own commands, one after another, each skipped if it was done before."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.plan import RESULTS, RUNS, Plan, Row
from bench.result import result_of
from spikegate.files import atomic
from spikegate.graph.ir import DeployError
from spikegate.train.settings.options import write_yaml
from spikegate.train.settings.runfolder import CONFIG, METRICS, WEIGHTS

ROOT = Path(__file__).parents[1]
TABLES = ("loihi1-davies", "paper45")  # prices by chip event alone; hw_sim/place.py has those that need a placement
EXACT, EXACT_LAVA = 256, 128  # test images on which every spike is compared; a small test set (digits) is compared as a whole
WHOLE = 1_000  # images of a test set that is small
MAPPINGS = {"lava": "chip", "lava_block": "block", "lava_op": "op"}  # what is compared in Lava: key of the result, mapping
TAIL = 12  # lines of a failed command's log that are shown
Run = Callable[[list[str], Path], str]
RUNNING: set[subprocess.Popen] = set()


@dataclass
class Bench:
    """Where a bench works, and how. `call` runs a command (tests put their own here)."""

    plan: Plan
    tables: list[str]
    runs: Path = RUNS
    results: Path = RESULTS
    data: Path | None = None
    lava: bool = False
    train_only: bool = False
    call: Run = field(default_factory=lambda: command_output)

    def result_path(self, row: Row, seed: int) -> Path:
        part = "curves" if "@" in row.name else ""
        return self.results / self.plan.name / part / f"{row.name}-{seed}.json"

    def read(self, row: Row, seed: int) -> dict[str, Any] | None:
        """A row's JSON, stale or not; None if there is none that can be read."""
        try:
            return json.loads(self.result_path(row, seed).read_text())
        except (OSError, ValueError):
            return None

    def key(self, row: Row, seed: int) -> dict[str, Any]:
        """What a row's JSON must say to be fresh: the settings that it was trained with, how it was exported, its twin's settings.

        The settings as they are with runs in their usual place, so that results are fresh wherever the runs lie.
        """
        twin = None if row.twin is None else self.plan.row(row.twin)
        return {
            "config_hash": self.plan.config(row, seed).hash,
            "export": dict(row.export),
            "twin": None if twin is None else {"row": twin.name, "config_hash": self.plan.config(twin, seed).hash},
        }

    def state(self, row: Row, seed: int) -> str:
        """``fresh``, ``stale`` (its JSON is of other settings), or ``missing``."""
        found = self.read(row, seed)
        if found is None:
            return "missing"
        return "fresh" if {k: found.get(k) for k in self.key(row, seed)} == self.key(row, seed) else "stale"

    def done(self, row: Row, seed: int) -> bool:
        """Its JSON is fresh, and of Lava where that is asked for; a base, or any net where only training is asked for, has weights."""
        if self.train_only and row.run is not None:
            return True
        if row.base or self.train_only:
            return (self.plan.folder(row, seed, self.runs) / WEIGHTS).is_file()
        found = self.read(row, seed)
        return self.state(row, seed) == "fresh" and (not self.lava or bool(found and set(MAPPINGS) <= set(found["exact"])))

    def at_hand(self, row: Row, seed: int) -> bool:
        """Its run folder is there for others to start from or to be set against (JSON files travel without them)."""
        folder = self.plan.folder(row, seed, self.runs)
        return (folder / WEIGHTS).is_file() and (row.base or self.train_only or (folder / "report" / "energy.json").is_file())

    def left(self, nets: Sequence[tuple[Row, int]]) -> list[tuple[Row, int]]:
        """What is still to do of `nets` (each after what it needs): what is not done, and what that needs and is not at hand."""
        wanted = {(row.name, seed) for row, seed in nets if not row.base and not self.done(row, seed)}
        for row, seed in reversed(nets):
            if (row.name, seed) in wanted:
                others = [self.plan.row(other) for other in row.others]
                wanted |= {(other.name, seed) for other in others if not self.at_hand(other, seed)}
        return [(row, seed) for row, seed in nets if (row.name, seed) in wanted]


def measure(bench: Bench, row: Row, seed: int) -> Path | None:
    """Train, export, deploy, compare and price one net; writes its JSON and returns its path (None where it is only trained).

    Raises
    ------
    DeployError
        With the end of the log of the command that failed.
    """
    folder = bench.plan.folder(row, seed, bench.runs)
    log = bench.runs / bench.plan.dataset / "logs" / f"{folder.name}.log"
    steps = Steps(folder, log, bench.call)
    config = bench.plan.config(row, seed, bench.runs)
    if bench.data is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"path": bench.data})})
    if not (folder / WEIGHTS).is_file():
        if row.run is not None:
            adopt(bench.plan.folder(bench.plan.trained(row), seed, bench.runs), folder)
        elif (folder / CONFIG).is_file():
            steps.run("train", ["train/run.py", "--resume", str(folder)])
        else:
            settings = log.with_suffix(".yml")
            write_yaml(config, settings)
            steps.run("train", ["train/run.py", "-c", str(settings), "--output", str(folder)])
    if row.base or bench.train_only:
        return None
    run = str(folder)
    exported(steps, folder, row.export)
    net = folder / "export" / "manifest.json"
    manifest = json.loads(net.read_text())
    steps.once("deploy", ["deploy/run.py", run, "--target", "int", "--json"], net)
    if manifest["halting"]:
        steps.once("halt_off", ["deploy/run.py", run, "--target", "int", "--halt", "off", "--json"], net)
    there = json.loads((folder / "deploy" / "result.json").read_text())["images"]
    if "@" not in row.name:
        steps.once("compare", compare(run, "torch,int", there if there <= WHOLE else EXACT, folder / "exact.json"), net)
    if bench.lava and "@" not in row.name:
        for step, mapping in MAPPINGS.items():
            command = compare(run, "torch,int,lava", min(EXACT_LAVA, there), folder / f"exact_{step}.json")
            steps.once(step, command if mapping == "chip" else [*command, "--mapping", mapping, "--patience", "60"], net)
    twin = None if row.twin is None else bench.plan.folder(bench.plan.row(row.twin), seed, bench.runs)
    against = ["--static", str(twin)] if manifest["halting"] and twin is not None else []
    inputs = [net, *([twin / "export" / "manifest.json"] if against and twin else [])]
    priced = ["hw_sim/estimate.py", run, *against, "--costs", *bench.tables, "--json"]
    steps.once("estimate", priced, *inputs)
    path = bench.result_path(row, seed)
    facts = {
        "schema": 1, "plan": bench.plan.name, "dataset": bench.plan.dataset, "row": row.name, "seed": seed, "system": row.system,
        "policy": row.policy, **bench.key(row, seed), "limit_train": config.data.limit_train,
        "epochs": bench.plan.epochs(row, seed), "seconds": steps.seconds,
        "train_seconds": sum(trained_for(bench.plan.folder(r, seed, bench.runs)) for r in bench.plan.chain(row)),
        "commit": commit(), "date": datetime.now(UTC).date().isoformat(),
    }
    with atomic(path) as part:
        part.write_text(json.dumps(facts | result_of(folder), indent=1, sort_keys=True) + "\n")
    return path


def exported(steps: Steps, folder: Path, options: Mapping[str, float | bool]) -> None:
    """Write a run's export; a pruned one is made from another beside it."""
    exits = [w for k in ("exit_drop", "exit_loss") if k in options for w in (f"--{k.replace('_', '-')}", str(options[k]))]
    loss = options.get("prune_loss")
    words = ["convert/export.py", str(folder), *exits]
    if loss is None:
        steps.once("export", words, folder / WEIGHTS)
        return
    whole = folder / "whole"
    steps.once("export", [*words, "--output", str(whole)], folder / WEIGHTS)
    left = ["--prune-embedding"] if options.get("prune_embedding") else []
    words = ["convert/export.py", str(whole), "--prune-loss", str(loss), *left, "--output", str(folder / "export")]
    steps.once("prune", words, whole / "manifest.json")


def compare(run: str, targets: str, images: int, output: Path) -> list[str]:
    return ["deploy/compare.py", run, "--targets", targets, "--data", f"test:{images}", "--json", "--output", str(output)]


def adopt(source: Path, folder: Path) -> None:
    """Make a run folder of another run's settings, metrics and weights, the weights last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, METRICS, WEIGHTS):
        with atomic(folder / name) as part:
            shutil.copyfile(source / name, part)


def trained_for(folder: Path) -> float:
    """Seconds that a run's training took."""
    return float(json.loads((folder / METRICS).read_text())["total_seconds"])


class Steps:
    """Commands of one net. ``steps.json`` in its folder says which were done, from which command and which files, in how many seconds."""

    def __init__(self, folder: Path, log: Path, call: Run) -> None:
        self.folder, self.log, self.call, self.path = folder, log, call, folder / "steps.json"

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}

    @property
    def seconds(self) -> dict[str, float]:
        """Step -> seconds."""
        return {name: step["seconds"] for name, step in self._read().items()}

    def run(self, name: str, command: list[str], key: str = "") -> None:
        """Run a command and note that it was done."""
        start = time.perf_counter()
        self.call(command, self.log)
        done = self._read() | {name: {"key": key, "seconds": round(time.perf_counter() - start, 1)}}
        with atomic(self.path) as part:
            part.write_text(json.dumps(done, indent=1) + "\n")

    def once(self, name: str, command: list[str], *inputs: Path) -> None:
        """Run a command unless it was done with the same words and the same content of its `inputs`."""
        key = hashlib.sha256(" ".join(command).encode() + b"".join(p.read_bytes() for p in inputs)).hexdigest()[:16]
        if self._read().get(name, {}).get("key") != key:
            self.run(name, command, key)


def command_output(command: list[str], log: Path) -> str:
    """Run one of the repository's commands in a process of its own; its output goes to `log` and is returned.

    Raises
    ------
    DeployError
        If it ends with an error.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, str(ROOT / command[0]), *command[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ python {' '.join(command)}\n")
        file.flush()
        start = file.tell()
        with subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment, preexec_fn=ends_with_parent) as process:
            RUNNING.add(process)
            code = process.wait()
            RUNNING.discard(process)
    output = log.read_bytes()[start:].decode(errors="replace")
    if code:
        lines = output.strip().splitlines()[-TAIL:]
        hint = f"see {log}; what was done is kept, the same bench command goes on from here"
        raise DeployError(f"python {' '.join(command[:2])}", f"ended with {code}:\n  " + "\n  ".join(lines), hint)
    return output


def ends_with_parent() -> None:
    """A command stops, resumable, when the process that started it is killed: else a worker that takes over would find it still writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def stop_commands() -> None:
    """End the commands that are running; a training keeps its last epoch."""
    for process in list(RUNNING):
        process.terminate()


def commit() -> str | None:
    """Commit of the code, with a + if files differ from it; None outside a repository."""
    def git(*words: str) -> str | None:
        try:
            found = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        except OSError:
            return None
        return found.stdout.strip() if found.returncode == 0 else None

    name = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "train", "convert", "deploy", "hw_sim")
    return name and name + ("+" if changed else "")


def ordered(plan: Plan, rows: Sequence[Row], seeds: int | None) -> list[tuple[Row, int]]:
    """(row, seed) of the rows and all that they need, each after what it needs; all of seed 0 first. `seeds` limits them."""
    needed = plan.needed(rows)
    wanted = {r.name: min(r.seeds, seeds or r.seeds) for r in rows}
    for row in reversed(needed):
        for other in row.others:
            wanted[other] = max(wanted.get(other, 1), wanted.get(row.name, 1))
    most = max(wanted.values(), default=0)
    return [(row, seed) for seed in range(most) for row in needed if seed < wanted[row.name]]
