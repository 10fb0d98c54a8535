"""How many tokens are processed, block by block and timestep by timestep."""

from __future__ import annotations

import numpy as np

from spikegate.hw_sim.energy.units import digits
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import RunView
from spikegate.hw_sim.page.svg import WIDTH, Canvas, ident, num

LEFT, HEIGHT = 38.0, 120.0


def cells_of(view: RunView) -> tuple[np.ndarray, np.ndarray]:
    """(share of tokens that each block processes [N, T, blocks], share of images that run timestep t [T])."""
    record = view.main.record
    share = record.processed.mean(3)
    steps = np.arange(1, share.shape[1] + 1)
    return share, (record.exit_step[:, None] >= steps).mean(0)


def tokens(view: RunView) -> Figure | None:
    """Mean and spread over images; None for a net that halts no token."""
    if not view.main.record.gates:
        return None
    share, running = cells_of(view)
    _, steps, blocks = share.shape
    flat = 100 * share.reshape(len(share), -1)
    number = flat.shape[1]
    c = Canvas(0)
    y = c.legend([("synapses", "mean"), ("attention", "10 to 90 % of images"), ("gates", "images still running")]) + 8
    width = WIDTH - LEFT - 4

    def x(k: float) -> float:
        return LEFT + width * k / number

    def at(v: float) -> float:
        return y + HEIGHT * (1 - v / 100)

    for v in (0, 25, 50, 75, 100):
        c.line(LEFT, at(v), LEFT + width, at(v), "grid")
        c.text(LEFT - 4, at(v) + 3.5, f"{v} %" if v == 100 else str(v), "s", anchor="end", size=9.5)
    low, high = np.percentile(flat, [10, 90], axis=0)
    for k in range(number):
        c.rect(x(k), at(high[k]), width / number, max(1.0, at(low[k]) - at(high[k])), "attention", opacity=0.45)
    mean = flat.mean(0)
    c.path(_steps([x(k) for k in range(number + 1)], [at(v) for v in mean]), "curve")
    shares = np.repeat(100 * running, blocks)
    c.path(_steps([x(k) for k in range(number + 1)], [at(v) for v in shares]), "second")
    for t in range(steps):
        if t:
            c.line(x(t * blocks), y, x(t * blocks), y + HEIGHT, "edge")
        c.text(x((t + 0.5) * blocks), y + HEIGHT + 13, f"timestep {t + 1}" if steps <= 4 else str(t + 1), "s", anchor="middle", size=9.5)
    c.height = y + HEIGHT + 18
    name = f"tokens-{ident(view.label)}"
    says = f"Share of tokens that each block processes, block by block within a timestep; {digits(float(mean.mean()))} % on average."
    ends = f"{digits(float(mean[0]))} % in the first block, {digits(float(mean[-1]))} % in the last block of the last timestep"
    alt = f"{view.label}, tokens processed: {ends}."
    data = [
        [str(t + 1), str(b + 1), f"{digits(float(mean[t * blocks + b]))} %", f"{digits(float(low[t * blocks + b]))} %",
         f"{digits(float(high[t * blocks + b]))} %", f"{digits(float(100 * running[t]))} %"]
        for t in range(steps) for b in range(blocks)
    ]
    columns = ["timestep", "block", "mean tokens", "10 % of images", "90 % of images", "images still running"]
    return Figure(name, view.label, says, c.svg(name, alt), columns, data)


def _steps(x: list[float], y: list[float]) -> str:
    """A line that holds each value over its cell."""
    return f"M{num(x[0])} {num(y[0])}" + "".join(f"H{num(right)}" + (f"V{num(y[k + 1])}" if k + 1 < len(y) else "")
                                                 for k, right in enumerate(x[1:]))
