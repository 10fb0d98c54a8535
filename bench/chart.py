"""The accuracy-energy chart as SVG text; matplotlib without a display."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spikegate.hw_sim.energy.units import digits, unit_for

INK, SOFT = "#22272e", "#8b929b"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "spikegate",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
# Okabe and Ito's colours, which colour-blind readers can tell apart; markers and dashes tell the curves apart in grey, too.
LOOKS = (
    ("#0072b2", "o", "-"), ("#d55e00", "s", "--"), ("#009e73", "^", "-."), ("#cc79a7", "D", ":"), ("#56b4e9", "v", "-"),
    ("#e69f00", "P", "--"), ("#000000", "X", "-."),
)  # fmt: skip
FRONT = "#f0e442"
LOG_FROM = 6.0  # ratio of largest to smallest energy from which the axis is logarithmic


def chart(points: list[dict[str, Any]], label: str, title: str) -> str:
    """Curves, static nets as single points, and the Pareto front behind them.

    Parameters
    ----------
    points : dicts with curve (None: a static net), knob, label, total_pj, accuracy, front
    label : of the energy axis, without its unit
    """
    energies = [p["total_pj"] for p in points]
    factor, unit = unit_for(min(energies))
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(7.2, 5.4))
        ax = fig.add_axes((0.09, 0.29, 0.89, 0.65))
        best = sorted((p for p in points if p["front"]), key=lambda p: p["total_pj"])
        xs, ys = [p["total_pj"] / factor for p in best], [100 * p["accuracy"] for p in best]
        ax.plot(xs, ys, color=FRONT, linewidth=9, alpha=0.75, solid_capstyle="round", label="Pareto front", zorder=1)
        for look, name in zip(LOOKS, dict.fromkeys(p["curve"] for p in points if p["curve"])):
            _curve(ax, [p for p in points if p["curve"] == name], name, look, factor)
        static = [p for p in points if not p["curve"]]
        if static:
            x, y = [p["total_pj"] / factor for p in static], [100 * p["accuracy"] for p in static]
            ax.plot(x, y, color=INK, marker="*", markersize=9, linestyle="none", label="static nets", zorder=4)
        if max(energies) > LOG_FROM * min(energies):
            ax.set_xscale("log")
        ax.margins(x=0.09, y=0.07)
        locators = {"linear": matplotlib.ticker.MaxNLocator(7), "log": matplotlib.ticker.LogLocator(subs=(1, 2, 5))}
        ax.xaxis.set_major_locator(locators[ax.get_xscale()])
        ax.xaxis.set_major_formatter(lambda v, _: digits(v, 2))
        ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        ax.set(xlabel=f"{label}, in {unit}", ylabel="test accuracy in %", title=title)
        ax.grid(color=SOFT, alpha=0.25, linewidth=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        _labels(fig, ax, static, factor)
        legend = ax.get_legend_handles_labels()
        fig.legend(*legend, loc="lower center", ncols=2, frameon=False, handlelength=3.4, bbox_to_anchor=(0.53, 0.0))
        return svg(fig)


def _curve(ax: Axes, points: list[dict[str, Any]], name: str, look: tuple[str, str, str], factor: float) -> None:
    """One curve; its first and last setting stand beside the ends."""
    colour, marker, dash = look
    x, y = [p["total_pj"] / factor for p in points], [100 * p["accuracy"] for p in points]
    ax.plot(x, y, color=colour, marker=marker, linestyle=dash, linewidth=1.5, markersize=5.5, label=name, zorder=3)
    for i in sorted({0, len(points) - 1}):
        ax.annotate(points[i]["label"], (x[i], y[i]), (0, -11), textcoords="offset points", ha="center", fontsize=7, color=colour, zorder=5)


def _labels(fig: Figure, ax: Axes, static: list[dict[str, Any]], factor: float) -> None:
    """Names of the static nets beside their stars, pushed apart where they would touch."""
    fig.draw_without_rendering()

    def place(point: dict[str, Any]) -> tuple[float, float]:
        x, y = ax.transData.transform((point["total_pj"] / factor, 100 * point["accuracy"])) * 72 / fig.dpi
        return float(x), float(y)

    end = ax.transData.transform((ax.get_xlim()[1], 0))[0] * 72 / fig.dpi
    taken: list[tuple[float, float, float]] = []  # left, right, height of the labels so far, in points
    for point in sorted(static, key=lambda p: -p["accuracy"]):
        (x, y), width = place(point), 4.6 * len(point["label"])
        leftwards = x + width + 8 > end
        left = x - 8 - width if leftwards else x + 8
        height = y
        while any(left < r and left + width > start and abs(height - h) < 9.5 for start, r, h in taken):
            height -= 1.0
        taken.append((left, left + width, height))
        line = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            point["label"], (point["total_pj"] / factor, 100 * point["accuracy"]), (-8 if leftwards else 8, height - y - 3),
            textcoords="offset points", ha="right" if leftwards else "left", fontsize=8, color=INK, zorder=5,
            arrowprops=line if y - height > 6 else None,
        )  # fmt: skip


def svg(fig: Figure) -> str:
    """The figure as SVG text, the same in every run."""
    text = io.StringIO()
    fig.savefig(text, format="svg", metadata={"Date": None})
    body = text.getvalue()
    return re.sub(r"\s*<metadata>.*?</metadata>", "", body[body.index("<svg") :], flags=re.DOTALL)
