"""What the benches share: contestants run alternately, ratios within a round, machine and load, the JSON that is kept."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from spikegate.command import cli

RESULTS = Path(__file__).parent / "results"


def interleaved(
    contestants: dict[str, Callable[[], Any]], repeats: int, now: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each contestant, run alternately, by round; the first round does not count. One thread for matrix products."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with threadpool_limits(1):  # or the time of a thread that only waits for a small product would count
        for number in range(repeats + 1):
            for name, call in contestants.items():
                start = now()
                call()
                if number:
                    times[name].append(now() - start)
    return times


def processor(pids: Collection[int]) -> Callable[[], float]:
    """A clock: processor time, s, of this process and those of `pids` (Linux; in ticks of mostly 10 ms)."""
    tick = os.sysconf("SC_CLK_TCK")

    def now() -> float:
        fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
        return time.process_time() + sum(int(f[11]) + int(f[12]) for f in fields) / tick

    return now


def median(values: list[float]) -> float:
    return float(statistics.median(values))


def ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    """Median over rounds of a's time over b's within the same round."""
    return median([x / y for x, y in zip(times[a], times[b])])


def machine(clock: str = "wall") -> dict[str, Any]:
    """The machine, versions, which time was taken, and the load on it now: what else runs here slows whoever is measured."""
    from spikegate.train.machine import describe

    return {**describe(), "load": [round(v, 1) for v in os.getloadavg()], "clock": clock}


def verdict(name: str, value: float, target: float, most: bool = False) -> dict[str, Any]:
    """A target and whether it is met; `most`: the value may be at most the target."""
    return {"what": name, "value": value, "target": target, "met": bool(value <= target if most else value >= target)}


def keep(name: str, part: str | None, found: dict[str, Any], output: Path | None) -> Path:
    """Write ``results/<name>.json`` (or `output`); with `part`, under that key, the other parts stay as they are."""
    path = output or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = json.loads(path.read_text()) if part is not None and path.is_file() else {}
    whole = {**whole, part: found} if part is not None else found
    path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    return path


def progress(text: str) -> None:
    """Progress, on stderr."""
    cli.errors.print(text, markup=False, soft_wrap=True)


def show_machine(found: dict[str, Any]) -> None:
    m = found["machine"]
    text = f"{m['cpu']}, {m['cores']} cores, load {m['load'][0]} at the end; {m['clock']} time, medians of {found['repeats']} rounds"
    cli.console.print(text, markup=False, soft_wrap=True)


def show_targets(targets: list[dict[str, Any]]) -> None:
    for t in targets:
        word = "met" if t["met"] else "MISSED"
        cli.console.print(f"  {word:6s} {t['what']}: {t['value']:.3g} (target {t['target']:g})", markup=False, soft_wrap=True)
