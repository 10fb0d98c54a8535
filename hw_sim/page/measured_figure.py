"""Our figures over measured ones of real chips: one dot a quantity on a logarithmic axis."""

from __future__ import annotations

import math

from spikegate.hw_sim.energy.units import digits
from spikegate.hw_sim.measurements.check import Check
from spikegate.hw_sim.measurements.show import ours_text, summary
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.svg import Canvas, num

ENDS = (0.1, 10.0)
WIDTH, LEFT, RIGHT, ROW = 680.0, 300.0, 84.0, 17.0
TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
KINDS = (("main", "all inputs given"), ("gates", "an input assumed"), ("host", "set by the measurement itself"))


def measured(checks: list[Check]) -> Figure:
    """The chart; the shaded stripes are 10 % and a factor of two either way, a line is the bracket of an input."""
    c = Canvas(0, WIDTH)
    c.legend(KINDS, 9)
    sources = list(dict.fromkeys(x.source for x in checks))
    top, bottom = 22.0, 22.0 + ROW * (len(checks) + len(sources)) + 4
    for factor, opacity in ((2.0, 0.10), (1.1, 0.22)):
        c.rect(_at(1 / factor), top, _at(factor) - _at(1 / factor), bottom - top, "accent", opacity=opacity)
    for tick in TICKS:
        c.line(_at(tick), top, _at(tick), bottom, "edge" if tick == 1 else "grid")
        c.text(_at(tick), bottom + 12, f"{tick:g}", "s", anchor="middle", size=9.5)
    y = top
    for source in sources:
        y += ROW
        c.text(0, y - 4, f"{source.chip}: {source.net}", "b", size=10.5, within=LEFT)
        for check in (x for x in checks if x.source == source):
            y += ROW
            _dot(c, check, y - 7)
    c.text(_at(1.0), bottom + 26, "ours / measured", "s", anchor="middle", size=9.5)
    c.height = bottom + 32
    alt = "Ratio of ours to measured: " + "; ".join(f"{x.source.net}, {x.name} {x.ours / x.measured:.2f}" for x in checks) + "."
    rows = [[x.source.net, x.name, ours_text(x), digits(x.measured, 4), x.unit, f"{100 * x.error:+.1f} %"] for x in checks]
    return Figure("measurements", "Ours over measured", summary(checks), c.svg("measurements", alt),
                  ["net", "figure", "ours", "measured", "unit", "error"], rows)


def _at(ratio: float) -> float:
    """Place of a ratio on the axis; ratios beyond its ends stand at the end."""
    low, high = (math.log10(e) for e in ENDS)
    share = (math.log10(min(max(ratio, ENDS[0]), ENDS[1])) - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _dot(c: Canvas, check: Check, y: float) -> None:
    kind = KINDS[2][0] if check.fitted else KINDS[1][0] if check.assumptions else KINDS[0][0]
    c.text(8, y + 3.5, check.name, "t", size=9.5, within=LEFT - 16)
    if check.low is not None and check.high is not None:
        c.line(_at(check.low / check.measured), y, _at(check.high / check.measured), y, "edge", width=2)
    tip = f"{check.name}: {ours_text(check)} against {digits(check.measured, 4)} {check.unit}"
    c.raw(f'<circle class="{kind}" cx="{num(_at(check.ours / check.measured))}" cy="{num(y)}" r="4"><title>{tip}</title></circle>')
    c.text(WIDTH, y + 3.5, f"{100 * check.error:+.1f} %", "s", anchor="end", size=9.5)
