"""python tests/faults/workers.py [--trials 24 --load 8] [--runs 100 --runs-load 12]: the watch over processes on a busy machine.

First a process of a running network is killed or stopped, in each mapping, at a random moment, while spinning processes keep the load up:
seconds until the error that names it. Then undisturbed runs under the higher load: how many are taken for a hang. Spinners and networks
have the same priority. Exit 1 if a process was not named, or was named after more than 10 s, or for a false alarm.
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
from tests.test_lava import halting_net, samples

MAPPINGS = ("op", "block", "chip")
LIMIT_S = 10.0
AVERAGE_OVER_S = 5.0  # for the machine's load to be what it will be


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


def undisturbed(rng: random.Random, runs: int) -> list[str]:
    """False alarms in so many runs, twenty on each network."""
    alarms = []
    graph, x = halting_net(), samples(100)
    reference = integer.run(graph, x)
    for k in range(0, runs, 20):
        try:
            with Network(graph, MAPPINGS[k // 20 % 3], rng.choice((2, 8))) as network:
                for _ in range(min(20, runs - k)):
                    assert np.array_equal(network.run(x).logits, reference.logits)
        except DeployError as e:
            alarms.append(str(e))
    return alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("trials", 24), ("load", 8), ("runs", 100), ("runs-load", 12), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    rng, begun = random.Random(args.seed), time.monotonic()
    rows: list[dict[str, Any]] = []
    if args.trials:
        x = samples(200_000)
        with spinners(args.load):
            for k in range(args.trials):
                rows.append(disturbed(rng, k, x))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    middle = time.monotonic()
    alarms, load = [], 0.0
    if args.runs:
        with spinners(args.runs_load):
            load = os.getloadavg()[0]
            alarms = undisturbed(rng, args.runs)
    times = [row["seconds"] for row in rows]
    bad = [row for row in rows if not row["named"] or row["seconds"] > LIMIT_S]
    print(json.dumps({
        "killed or stopped": len(rows), "spinners": args.load, "not named in 10 s": bad,
        "seconds, median and most": [float(np.median(times)), max(times)] if rows else None, "seconds of all": round(middle - begun),
        "undisturbed runs": args.runs, "spinners then": args.runs_load, "load then": load, "false alarms": alarms,
        "seconds of these": round(time.monotonic() - middle),
    }, indent=1))
    sys.exit(bool(bad or alarms))


if __name__ == "__main__":
    main()
