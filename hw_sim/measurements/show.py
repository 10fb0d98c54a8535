"""The validate command's table: ours, measured, error, and which inputs are given or assumed."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from spikegate.hw_sim.energy.units import digits
from spikegate.hw_sim.measurements.check import Check, Source


def show(checks: list[Check], console: Console) -> None:
    """One table by chip, a section for each net with its inputs, and the sum."""
    for chip in dict.fromkeys(c.source.chip for c in checks):
        rows = [c for c in checks if c.source.chip == chip]
        table = Table(title=f"estimates for {chip} beside measurements", title_justify="left", caption_justify="left")
        table.add_column("figure")
        for column in ("ours", "measured", "error", "goal"):
            table.add_column(column, justify="right")
        table.add_column("from")
        for source in dict.fromkeys(c.source for c in rows):
            table.add_section()
            table.add_row(source.net, style="bold")
            for c in rows:
                if c.source == source:
                    table.add_row(*_row(c))
        table.caption = "\n".join(inputs(s) for s in dict.fromkeys(c.source for c in rows))
        console.print(table)
    console.print(summary(checks))


def inputs(source: Source) -> str:
    """What is given and what is assumed, in a line."""
    assumed = f"; assumed: {', '.join(source.assumed)}" if source.assumed else ""
    return f"{source.net}: {source.printed}. Given: {', '.join(source.given)}{assumed}"


def summary(checks: list[Check]) -> str:
    """How many predictions reach the goal; what a measurement itself set is no prediction."""
    tested = [c for c in checks if not c.fitted]
    whole, part = [c for c in tested if not c.assumptions], [c for c in tested if c.assumptions]
    return (
        f"{sum(c.reaches_goal for c in whole)} of {len(whole)} figures whose inputs are all given are within 10 %, "
        f"{sum(c.reaches_goal for c in part)} of {len(part)} with assumed inputs within a factor of two. "
        f"* set by the measurement itself ({len(checks) - len(tested)}): consistency, no prediction."
    )


def ours_text(c: Check) -> str:
    """Our figure with its bracket, if there is one."""
    ends = "" if c.low is None or c.high is None else f" ({digits(c.low)} to {digits(c.high)})"
    return digits(c.ours, 4) + ends


def _row(c: Check) -> list[str]:
    origin = c.constants + "".join(f"; assumed: {a}" for a in c.assumed)
    goal = "yes" if c.reaches_goal else "no"
    measured = f"{digits(c.measured, 4)} {c.unit}"
    return [c.name + (" *" if c.fitted else ""), ours_text(c), measured, f"{100 * c.error:+.1f} %", goal if c.holds else "BROKEN", origin]
