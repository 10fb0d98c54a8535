"""python tests/faults/campaign.py --kills 200: kill train, export and deploy at random moments, a third while they start.

After each kill: a training must resume to the same bits, an earlier result must still be readable, and no process, no segment, no semaphore
may be left. One line of JSON for each kill goes to --log, a summary to the screen; exit 1 if anything was not right.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from safetensors.numpy import load_file

from tests.faults.commands import Command, prepare
from tests.faults.processes import digests, hidden, left_behind, of_session, shared_names

SMALL = ("--data.limit-train 400 --model.dim 16 --model.timesteps 2 --model.depth 1 --model.stem-channels 8 "
         "--train.epochs 6 --train.float-share 0.5 --train.threads 1").split()
MAPPINGS = ("op", "block", "chip")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
KINDS = ("train", "export", *(f"deploy {m}" for m in MAPPINGS))
EARLY = 0.2  # a kill while a command starts comes in this first part of its time
Row = dict[str, Any]


class Campaign:
    """A folder with a small trained run, from which each trial works on a copy."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.base = self._fresh("base")
        self.seconds: dict[str, float] = {}  # that each command takes
        self.up: dict[str, tuple[float, int]] = {}  # when all its processes were there, and how many
        self._whole("train", *SMALL, "--output", "r")
        self._whole("export", "r")
        self._whole("deploy", "r", "--data", "test", "--target", "int")
        for mapping in MAPPINGS:
            self._whole("deploy", *self._deploy(mapping), key=f"deploy {mapping}")
        self.files = digests(self.base / "r")

    def _fresh(self, name: str) -> Path:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir(parents=True)
        return self.folder / name

    def _whole(self, name: str, *args: str, key: str = "") -> None:
        command = Command(self.base, name, *args)
        up, code = (0.0, 0), None
        while code is None:
            code, alive = command.wait(0.02), len(of_session(command.pid))
            if alive > up[1]:
                up = time.monotonic() - command.began, alive
        assert code == 0, (name, code, command.errors)
        self.seconds[key or name], self.up[key or name] = time.monotonic() - command.began, up

    @staticmethod
    def _deploy(mapping: str) -> list[str]:
        return ["r", "--data", "train", "--mapping", mapping, "--batch", "2", "--patience", "60"]

    def trial(self, kind: str, early: bool) -> Row:
        """Kill one command; what was seen, with the list of what was not right in ``bad``."""
        here = self._fresh("trial")
        before = shared_names()
        name, _, mapping = kind.partition(" ")
        if name != "train":
            shutil.copytree(self.base / "r", here / "r")
        args = {"train": [*SMALL, "--output", "r"], "export": ["r"]}.get(name) or self._deploy(mapping)
        command = Command(here, name, *args)
        at, processes = self._moment(command, kind, early)
        number, group = self.rng.choice(SIGNALS), self.rng.random() < 0.3
        command.end(number, group)
        code, bad = command.wait(30), []
        if code is None:
            bad.append("does not end")
            os.killpg(command.pid, signal.SIGKILL)
            os.waitpid(command.pid, 0)
        left, names, gone = left_behind(command.pid, before)
        if left:
            bad.append(f"processes left: {len(left)}")
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        if names:
            bad.append(f"names left in /dev/shm: {sorted(names)[:3]}")
        if code not in (0, 130, -number):
            bad.append(f"exit code {code}")
        if "Traceback" in command.errors:
            bad.append("traceback")
        if number != signal.SIGKILL and hidden(here):
            bad.append(f"half-written files: {hidden(here)}")
        bad += self._resumed(here) if name == "train" else self._usable(here, name)
        return {"kind": kind, "early": early, "at_s": round(at, 2), "processes": processes, "signal": signal.Signals(number).name,
                "group": group, "code": code, "gone_s": round(gone, 2), "bad": bad, "errors": command.errors[-300:] if bad else ""}

    def _moment(self, command: Command, kind: str, early: bool) -> tuple[float, int]:
        """Wait for a random moment; (seconds since the start, processes that live then)."""
        whole, (up_s, all_up) = self.seconds[kind], self.up[kind]
        if kind.startswith("deploy"):
            wanted = self.rng.randint(1, all_up) if early else all_up
            while len(of_session(command.pid)) < wanted and time.monotonic() - command.began < 2 * whole:
                time.sleep(0.0005)
            time.sleep(self.rng.choice((0, 0, self.rng.uniform(0, 0.05))) if early else self.rng.uniform(0, whole - up_s))
        else:
            time.sleep((self.rng.uniform(0, EARLY) if early else self.rng.uniform(EARLY, 0.95)) * whole)
        return time.monotonic() - command.began, len(of_session(command.pid))

    def _resumed(self, here: Path) -> list[str]:
        """What is wrong with a training that goes on after the kill."""
        if not (here / "r/model.safetensors").exists():
            begun = (here / "r/config.yml").exists()
            command = Command(here, "train", *(("--resume", "r") if begun else (*SMALL, "--output", "r")))
            code = command.wait(600)
            if code != 0:
                return [f"resume: exit {code}: {command.errors[-300:]}"]
        own, reference = (load_file(folder / "r/model.safetensors") for folder in (here, self.base))
        same = own.keys() == reference.keys() and all(np.array_equal(own[n], reference[n]) for n in own)
        return [] if same else ["resumed to other weights"]

    def _usable(self, here: Path, name: str) -> list[str]:
        """What is wrong with the results that were there before."""
        now, bad = digests(here / "r"), []
        if lost := sorted(set(self.files) - set(now)):
            bad.append(f"lost {lost}")
        changed = {n for n in self.files if now.get(n) != self.files[n]}
        part = {"export": "export/", "deploy": "deploy/"}[name]
        if others := sorted(n for n in changed if not n.startswith(part)):
            bad.append(f"changed {others}")
        check, *args = ("deploy", "r", "--data", "test:8", "--target", "int", "--output", "o") if name == "export" else (
            "estimate", "r", "--output", "o")
        command = Command(here, check, *args)
        if (code := command.wait(120)) != 0:
            bad.append(f"{check} afterwards: exit {code}: {command.errors[-300:]}")
        return bad


def run(folder: Path, kills: int, seed: int, log: Path | None = None) -> tuple[Row, list[Row]]:
    """The campaign's summary and its rows."""
    prepare()
    campaign = Campaign(folder, seed)
    rows = []
    for k in range(kills):
        row = campaign.trial(KINDS[k % len(KINDS)], early=k % 3 == 0)
        rows.append(row)
        if log is not None:
            with log.open("a") as f:
                f.write(json.dumps(row) + "\n")
    return summary(rows), rows


def summary(rows: list[Row]) -> Row:
    """Counts of all trials."""
    return {
        "kills": len(rows), "while starting": sum(r["early"] for r in rows),
        "by command": dict(collections.Counter(r["kind"] for r in rows)), "by signal": dict(collections.Counter(r["signal"] for r in rows)),
        "with processes alive": sum(r["processes"] > 1 for r in rows), "already over": sum(r["code"] == 0 for r in rows),
        "slowest end of the last process, s": max(r["gone_s"] for r in rows), "not right": [r for r in rows if r["bad"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        found, _ = run(Path(folder), args.kills, args.seed, args.log)
    print(json.dumps(found | {"seconds": round(time.monotonic() - begun)}, indent=1))
    sys.exit(bool(found["not right"]))


if __name__ == "__main__":
    main()
