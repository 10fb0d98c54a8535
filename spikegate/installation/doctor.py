"""spikegate doctor: what is installed, what is missing for what, which machine this is, and whether it works."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from spikegate.command import cli
from spikegate.installation.inventory import Machine, Package, gpus, machine, packages

if TYPE_CHECKING:
    from spikegate.installation.self_check import Step

LEAST_MEMORY_GIB, LEAST_DISK_GIB = 1.0, 0.5


@dataclass
class Args:
    """Ends with "ok", or with the first thing that is wrong and exit code 1. What is merely not installed is not wrong."""

    json: bool = False
    """Print everything as JSON only."""


def wrong(found: list[Package], here: Machine) -> str | None:
    """The first thing that keeps the package from working at all, or None."""
    for package in found:
        if package.needed and package.version is None:
            return f"{package.name} is not installed, everything needs it: {package.install}"
    if here.free_memory_gib is not None and here.free_memory_gib < LEAST_MEMORY_GIB:
        return f"{here.free_memory_gib:.1f} GiB of memory are free, at least {LEAST_MEMORY_GIB:.0f} is needed: close something"
    if here.free_disk_gib < LEAST_DISK_GIB:
        return f"{here.free_disk_gib:.1f} GiB of disk are free here, runs need {LEAST_DISK_GIB:.1f}: free some or change the folder"
    return None


def main() -> None:
    """Look, print, check, end with one word."""
    args = cli.parse(Args, "What is installed, what is missing for what, and a self-check.")
    found, here, cards = packages(), machine(), gpus()
    if not args.json:
        _show(found, here, cards)
    problem, steps = wrong(found, here), []
    if problem is None:
        from spikegate.installation import self_check

        if not here.kernels_compiled:  # takes longer than the check itself, once
            from spikegate.installation.compile import compile_all

            cli.errors.print("compiling the integer kernels first, once for this version: up to a minute", markup=False)
            compile_all()
        at_hand = {p.name for p in found if p.version is not None}
        steps = self_check.run("lava-nc" in at_hand, {"torch", "safetensors", "lava-dl"} <= at_hand, None if args.json else _told)
        problem = next((f"{s.name}: {s.outcome}" for s in steps if not s.good), None)
    if args.json:
        cli.print_json({"packages": [asdict(p) for p in found], "machine": here.facts(), "torch": cards,
                        "steps": [asdict(s) for s in steps], "ok": problem is None, "problem": problem})
    else:
        print_ = cli.console.print
        print_("ok" if problem is None else f"wrong: {problem}", style="green" if problem is None else "red", markup=False, soft_wrap=True)
    if problem is not None:
        sys.exit(1)


def _told(step: Step) -> None:
    cli.console.print(f"  {step.name}: {step.outcome}" + (f" ({step.seconds:.1f} s)" if step.outcome == "ok" else ""), markup=False,
                      soft_wrap=True)


def _show(found: list[Package], here: Machine, cards: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, title="packages", title_justify="left")
    for column in ("name", "version", "needed for", "install with"):
        table.add_column(column, overflow="fold")
    for p in found:
        missing = p.version is None
        install = escape(p.install) if missing else ""
        table.add_row(p.name, p.version or "missing", p.purpose, install, style="yellow" if missing else None)
    cli.console.print(table)
    memory = "unknown" if here.free_memory_gib is None else f"{here.free_memory_gib:.1f} GiB"
    shared = "" if here.shared_memory_gib is None else f", shared memory {here.shared_memory_gib:.1f} GiB"
    rows = {
        "spikegate": f"{here.spikegate} in {here.folder}",
        "Python": f"{here.python}, {here.system}",
        "CPU": f"{here.cpu}, {here.cores} cores",
        "free": f"memory {memory}{shared}, disk {here.free_disk_gib:.1f} GiB in this folder",
        "GPU": _cards(cards),
        "kernels": f"{'compiled' if here.kernels_compiled else 'not compiled yet (spikegate compile)'}, {here.kernels}",
        "zoo": f"{here.zoo_nets} nets",
    }
    cli.console.print()
    for name, text in rows.items():
        cli.console.print(f"{name:10} {text}", markup=False, soft_wrap=True)
    cli.console.print("\nself-check", markup=False)


def _cards(cards: dict[str, Any]) -> str:
    if cards.get("problem"):
        return f"unknown: {cards['problem']}"
    if not cards["gpus"]:
        return "none seen by torch" + (f" (built for CUDA {cards['cuda']})" if cards["cuda"] else " (CPU build)")
    names = [f"{g['name']}, {g['memory_gib']:.0f} GiB" + ("" if g["known"] else f" (torch has no code for capability {g['capability']})")
             for g in cards["gpus"]]
    return f"{'; '.join(names)} (CUDA {cards['cuda']})"


if __name__ == "__main__":
    cli.run(main)
