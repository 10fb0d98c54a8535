"""Accuracy over events of nets that halt without training, pruned or by exits: a chart with one panel a net, and a table of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.chart import INK, LOOKS, SOFT, STYLE, svg
from bench.table import fill

WIDE, HIGH = 3.6, 2.7  # of a panel, inches
ROOT = Path(__file__).parents[1]
PAGE, CHART = ROOT / "docs" / "how-to" / "deploy-and-compare.md", ROOT / "docs" / "images" / "pruning.svg"
RESULTS = ROOT / "bench" / "results"


def update(pruning: Path = RESULTS / "pruning.json", exits: Path = RESULTS / "exits.json") -> tuple[Path, Path]:
    """Write chart and tables of all that these files keep into the documentation; the files written."""
    pruned, early = (json.loads(path.read_text()) for path in (pruning, exits))
    CHART.write_text(chart(pruned, early))
    tables = {"pruning:table": markdown(pruned), "exits:table": exits_markdown(early)}
    PAGE.write_text(fill(PAGE.read_text(), tables.get))
    return PAGE, CHART


def chart(rows: list[dict[str, Any]], exits: list[dict[str, Any]], part: str = "test") -> str:
    """Panels of the nets in `rows` (of bench/pruning.py), two beside each other; `exits` (of bench/exits.py) of the same nets.

    Accuracy and events in %; blue: tokens dropped from the blocks, red: from the embedding, too; a line for each patience; a third colour:
    exits, by changed answers.
    """
    rows = [row for row in rows if row["part"] == part]
    nets = list(dict.fromkeys(row["net"] for row in rows))
    down = -(-len(nets) // 2)
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(2 * WIDE, down * HIGH + 0.8), layout="constrained")
        panels = fig.subplots(down, 2, squeeze=False).ravel()
        for ax, net in zip(panels, nets):
            early = [row for row in exits if row["net"] == net and row["rule"] == "--exit-drop"]
            _panel(ax, [row for row in rows if row["net"] == net], early)
        for ax in panels[len(nets) :]:
            ax.set_axis_off()
        seen = {label: line for ax in panels for line, label in zip(*ax.get_legend_handles_labels())}
        fig.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        return svg(fig)


def _panel(ax: Axes, rows: list[dict[str, Any]], exits: list[dict[str, Any]]) -> None:
    """One net: its static point, a line for each (where dropped, patience) and one of its exits, in the order of events."""
    first = rows[0]
    ax.axhline(100 * first["accuracy_static"], color=SOFT, linewidth=0.6, zorder=0)
    ax.plot([100], [100 * first["accuracy_static"]], "*", color=INK, markersize=9, label="static", linestyle="none")
    for patience in sorted({row["patience"] for row in rows}):
        for whole, where in ((False, "blocks"), (True, "embedding and blocks")):
            line = sorted((r["events"], r["accuracy"]) for r in rows if r["embedding"] == whole and r["patience"] == patience)
            color, marker, _ = LOOKS[int(whole)]
            ax.plot(
                [100 * x for x, _ in line], [100 * y for _, y in line], color=color, marker=marker, markersize=3.5, linewidth=1.1,
                linestyle={1: ":", 2: "-"}.get(patience, "--"), label=f"{where}, patience {patience}",
            )  # fmt: skip
    line = sorted((r["events"], r["accuracy"]) for r in exits)
    color, marker, _ = LOOKS[2]
    if line:
        ax.plot([100 * x for x, _ in line], [100 * y for _, y in line], color=color, marker=marker, markersize=3.5, linewidth=1.1,
                label="exits")  # fmt: skip
    ax.set_title(f"{first['net'].removeprefix('runs/')}, {first['images']:,} images", fontsize=9, loc="left")
    ax.set_xlabel("chip events, % of the static net's")
    ax.set_ylabel("accuracy, %")
    ax.spines[["top", "right"]].set_visible(False)


def markdown(rows: list[dict[str, Any]], part: str = "test") -> str:
    """A row for each net, patience above 1 and share asked for: with tokens dropped from the blocks, then from the embedding, too."""
    lines = [
        "| net | patience | asked for | blocks: tokens | events | accuracy | embedding, too: tokens | events | accuracy | static |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    both = {(r["net"], r["patience"], r["share"], r["embedding"]): r for r in rows if r["part"] == part}
    for (net, patience, share, whole), row in both.items():
        other = both.get((net, patience, share, True))
        if whole or patience < 2 or not share or other is None:
            continue
        figures = [f"{100 * r['tokens']:.1f} % | {100 * r['events']:.1f} % | {100 * r['accuracy']:.2f} %" for r in (row, other)]
        name = f"`{net.removeprefix('runs/')}`, {row['images']:,} images"
        lines.append(f"| {name} | {patience} | {100 * share:.0f} % | {' | '.join(figures)} | {100 * row['accuracy_static']:.2f} % |")
    return "\n".join(lines)


def exits_markdown(rows: list[dict[str, Any]]) -> str:
    """A row for each net and rule."""
    lines = ["| net | option | timesteps | tokens | events | accuracy | static |", "|---|---|---:|---:|---:|---:|---:|"]
    for r in rows:
        figures = " | ".join(f"{100 * r[k]:.1f} %" for k in ("tokens", "events"))
        name, timesteps = f"`{r['net'].removeprefix('runs/')}`, {r['images']:,} images", f"{r['timesteps']:.2f} of {r['of']}"
        lines.append(f"| {name} | `{r['rule']} {r['share']:g}` | {timesteps} | {figures} | {100 * r['accuracy']:.2f} % "
                     f"| {100 * r['accuracy_static']:.2f} % |")  # fmt: skip
    return "\n".join(lines)
