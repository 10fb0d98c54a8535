"""Where the time goes: each chip step of an inference, and each kind of work alone."""

from __future__ import annotations

import numpy as np

from spikegate.hw_sim.chip.latency import TERMS
from spikegate.hw_sim.energy.units import digits
from spikegate.hw_sim.page.figure import Figure
from spikegate.hw_sim.page.run_view import RunView
from spikegate.hw_sim.page.svg import WIDTH, Canvas, ident, ticks
from spikegate.hw_sim.tables.chip_tables import TIME_STEPS, time_text

LEFT, HEIGHT = 34.0, 110.0
COLOURS = dict(zip(TERMS, ("synapses", "neurons", "attention", "gates", "host")))
NEEDS = {"memory": "memory_word", "synop": "synop", "link": "link_packet", "barrier": "barrier"}  # times of the profile
MEANING = {
    "synop": "accumulates of the busiest core", "neuron": "visits of neurons of the busiest core", "memory": "reads of weights",
    "link": "packets over the busiest link", "barrier": "waiting for all cores at the end of a step",
}


def chip_steps(view: RunView) -> Figure | None:
    """Mean time of each chip step by the sum model, coloured by the term that bounds it."""
    times = None if view.hardware is None else view.hardware.times
    if times is None:
        return None
    step, number = times.step_ns, len(times.step_ns)
    top = float(step.max()) or 1.0
    factor, unit = next(((f, u) for f, u in TIME_STEPS if top >= f), TIME_STEPS[-1])
    used = [n for n in TERMS if n in times.bound_by]
    c = Canvas(0)
    y = c.legend((COLOURS[n], f"bound by {n}") for n in used) + 6
    width = WIDTH - LEFT - 2
    for v in ticks(top / factor, 4):
        at = y + HEIGHT * (1 - v * factor / top)
        c.line(LEFT, at, LEFT + width, at, "grid")
        c.text(LEFT - 4, at + 3.5, f"{v:g}", "s", anchor="end", size=9.5)
    each = width / number
    for k, ns in enumerate(step):
        high = HEIGHT * ns / top
        bound = times.bound_by[k]
        c.rect(LEFT + k * each + 0.08 * each, y + HEIGHT - high, 0.84 * each, high, COLOURS.get(bound, "main"),
               tip=f"chip step {k + 1}: {time_text(float(ns))}, bound by {bound}")
    apart = 10 if number <= 100 else 50 if number <= 500 else 200
    for k in (1, *(t for t in range(apart, number, apart) if (number - t) * each > 26), *[number] * (number > 1)):
        c.text(LEFT + (k - 0.5) * each, y + HEIGHT + 12, str(k), "s", anchor="end" if k == number and number > 9 else "middle", size=9.5)
    c.text(WIDTH - 2, y + HEIGHT + 25, f"chip step; height in {unit} (estimate)", "s", anchor="end", size=9.5)
    c.height = y + HEIGHT + 30
    name = f"steps-{ident(view.label)}"
    low, middle, high = np.percentile(times.sum_ns, [5, 50, 95])
    says = (
        f"Time of each chip step ({times.schedule}), mean over the images that reach it. An inference takes {time_text(middle)} "
        f"(median; {time_text(low)} to {time_text(high)} for 5 to 95 % of images) and {digits(float(times.steps.mean()))} chip steps. "
        f"The slowest op is {times.slowest}."
    )
    alt = f"{view.label}: {number} chip steps of {time_text(float(step.min()))} to {time_text(top)} each."
    data = [[str(k + 1), time_text(float(ns)), times.bound_by[k]] for k, ns in enumerate(step)]
    return Figure(name, "Time of each chip step", says, c.svg(name, alt), ["chip step", "time", "largest term"], data)


def terms(view: RunView) -> Figure | None:
    """Each kind of work alone beside the sum model and the bound."""
    if view.hardware is None or view.hardware.times is None:
        return None
    times = view.hardware.times
    alone = {n: float(v.mean()) for n, v in times.terms_ns.items()}
    untimed = [n for n, entry in NEEDS.items() if view.hardware.chip.timing[entry].value is None]
    bars = [(n, alone[n], COLOURS[n]) for n in TERMS]
    bars += [("at least (bound)", float(times.bound_ns.mean()), "end"), ("all (sum model)", float(times.sum_ns.mean()), "main")]
    top = max(v for _, v, _ in bars) or 1.0
    c = Canvas(0)
    y, left = 2.0, 104.0
    width = WIDTH - left - 56
    for label, value, cls in bars:
        c.text(0, y + 12, label, "t" if label in alone else "b", within=left - 4)
        c.rect(left, y + 2, max(0.8, width * value / top), 13, cls, tip=f"{label}: {time_text(value)}")
        c.text(left + width * value / top + 4, y + 12, "no time published" if label in untimed else time_text(value))
        y += 20
    c.height = y + 2
    name = f"terms-{ident(view.label)}"
    says = (f"Time per inference (estimate) of each kind of work alone, summed over chip steps. They overlap, so they do not add up; "
            f"most goes to: {times.bottleneck}.")
    alt = f"{view.label}: " + ", ".join(f"{label} {time_text(v)}" for label, v, _ in bars if label not in untimed) + "."
    data = [[label, "not published, not added" if label in untimed else time_text(v), MEANING.get(label, "")] for label, v, _ in bars]
    data.append(["one inference every", time_text(float(times.interval_ns.mean())), "images that follow at once"])
    return Figure(name, "Each kind of work", says, c.svg(name, alt), ["", "per inference", "what it is"], data)
