"""python bench/startup.py: how long a network of six processes, the command, the import, a run of one image and each --help take."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikegate.command import cli
from spikegate.graph.ir import DeployError

ROOT = Path(__file__).parents[1]
COMMANDS = ("train/run.py", "convert/export.py", "deploy/run.py", "deploy/compare.py", "hw_sim/estimate.py", "hw_sim/place.py")
START_S, HELP_S = 1.0, 0.5
PYTHON = sys.executable
RUN = ("run", "zoo:stas-digits", "--data", "test:1", "--target", "int", "--output", "FOLDER")
OURS = {  # what a user meets -> (words, seconds at most)
    "spikegate --help": ((PYTHON, "-m", "spikegate", "--help"), 0.3),
    "import spikegate": ((PYTHON, "-c", "import spikegate"), 0.1),
    "spikegate run, one image on the reference": ((PYTHON, "-m", "spikegate", *RUN), 2.0),
}


@dataclass
class Args:
    """Wall time, medians of several starts; imports are not counted in a network's start."""

    repeats: int = 3
    """Starts of each."""
    json: bool = False
    """Print the figures as JSON only."""
    output: Path | None = None
    """JSON to write; bench/results/startup.json if left out."""


def main() -> None:
    """Parse the command line, measure, print and write."""
    args = cli.parse(Args, "Start-up times.")
    if args.repeats < 1:
        raise DeployError("--repeats", "is less than 1", "give at least 1")
    from bench import interleaved

    started = network(args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        calls = {name: [folder if w == "FOLDER" else w for w in words] for name, (words, _) in OURS.items()}
        met = interleaved.interleaved({name: lambda w=w: called(w) for name, w in calls.items()}, args.repeats)
    helped = interleaved.interleaved({c: lambda c=c: show_help(c) for c in COMMANDS}, args.repeats)
    helps = {c: interleaved.median(t) for c, t in helped.items()}
    slowest = max(helps, key=helps.__getitem__)
    found: dict[str, Any] = {
        "start_s": interleaved.median(started), "help_s": helps,
        "user_s": {name: interleaved.median(t) for name, t in met.items()}, "repeats": args.repeats, "machine": interleaved.machine(),
        "targets": [
            interleaved.verdict("seconds to start six processes", interleaved.median(started), START_S, most=True),
            interleaved.verdict(f"seconds of the slowest --help ({slowest})", helps[slowest], HELP_S, most=True),
            *(interleaved.verdict(f"seconds of {name}", interleaved.median(met[name]), OURS[name][1], most=True) for name in OURS),
        ],
    }  # fmt: skip
    path = interleaved.keep("startup", None, found, args.output)
    if args.json:
        cli.print_json(found)
        return
    interleaved.show_targets(found["targets"])
    interleaved.show_machine(found)
    cli.console.print(f"written: {path}", markup=False, soft_wrap=True)


def called(words: list[str]) -> None:
    """One process, in the checkout; its output is thrown away."""
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)


def show_help(command: str) -> None:
    """One ``--help``."""
    called([PYTHON, str(ROOT / command), "--help"])


def network(repeats: int) -> list[float]:
    """Seconds until five layers and their injector, each a process, are ready; the first start does not count."""
    import numpy as np

    from spikegate.deploy.network.network import Network
    from spikegate.graph.ir import Graph
    from spikegate.neurons.cuba import Cuba
    from spikegate.ops.dense import Dense

    graph, last = Graph(timesteps=2, input_shape=(8,)), "input"
    for k in range(5):
        last = graph.add(f"layer{k}", Dense(np.full((8, 8), 20), np.zeros(8, np.int32), Cuba(4096, 2048, 50)), x=last)
    graph.check()
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        with Network(graph, "op", 1):
            found.append(time.perf_counter() - start)
    return found[1:]


if __name__ == "__main__":
    cli.run(main)
