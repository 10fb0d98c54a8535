"""python bench/sources.py: builds or loads nets of many sources, imports each, and prints what became of it.

A row of the table in docs/importing.md for each: exact, approximate or unsupported, with the reason, the agreement that was measured
on made-up images or samples, and the share of them with the same best class.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import source_nets
from bench.source_nets import Entry
from spikegate.command import cli
from spikegate.errors import DeployError
from spikegate.fidelity import APPROXIMATE, EXACT, UNSUPPORTED
from spikegate.files import atomic

IMAGES = 4
RATE = 0.1


@dataclass
class Args:
    """Import nets of many sources."""

    nir: Path | None = None
    """A copy of github.com/neuromorphs/NIR; without it the paper's files are left out."""
    only: str = ""
    """Sources whose name contains this."""
    seconds: float = 150.0
    """No source is begun after that."""
    output: Path = Path("bench/results/sources.json")
    """What is known of all sources; those that are in it are not run again."""
    json: bool = False
    """Print the results as JSON only."""


def spikingjelly(entry: Entry) -> dict[str, Any]:
    """Import of a SpikingJelly model, on noise."""
    from spikegate.convert.spikingjelly.models import read
    from spikegate.convert.spikingjelly.quantising import quantise
    from spikegate.convert.spikingjelly.reporting import compare_layers, float_answers, float_spikes
    from spikegate.engine import integer

    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (IMAGES, *entry.shape)) / 255).float()
    plan, model, form = read(entry.make(), images[:2], entry.timesteps)
    channels = images.shape[1]
    found = quantise(plan, 255, np.full(channels, 1 / 255), np.zeros(channels))
    embedded = found.host.encode((images.numpy() * 255).round().astype(np.uint8))
    rows = compare_layers(plan, found.graph, float_spikes(model, images, form, plan.timesteps), embedded)
    same = float_answers(model, images, form, plan.timesteps) == integer.run(found.graph, embedded).prediction
    return summary([(r.agreement, r.alone, r.float_rate, r.fidelity) for r in rows], float(same.mean()))


def framework(entry: Entry) -> dict[str, Any]:
    """Import of a model of snnTorch or Sinabs, beside its own run."""
    from spikegate.convert.frameworks.importing import import_framework

    _, report = import_framework(*entry.make(), entry.timesteps, RATE)
    rows = [(r.agreement, r.alone, r.float_rate, r.fidelity) for r in report.layers]
    return summary(rows, report.source_answers) | {"same_sums": report.source_sums}


def nir(entry: Entry) -> dict[str, Any]:
    """Import of a NIR file."""
    from spikegate.formats.nir.importer import import_nir

    _, report = import_nir(entry.make(), timesteps=entry.timesteps, dt=entry.dt, calibrate=RATE, reset=entry.reset)
    return summary([(r.agreement, r.alone, r.float_rate, r.fidelity) for r in report.layers], report.same_answers)


def summary(rows: list[tuple[float, float, float, str]], answers: float) -> dict[str, Any]:
    """Worst and best layer by agreement, the word for the whole, and whether anything spiked."""
    known = [a for a, *_ in rows if a == a]
    alone = [b for _, b, *_ in rows if b == b]
    word = EXACT if all(f == EXACT for *_, f in rows) else APPROXIMATE
    return {"fidelity": word, "layers": len(rows), "agreement": [min(known, default=None), max(known, default=None)],
            "alone": min(alone, default=None), "same_answers": answers if answers == answers else None,
            "spikes": max((r for _, _, r, _ in rows if r == r), default=0.0)}  # fmt: skip


def tried(entry: Entry) -> dict[str, Any]:
    """One source; a refusal is a result, with its reasons."""
    begun = time.perf_counter()
    try:
        found = {"spikingjelly": spikingjelly, "framework": framework, "nir": nir}[entry.kind](entry)
    except DeployError as e:
        found = {"fidelity": UNSUPPORTED, "reason": f"{e.where}: {e.problem}", "hint": e.hint}
    except Exception as e:  # the others are tried all the same; this one is to be mended
        found = {"fidelity": UNSUPPORTED, "reason": f"fails: {type(e).__name__}: {e}", "hint": "a mistake of the importer or of this bench"}
    return {"source": entry.name, **found, "seconds": round(time.perf_counter() - begun, 1)}


def row(r: dict[str, Any]) -> str:
    """A line of the table."""
    if r["fidelity"] == UNSUPPORTED:
        reason = " ".join(str(r["reason"]).split())
        return f"| {r['source']} | {UNSUPPORTED} | {reason[:160]} | |"
    low, high = r["agreement"]
    share = "" if low is None else f"{100 * low:.2f} to {100 * high:.2f} %"
    if not r["spikes"]:
        share += ", nothing spikes"
    same = "" if r["same_answers"] is None else f"{100 * r['same_answers']:.0f} %"
    return f"| {r['source']} | {r['fidelity']} | {share} | {same} |"


def main() -> None:
    """Run what is not known yet, write and print all."""
    args = cli.parse(Args, "Import nets of many sources.")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    known: dict[str, Any] = json.loads(args.output.read_text()) if args.output.is_file() else {}
    entries = [*source_nets.snntorch(), *source_nets.sinabs(), *source_nets.nir_files(args.nir), *source_nets.spikingjelly()]
    begun = time.perf_counter()
    for entry in entries:
        if args.only in entry.name and entry.name not in known and time.perf_counter() - begun < args.seconds:
            known[entry.name] = tried(entry)
            args.output.parent.mkdir(parents=True, exist_ok=True)
            with atomic(args.output) as part:
                part.write_text(json.dumps(known, indent=2) + "\n")
            if not args.json:
                print(row(known[entry.name]), flush=True)
    if args.json:
        cli.print_json(known)
    else:
        run = [r for r in known.values() if r["fidelity"] != UNSUPPORTED]
        there = {*known, *(e.name for e in entries)}
        print(f"{len(known)} of {len(there)} sources tried, {len(run)} run, {len(known) - len(run)} unsupported")


if __name__ == "__main__":
    cli.run(main)
