"""The bench's table from its JSON files: for a terminal, as markdown, as plain types; and into the documentation at its markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from bench.claims import Claim, Result, total_pj
from bench.plan import Plan, Row
from spikegate.hw_sim.energy.cost_tables import IDLE, load_table
from spikegate.hw_sim.energy.units import digits, energy_text

NONE = "-"
Pair = tuple[Result, Result | None]  # a result and its twin's, of one seed


@dataclass(frozen=True)
class Column:
    """A figure: its title, how to get it from a result and its twin, how to show it; `spread`: with its range over seeds."""

    title: str
    get: Callable[[Result, Result | None], float | None]
    show: Callable[[float], str]
    spread: bool = False

    def text(self, pairs: Sequence[Pair]) -> str:
        """Mean over seeds, and the range where there is more than one."""
        values = [v for v in (self.get(*pair) for pair in pairs) if v is not None]
        if not values:
            return NONE
        mean = self.show(sum(values) / len(values))
        return mean if not self.spread or len(values) < 2 else f"{mean} ({self.show(min(values))} to {self.show(max(values))})"


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


WORK = (
    Column("accuracy, torch", lambda r, _: r["accuracy"]["torch"], percent),
    Column("accuracy, deployed", lambda r, _: r["accuracy"]["deployed"], percent, True),
    Column("parameters", lambda r, _: r["parameters"], lambda v: f"{v:,.0f}"),
    Column("tokens", lambda r, _: r["mean_tokens"], lambda v: f"{100 * v:.1f} %", True),
    Column("timesteps", lambda r, _: r["mean_timesteps"], lambda v: f"{v:.2f}", True),
    Column("layer timesteps", lambda r, _: r["mean_layer_timesteps"] or r["timesteps"], lambda v: f"{v:.2f}", True),
    Column("chip events", lambda r, _: r["chip_events"], lambda v: f"{v:,.0f}"),
    Column("epochs", lambda r, _: sum(r["epochs"]), lambda v: f"{v:.0f}"),
    Column("training", lambda r, _: r["train_seconds"] / 60, lambda v: f"{digits(v, 2)} min"),
)


def visited(result: Result, table: str) -> bool:
    """Whether a result's energy by a table has the visits to idle neurons in it, or the table has no price of any."""
    return bool(result["energy"][table].get("idle_visits_known")) or not load_table(table).pj(IDLE)


def skipped_pj(result: Result, table: str) -> float:
    """Chip energy of a chip that does not visit idle neurons; results of before visits were counted have no other."""
    energy = result["energy"][table]
    return energy["chip_if_skipped_pj"]["value"] if "chip_if_skipped_pj" in energy else energy["chip_pj"]


def energy_columns(tables: Sequence[str]) -> list[Column]:
    """Chip and host energy by each cost table, and the whole as a share of the twin's, with visits to idle neurons and without."""
    found = []
    for name in tables:
        def chip(r: Result, _: Result | None, name: str = name) -> float | None:
            return r["energy"][name]["chip_pj"] if name in r["energy"] and visited(r, name) else None

        def skipped(r: Result, _: Result | None, name: str = name) -> float | None:
            return skipped_pj(r, name) if name in r["energy"] else None

        def host(r: Result, _: Result | None, name: str = name) -> float | None:
            return r["energy"][name]["host_pj"] if name in r["energy"] else None

        def ratio(r: Result, twin: Result | None, name: str = name) -> float | None:
            both = twin and name in r["energy"] and name in twin["energy"] and visited(r, name) and visited(twin, name)
            return total_pj(r, name) / total_pj(twin, name) if twin and both else None

        def without(r: Result, twin: Result | None, name: str = name) -> float | None:
            if not twin or name not in r["energy"] or name not in twin["energy"]:
                return None
            ends = [skipped_pj(x, name) + x["energy"][name]["host_pj"] for x in (r, twin)]
            return ends[0] / ends[1]

        share = "of its twin", lambda v: f"{100 * v:.0f} %", True
        found += [Column(f"{name}: chip", chip, energy_text), Column("host", host, energy_text), Column(share[0], ratio, *share[1:])]
        if load_table(name).pj(IDLE):
            found += [Column("chip, if idle neurons are not visited", skipped, energy_text), Column("of its twin", without, *share[1:])]
    return found


@dataclass(frozen=True)
class Line:
    """A row of the table with the results that exist; `state` says what is stale or missing."""

    row: Row
    pairs: list[Pair]
    state: str

    @property
    def seeds(self) -> str:
        return "" if len(self.pairs) < 2 else f"{len(self.pairs)} seeds"


def lines(plan: Plan, rows: Sequence[Row], read: Callable[[str, int], Result | None], state: Callable[[Row, int], str]) -> list[Line]:
    """Lines of the rows that are shown. `read` gives results by (row name, seed), `state` whether they are fresh."""
    found = []
    for row in rows:
        if row.base:
            continue
        states = {seed: state(row, seed) for seed in range(row.seeds)}
        results = [(read(row.name, seed), read(row.twin, seed) if row.twin else None) for seed in range(row.seeds)]
        not_fresh = [f"{word}{f' (seed {seed})' if row.seeds > 1 else ''}" for seed, word in states.items() if word != "fresh"]
        if all(word == "missing" for word in states.values()):
            not_fresh = ["missing"]
        found.append(Line(row, [(r, t) for r, t in results if r is not None], ", ".join(not_fresh)))
    return found


def cells(line: Line, columns: Sequence[Column]) -> list[str]:
    """A line's figures as text."""
    return [column.text(line.pairs) for column in columns]


def rich_table(title: str, found: Sequence[Line], columns: Sequence[Column]) -> Table:
    """The lines on a terminal."""
    out = Table(title=title, title_justify="left", box=None, pad_edge=False)
    out.add_column("row", no_wrap=True)
    for column in columns:
        out.add_column(escape(column.title), justify="right")
    for line in found:
        name = line.row.name + (f"\n{line.state}" if line.state else "")
        out.add_row(escape(name), *cells(line, columns), style="yellow" if line.state else None)
    return out


def markdown(found: Sequence[Line], columns: Sequence[Column], *, policy: bool = True) -> str:
    """The lines as a markdown table, with each row's state and seeds and, with `policy`, its policy and twin."""
    rows = [["net", "policy", *(c.title for c in columns), "twin"], ["---", "---", *("---:" for _ in columns), "---"]]
    for line in found:
        name = f"`{line.row.name}`" + (f" ({line.seeds})" if line.seeds else "") + (f", {line.state}" if line.state else "")
        twin = f"`{line.row.twin}`" if line.row.twin else NONE
        rows.append([name, line.row.policy or NONE, *cells(line, columns), twin])
    return "\n".join(f"| {' | '.join(row if policy else [row[0], *row[2:-1]])} |" for row in rows)


def markdown_tables(found: Sequence[Line], tables: Sequence[str]) -> str:
    """Work, then energy by each cost table, of the lines that were measured; then the names of those that were not, and exactness."""
    there = [line for line in found if line.pairs]
    missing = [f"`{line.row.name}`" for line in found if not line.pairs]
    parts = [markdown(there, WORK), markdown(there, energy_columns(tables), policy=False)] if there else []
    old = [f"`{line.row.name}`" for line in there if not all(visited(r, t) for r, _ in line.pairs for t in tables if t in r["energy"])]
    if len(old) == len(there) and old:
        old = ["all of them"]
    parts += [f"Measured before visits to idle neurons were counted: {', '.join(old)}."] if old else []
    parts += [f"Not measured yet: {', '.join(missing)}."] if missing else []
    return "\n\n".join([*parts, *([exactness(there)] if there else [])])


def exactness(found: Sequence[Line]) -> str:
    """On how many nets and images every spike was compared, or which nets are not exact."""
    odd = [f"`{line.row.name}`" for line in found for r, _ in line.pairs if not all(e["equal"] for e in r["exact"].values())]
    if odd:
        return f"**NOT exact**: {', '.join(dict.fromkeys(odd))}."
    results = [r for line in found for r, _ in line.pairs]
    checked = []
    mappings = ("int", ""), ("lava", ", one process per chip (gates inside)"), ("lava_block", ", per block"), ("lava_op", ", per op")
    for key, mapping in mappings:
        checks = [r["exact"][key] for r in results if key in r["exact"]]
        if checks:
            images, spikes = min(e["images"] for e in checks), sum(e["spikes"] for e in checks)
            checked.append(f"{' = '.join(checks[0]['targets'])}{mapping} on {images} images of {len(checks)} nets ({spikes:,} spikes)")
    return f"Every spike equal: {'; '.join(checked) or 'not compared'}; {len(results)} nets in all."


def claim_rows(found: Sequence[Claim]) -> list[list[str]]:
    """Claim, measured, accuracy, its twin's accuracy, verdict; then each part of it."""
    rows = []
    for c in found:
        rows.append([
            f"{c.name} (`{c.row}` against `{c.twin}`)", c.gain.text(1, f" {c.unit}"), c.accuracy.text(2, " %"),
            c.twin_accuracy.text(2, " %"), c.verdict,
        ])  # fmt: skip
        rows += [[f"- {name}", spread.text(1), "", "", ""] for name, spread in c.parts.items()]
    return rows


CLAIM_TITLES = ("claim", "measured", "accuracy", "twin's accuracy", "verdict")


def rich_claims(found: Sequence[Claim]) -> Table:
    """The claims on a terminal."""
    out = Table(title="claims", title_justify="left", box=None, pad_edge=False)
    for title in CLAIM_TITLES:
        out.add_column(title, overflow="fold")
    for cells_ in claim_rows(found):
        out.add_row(*map(escape, cells_))
    return out


def markdown_claims(found: Sequence[Claim]) -> str:
    """The claims as a markdown table."""
    rows = [list(CLAIM_TITLES), ["---"] * len(CLAIM_TITLES), *claim_rows(found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def fill(text: str, content: Callable[[str], str | None]) -> str:
    """`text` with what stands between ``<!-- kind:name -->`` and ``<!-- end -->`` replaced by `content` of that key, unless None."""
    def put(match: re.Match[str]) -> str:
        new = content(match[1])
        return match[0] if new is None else f"<!-- {match[1]} -->\n{new}\n<!-- end -->"

    return re.sub(r"<!-- (\w+:[^>]*?) -->\n(?:(?!<!-- \w+:).)*?<!-- end -->", put, text, flags=re.DOTALL)


def as_json(found: Sequence[Line], made: Sequence[Claim]) -> dict[str, Any]:
    """Everything as plain types."""
    return {
        "rows": [{"row": line.row.name, "state": line.state or "fresh", "results": [r for r, _ in line.pairs]} for line in found],
        "claims": [c.facts() for c in made],
    }
