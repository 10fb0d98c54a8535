"""python tests/faults/workers.py [--trials 24 --load 8] [--runs 100 --runs-load 12] [--kept FILE]: the watch on a busy machine.

First a process of a running network is killed or stopped, in each mapping, at a random moment, while spinning processes keep the load up:
seconds until the error that names it. Then undisturbed runs under the higher load: how many are taken for a hang. Spinners and networks
have the same priority. Exit 1 if a process was not named, or was named after more than 10 s, or for a false alarm.

With --kept each trial and each part of the runs is kept in a file of JSON lines, and the command goes on where it was stopped; --minutes
stops it by itself, with exit 3, if something is left. The order of trials, mappings and signals is the same in one go and in parts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from spikegate.deploy.network.network import Network
from spikegate.deploy.network.watchdog import STEPS
from spikegate.engine import integer
from spikegate.graph.ir import DeployError
from tests.faults.troubled import halting_net
from tests.test_lava import samples

MAPPINGS = ("op", "block", "chip")
LIMIT_S = 10.0
AVERAGE_OVER_S = 5.0  # for the machine's load to be what it will be
EACH = 10  # undisturbed runs of one network


@contextlib.contextmanager
def spinners(number: int) -> Iterator[None]:
    """So many processes that only compute."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        time.sleep(AVERAGE_OVER_S)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def disturbed(rng: random.Random, k: int, x: np.ndarray) -> dict[str, Any]:
    """Kill or stop a process of a running network; seconds until it is named."""
    number, mapping = (signal.SIGKILL, signal.SIGSTOP)[k % 2], MAPPINGS[k // 2 % 3]
    network = Network(halting_net(), mapping, rng.choice((2, 8)), rng.choice(("async", "loihi")))
    victim, name = rng.choice(sorted(network.pulses.pids().items()))
    at: list[float] = []

    def strike() -> None:
        while network.pulses.table[1, STEPS] < 10:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        at.append(time.monotonic())
        os.kill(victim, number)

    striker = threading.Thread(target=strike)
    striker.start()
    load, error = round(os.getloadavg()[0], 1), ""
    try:
        network.run(x)
    except DeployError as e:
        error = str(e)
    seconds = time.monotonic() - at[0]
    striker.join()
    words = "was killed by SIGKILL" if number == signal.SIGKILL else "a signal or a debugger has stopped it"
    return {"mapping": mapping, "signal": number.name, "process": name, "load": load, "seconds": round(seconds, 2),
            "named": f"process {name}: " in error and words in error, "error": error.split("\n")[0]}


def undisturbed(part: int, runs: int) -> dict[str, Any]:
    """False alarms in so many runs of one network."""
    graph, x, alarms = halting_net(), samples(100), []
    reference, rng = integer.run(graph, x), random.Random(part)
    load = round(os.getloadavg()[0], 1)
    try:
        with Network(graph, MAPPINGS[part % 3], rng.choice((2, 8))) as network:
            for _ in range(runs):
                assert np.array_equal(network.run(x).logits, reference.logits)
    except DeployError as e:
        alarms.append(str(e))
    return {"part": part, "mapping": MAPPINGS[part % 3], "runs": runs, "load": load, "false alarms": alarms}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("trials", 24), ("load", 8), ("runs", 100), ("runs-load", 12), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--kept", type=Path, help="file of JSON lines: what is done, to go on from")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so many minutes")
    return parser.parse_args()


def main() -> None:
    args, begun = arguments(), time.monotonic()
    wanted = {key: getattr(args, key) for key in ("load", "runs_load", "seed")}
    rows = [json.loads(line) for line in args.kept.read_text().splitlines()] if args.kept and args.kept.is_file() else []
    if any(row["wanted"] != wanted for row in rows):
        sys.exit(f"{args.kept} was begun with another load or seed: name another file")

    def left(kind: str, number: int) -> list[int]:
        return sorted(set(range(number)) - {row["number"] for row in rows if row["kind"] == kind})

    def in_time() -> bool:
        return time.monotonic() - begun < 60 * args.minutes

    def keep(kind: str, number: int, found: dict[str, Any]) -> None:
        rows.append({"kind": kind, "number": number, "wanted": wanted, **found})
        print(json.dumps(found), file=sys.stderr, flush=True)
        if args.kept:
            with args.kept.open("a") as f:
                f.write(json.dumps(rows[-1]) + "\n")

    parts = [min(EACH, args.runs - k) for k in range(0, args.runs, EACH)]
    if left("trial", args.trials) and in_time():
        x = samples(200_000)
        with spinners(args.load):
            for k in left("trial", args.trials):
                if in_time():
                    keep("trial", k, disturbed(random.Random(args.seed * 1000 + k), k, x))
    if left("part", len(parts)) and in_time():
        with spinners(args.runs_load):
            for k in left("part", len(parts)):
                if in_time():
                    keep("part", k, undisturbed(k, parts[k]))
    trials, quiet = ([row for row in rows if row["kind"] == kind] for kind in ("trial", "part"))
    bad = [row for row in trials if not row["named"] or row["seconds"] > LIMIT_S]
    times, alarms = [row["seconds"] for row in trials], [alarm for row in quiet for alarm in row["false alarms"]]
    print(json.dumps({
        "killed or stopped": len(trials), "spinners": args.load, "not named in 10 s": bad,
        "seconds, median and most": [float(np.median(times)), max(times)] if times else None, "loads": loads(trials),
        "undisturbed runs": sum(row["runs"] for row in quiet), "spinners then": args.runs_load, "loads then": loads(quiet),
        "false alarms": alarms, "left": [len(left("trial", args.trials)), len(left("part", len(parts)))],
    }, indent=1))
    sys.exit(1 if bad or alarms else 3 if left("trial", args.trials) or left("part", len(parts)) else 0)


def loads(rows: list[dict[str, Any]]) -> list[float]:
    """Least and most of the machine's loads."""
    found = [row["load"] for row in rows]
    return [min(found), max(found)] if found else []


if __name__ == "__main__":
    main()
