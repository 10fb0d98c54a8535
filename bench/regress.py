"""python bench/regress.py: short runs of the benches beside the kept figures; ends with 1 if a ratio got worse."""

from __future__ import annotations

import os
import sys

if not __package__:  # run as a file: the repository root comes first, not bench/
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikegate.command import cli
from spikegate.graph.ir import DeployError


@dataclass
class Args:
    """Only ratios of contestants within one run are compared, so another machine or its load matters little."""

    tolerance: float = 1.5
    """How much worse than the kept ratio counts as a regression."""
    results: Path | None = None
    """Folder of the kept figures; bench/results if left out."""
    json: bool = False
    """Print the comparison as JSON only."""


def main() -> None:
    """Measure, compare, print; exit code 1 with the names of what got worse."""
    args = cli.parse(Args, "Whether the benches' ratios got worse.")
    if args.tolerance < 1:
        raise DeployError("--tolerance", f"{args.tolerance} is less than 1", "1.5 allows half as much again")
    warnings.simplefilter("ignore")
    from bench import interleaved

    before = kept(args.results or interleaved.RESULTS)
    rows = compared(before, now(), args.tolerance)
    if args.json:
        cli.print_json(rows)
    else:
        for r in rows:
            word = "WORSE" if r["worse"] else "ok"
            cli.console.print(f"  {word:6s} {r['what']}: {r['now']:.3g}, kept {r['kept']:.3g}", markup=False, soft_wrap=True)
    bad = [r["what"] for r in rows if r["worse"]]
    if bad:
        raise DeployError("bench", f"worse than {args.tolerance:g} times the kept figure: {'; '.join(bad)}",
                          "run that bench alone to see whether it stays so, then look at what changed in its path")


def kept(folder: Path) -> dict[str, float]:
    """The kept ratios, larger is better."""
    try:
        names = ("engine", "halting", "inference", "netx")
        engine, halting, inference, netx = (json.loads((folder / f"{n}.json").read_text()) for n in names)
        chosen = next(r for r in engine["rows"] if (r["shape"], r["density"]) == ("196 tokens, 384 to 384", 0.2))
        return {
            "engine over the bare loop": chosen["of_the_loop"],
            "stas-digits, events saved over time saved": 1 / halting["stas-digits"]["target"]["value"],
            "stas-digits, int over Lava chip": 1 / inference["stas-digits"]["batches"]["64"]["times_int"]["lava chip"],
            "tiny, Lava chip over stock": netx["tiny"]["times_stock"]["chip"],
        }
    except (OSError, KeyError, ValueError, StopIteration) as e:
        hint = "run engine.py, halting.py, inference.py and netx.py of bench/ first"
        raise DeployError(str(folder), f"lacks kept figures ({e!r})", hint) from None


def now() -> dict[str, float]:
    """The same, measured in short runs."""
    from bench import engine, halting, inference, interleaved, netx, stock, zoo_nets

    net = zoo_nets.load("stas-digits", 128)
    found = {}
    interleaved.progress("engine")
    found["engine over the bare loop"] = engine.measured((196, 384, 384), 0.2, 4, 5)["of_the_loop"]
    interleaved.progress("halting")
    found["stas-digits, events saved over time saved"] = 1 / halting.measured(net, 64, 3)["target"]["value"]
    interleaved.progress("inference")
    ratios = inference.measured(net, 64, ("int", "lava chip"), 3)["times_int"]
    found["stas-digits, int over Lava chip"] = 1 / ratios["lava chip"]
    interleaved.progress("netx")
    with tempfile.TemporaryDirectory() as scratch:
        case = next(c for c in stock.CASES if c.name == "tiny")
        found["tiny, Lava chip over stock"] = netx.measured(case, Path(scratch), 2, 4)["times_stock"]["chip"]
    return found


def compared(before: dict[str, float], after: dict[str, float], tolerance: float) -> list[dict[str, Any]]:
    """A row for each figure: what it was, what it is, whether that is worse than allowed."""
    return [{"what": k, "kept": v, "now": after[k], "worse": bool(after[k] * tolerance < v)} for k, v in before.items()]


if __name__ == "__main__":
    cli.run(main)
