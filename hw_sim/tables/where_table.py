"""Where halting saves, on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from spikegate.hw_sim.energy.units import count_text, digits
from spikegate.hw_sim.energy.where import NAMES, PARTS, Where

TIMES = dict(zip(NAMES, ("timestep 1", "later", "after the exit")))


def percent(part: float, whole: float) -> str:
    """Without a sign; empty if there is nothing to compare with."""
    return f"{digits(100 * part / whole)} %" if whole else ""


def part_rows(w: Where) -> list[list[str]]:
    """Rows of the table by part, mean events per inference, the sum last."""
    total = int(w.saved.sum())
    rows = []
    for k, title in enumerate(PARTS.values()):
        before, after, when = int(w.off[:, k].sum()), int(w.on[:, k].sum()), w.saved[k].tolist()
        if before or after:
            rows.append([title, *_cells(w, before, after, when), percent(before - after, total)])
    return [*rows, ["all", *_cells(w, int(w.off.sum()), int(w.on.sum()), w.saved.sum(0).tolist()), percent(total, total)]]


def _cells(w: Where, before: int, after: int, when: list[int]) -> list[str]:
    saved = [count_text(v / w.samples) for v in (before, after, before - after, *when)]
    return [*saved, percent(before - after, before) if after <= before else ""]


def step_rows(w: Where) -> list[list[str]]:
    """Rows by timestep: tokens and events saved, events for each (block, token) cell saved, and events over tokens saved (both shares)."""
    rows = []
    ends = (*range(len(w.on)), slice(None))
    for t in ends:
        before, after = (int(x[t].sum()) for x in (w.off, w.on))
        tokens, left = (int(x[t].sum()) for x in (w.cells_off, w.cells_on))
        spared = tokens - left
        rows.append([
            "all" if isinstance(t, slice) else str(t + 1), percent(spared, tokens), percent(before - after, before),
            count_text((before - after) / spared) if spared else "", count_text(before / tokens) if tokens else "",
            digits((before - after) / before / (spared / tokens)) if spared and before else "",
        ])  # fmt: skip
    return rows


def show(w: Where, console: Console) -> None:
    """Print both tables."""
    by_part = Table(title="where the saving goes, events per inference", title_justify="left")
    for name in ("", "without halting", "with", "saved", *(f"of it {t}" for t in TIMES.values()), "of its own", "of the saving"):
        by_part.add_column(name, justify="right" if name else "left")
    for row in part_rows(w):
        by_part.add_row(*row)
    by_step = Table(title="what one halted token saves, and when", title_justify="left")
    for name in ("timestep", "tokens saved", "events saved", "events for each token saved", "events of a token without", "events / tokens"):
        by_step.add_column(name, justify="right")
    for row in step_rows(w):
        by_step.add_row(*row)
    console.print(by_part)
    console.print(by_step)
