"""python tests/faults/soak.py --samples 100000: many runs of many sizes through one network of each mapping; memory must not grow.

Every run is compared with the integer reference. Memory, open files and threads of the parent and of every process are noted after each
tenth of the samples. As many samples come before that, until the allocator has seen all sizes and the pages that processes shared with
their parent are copied where they are written. What counts is the memory of all processes together (proportional set sizes), since
shared pages move from one to the other: the mean of the last three tenths over that of the first three. Exit 1 if it is 1 % more, or a
file stays open.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from spikegate.deploy.network.network import Network
from spikegate.engine import integer
from tests.faults.troubled import halting_net
from tests.test_lava import samples

MAPPINGS = ("chip", "block", "op")
POOL, MOST = 512, 400  # different samples, most of them in a run
PARTS = 10
GROWTH = 0.01


def resident(pid: int) -> int:
    """Memory that a process has written and no other shares, plus its part of what it shares: bytes. Libraries, which are shared with
    every other program on the machine, are left out."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return 1024 * sum(int(line.split()[1]) for line in f if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def trim() -> None:
    """Let this process give back what it has freed, so that only what is held counts."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def facts(pids: dict[str, int]) -> dict[str, list[int]]:
    """name -> [bytes, open files, threads]."""
    return {n: [resident(p), len(os.listdir(f"/proc/{p}/fd")), len(os.listdir(f"/proc/{p}/task"))] for n, p in pids.items()}


def soak(mapping: str, total: int, settle: int, seed: int) -> dict[str, Any]:
    """Run so many samples; what each process held on the way."""
    rng, graph, pool = np.random.default_rng(seed), halting_net(), samples(POOL)
    reference = integer.run(graph, pool)
    done, runs, marks, begun = -settle, 0, [], time.monotonic()
    with Network(graph, mapping, 8) as network:
        pids = {"parent": os.getpid()} | {name: pid for pid, name in network.pulses.pids().items()}
        while done < total:
            which = rng.integers(0, POOL, MOST if runs < 3 else int(rng.integers(0, MOST + 1)))
            found = network.run(pool[which])
            for field in ("logits", "counts", "alive", "exit_step"):
                assert np.array_equal(getattr(found, field), getattr(reference, field)[which]), (mapping, done, field)
            done, runs = done + len(which), runs + 1
            if done >= total * (len(marks) + 1) / PARTS:
                del found
                trim()
                marks.append(facts(pids))
    first, last = marks[0], marks[-1]
    grown = {name: round(last[name][0] / first[name][0] - 1, 5) for name in pids}
    sums = [sum(v[0] for v in m.values()) for m in marks]
    whole = round(float(np.mean(sums[-3:]) / np.mean(sums[:3]) - 1), 5)
    return {
        "mapping": mapping, "samples to settle": settle, "samples": done, "runs": runs,
        "seconds": round(time.monotonic() - begun), "growth of all": whole,
        "growth": grown, "MiB": {name: round(last[name][0] / 2**20, 1) for name in pids},
        "MiB of all, each tenth": [round(s / 2**20, 1) for s in sums],
        "open files": [sum(v[1] for v in m.values()) for m in (first, last)],
        "threads": [sum(v[2] for v in m.values()) for m in (first, last)],
        "right": whole < GROWTH and [v[1] for v in first.values()] == [v[1] for v in last.values()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--settle", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    right = True
    for mapping in MAPPINGS:
        row = soak(mapping, args.samples, args.settle, args.seed)
        right &= row["right"]
        print(json.dumps(row), flush=True)
    sys.exit(not right)


if __name__ == "__main__":
    main()
