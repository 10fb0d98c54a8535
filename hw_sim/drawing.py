"""Drawings of the report as SVG text, and small images as PNG data; matplotlib without a display."""

from __future__ import annotations

import base64
import io
import re

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import imsave

from hw_sim.energy import COMPONENTS
from hw_sim.units import energy_text, unit_for

COLOURS = dict(zip(COMPONENTS, ("#24557a", "#6ba3c4", "#d3a15c", "#8a9a5b", "#b0413e", "#b9bcc1")))
INK, SOFT, SAVED, SPENT = "#22272e", "#8b929b", "#4f8a6b", "#b0413e"
HEAT = LinearSegmentedColormap.from_list("alive", ["#f2f5f7", "#9fc3d8", "#24557a", "#10283b"])
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
WIDTH = 4.5  # inches; with 9 pt text legible on a phone and not coarse in half a page


def bars(nets: dict[str, dict[str, float]], note: str = "") -> str:
    """Stacked horizontal bars of energy, one per net: {name: {component: pJ}} -> SVG text. `note` goes to the axis label."""
    names = list(nets)
    used = [c for c in COMPONENTS if any(v[c] for v in nets.values())]
    top = max(sum(v.values()) for v in nets.values())
    factor, unit = unit_for(top)
    with matplotlib.rc_context(STYLE):
        fig, ax = _axes(0.42 * len(names) + 1.05, top=0.62)
        for y, name in enumerate(names):
            left = 0.0
            for component in used:
                width = nets[name][component] / factor
                ax.barh(y, width, 0.62, left=left, color=COLOURS[component], label=component if y == 0 else None, linewidth=0)
                left += width
            ax.text(left + 0.012 * top / factor, y, energy_text(left * factor), va="center")
        ax.set_xlim(0, 1.2 * top / factor or 1)
        _finish(ax, names, f"energy per inference in {unit}", note)
        fig.legend(
            loc="upper left",
            ncols=3,
            frameon=False,
            handlelength=1,
            handleheight=1,
            columnspacing=1.4,
            bbox_to_anchor=(0, 1),
            borderaxespad=0.1,
        )
        return _svg(fig)


def waterfall(before: tuple[str, float], rows: dict[str, float], after: tuple[str, float], note: str = "") -> str:
    """From the baseline's energy down to the halting net's, in pJ; `rows` are savings (negative = spent); `note` as in `bars`."""
    names = [before[0], *rows, after[0]]
    top = max(before[1], after[1], *(before[1] - np.cumsum(list(rows.values())))) or 1.0
    factor, unit = unit_for(top)
    with matplotlib.rc_context(STYLE):
        fig, ax = _axes(0.34 * len(names) + 0.62, top=0.1)
        level = before[1]
        ax.barh(0, before[1] / factor, 0.62, color=SOFT, linewidth=0)
        ax.text((before[1] + 0.012 * top) / factor, 0, energy_text(before[1]), va="center")
        for y, value in enumerate(rows.values(), 1):
            ax.barh(y, -value / factor, 0.62, left=level / factor, color=SAVED if value >= 0 else SPENT, linewidth=0)
            ax.plot([level / factor] * 2, [y - 0.69, y + 0.31], color=SOFT, linewidth=0.6)
            right = max(level, level - value) / factor
            sign = "-" if value > 0 else "+" if value < 0 else ""
            ax.text(right + 0.012 * top / factor, y, sign + energy_text(abs(value)), va="center")
            level -= value
        ax.barh(len(names) - 1, after[1] / factor, 0.62, color=COLOURS["synapses"], linewidth=0)
        ax.text((after[1] + 0.012 * top) / factor, len(names) - 1, energy_text(after[1]), va="center")
        ax.set_xlim(0, 1.2 * top / factor)
        _finish(ax, names, f"chip energy per inference in {unit}", note)
        return _svg(fig)


def curve(alive: np.ndarray, running: np.ndarray) -> str:
    """Tokens over time.

    Parameters
    ----------
    alive : float [N, T, blocks], share of each sample's tokens that a block processes
    running : float [T], share of samples that run timestep t
    """
    _, steps, blocks = alive.shape
    cells = alive.reshape(len(alive), -1) * 100
    x = np.arange(cells.shape[1] + 1)
    with matplotlib.rc_context(STYLE):
        fig, ax = _axes(2.2, top=0.34, left=0.12, bottom=0.24)
        low, high = (np.append(v, v[-1]) for v in np.percentile(cells, [10, 90], axis=0))
        ax.fill_between(x, low, high, step="post", color="#6ba3c4", alpha=0.3, linewidth=0, label="10 to 90 % of images")
        mean = cells.mean(0)
        ax.step(x, np.append(mean, mean[-1]), where="post", color=COLOURS["synapses"], linewidth=1.6, label="mean")
        share = np.repeat(running * 100, blocks)
        ax.step(x, np.append(share, share[-1]), where="post", color=SPENT, linewidth=1, linestyle=(0, (3, 2)), label="images still running")
        for t in range(1, steps):
            ax.axvline(t * blocks, color=SOFT, linewidth=0.5, alpha=0.6)
        ax.set_xticks([(t + 0.5) * blocks for t in range(steps)], [f"timestep {t + 1}" if steps <= 6 else str(t + 1) for t in range(steps)])
        ax.tick_params(axis="x", length=0)
        ax.set(xlim=(0, x[-1]), ylim=(0, 104), ylabel="tokens processed in %")
        ax.spines[["top", "right"]].set_visible(False)
        fig.legend(loc="upper left", ncols=3, frameon=False, handlelength=1.4, columnspacing=1.2, bbox_to_anchor=(0, 1), borderaxespad=0.1)
        return _svg(fig)


def picture(image: np.ndarray) -> str:
    """An image, uint8 [C, H, W], as a PNG data address; other than 1 or 3 channels are averaged."""
    if image.shape[0] == 3:
        return _png(image.transpose(1, 2, 0))
    grey = image[0] if image.shape[0] == 1 else image.mean(0).astype(np.uint8)
    return _png(np.repeat(grey[..., None], 3, 2))


def heat(share: np.ndarray) -> str:
    """Values 0..1 [H, W] in the colours of `HEAT`, as a PNG data address."""
    return _png((HEAT(share)[..., :3] * 255).round().astype(np.uint8))


def heat_scale() -> list[str]:
    """Colours of the heat map from 0 to 1, for its legend."""
    return [matplotlib.colors.to_hex(HEAT(v)) for v in np.linspace(0, 1, 6)]


def _png(pixels: np.ndarray, size: int = 96) -> str:
    factor = max(1, size // max(pixels.shape[:2]))
    data = io.BytesIO()
    imsave(data, np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1)), format="png")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _axes(height: float, *, top: float, left: float = 0.33, bottom: float = 0.42) -> tuple[Figure, Axes]:
    """A figure of `height` inches whose axes leave `top` inches above for the legend and `bottom` inches below."""
    fig = Figure(figsize=(WIDTH, height))
    ax = fig.add_axes((left, bottom / height, 0.98 - left, (height - bottom - top) / height))
    return fig, ax


def _finish(ax: Axes, names: list[str], label: str, note: str) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"{label} ({note})" if note else label)
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.spines[["top", "right", "left"]].set_visible(False)


def _svg(fig: Figure) -> str:
    text = io.StringIO()
    fig.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    body = text.getvalue()
    return re.sub(r"\s*<metadata>.*?</metadata>", "", body[body.index("<svg") :], flags=re.DOTALL)
