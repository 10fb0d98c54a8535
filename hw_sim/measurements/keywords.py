"""A keyword spotter on Loihi 1 and its scaled copies: power of one more branch and energy of an inference (ABR's power benchmarks).

Rates are not public; ours are those of a converted net that was measured on the same chip (`nxtf.RATE`), bracketed by 2 and 20 %.
"""

from __future__ import annotations

import numpy as np

from spikegate.graph.ir import INPUT
from spikegate.hw_sim.chip.groups import Group, Projection
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.energy.cost_tables import load_table
from spikegate.hw_sim.measurements import background
from spikegate.hw_sim.measurements.check import Check, Source
from spikegate.hw_sim.measurements.nxtf import FAST, RATE, SLOW
from spikegate.hw_sim.measurements.steady import steady

STEPS = 10  # per inference
WIDTH, DEPTH, BRANCHES = 256, 10, 9
SLOPE_MW, SCALED_PER_S = 1.87, 114.3  # by branch, from 1 to 10 branches at this many inferences a second
WHOLE_UJ, WHOLE_PER_S = 272.0, 296.5
SOURCE = Source(
    "Loihi 1", "keyword spotter", "abr/power_benchmarks, logs and paper (arXiv 1812.01739)",
    ("shapes", "inferences a second", "10 steps an inference"), ("firing rates", "every synapse used"),
)


def spotter(branches: int = 0, depth: int = DEPTH) -> list[Group]:
    """Two layers of 256 neurons; `branches` of `depth` such layers lead from the first to the second."""
    first = Group("first", "lif", (1, 1), WIDTH, (Projection(INPUT, "direct", "first"),), level=1)
    out, ends = [first], []
    for branch in range(branches):
        before = "first"
        for layer in range(depth):
            name = f"branch{branch}.{layer}"
            out.append(_dense(name, [before], layer + 2))
            before = name
        ends.append(before)
    out.append(_dense("second", ends or ["first"], out[-1].level + 1))
    return out


def checks() -> list[Check]:
    """Slope, whole net and idle power."""
    slope, low, high = (_slope_mw(r) for r in (RATE, SLOW, FAST))
    whole, least, most = (_step_uj(spotter(), r) * STEPS + background.RUNNING_MW / WHOLE_PER_S * 1e3 for r in (RATE, SLOW, FAST))
    return [
        Check(SOURCE, "dynamic power of one more branch of 10 x 256", "mW", slope, SLOPE_MW, 1.0, "Loihi 1's published prices",
              low=low, high=high),
        Check(SOURCE, "dynamic energy per inference", "uJ", whole, WHOLE_UJ, 0.30,
              "Loihi 1's published prices; 70 mW of processors as the paper names them", ("first layer's input left out",),
              least, most, fitted=True),
        Check(SOURCE, "idle power", "mW", background.static_mw_per_chip("keywords"), background.STATIC_MW["keywords"], 1.0,
              "RelNet and 32 chips, leaving this one out", ("one chip is powered",)),
    ]


def _slope_mw(rate: float) -> float:
    per_branch = (_step_uj(spotter(1 + BRANCHES), rate) - _step_uj(spotter(1), rate)) / BRANCHES
    return per_branch * STEPS * SCALED_PER_S * 1e-3


def _step_uj(groups: list[Group], rate: float) -> float:
    """Dynamic energy of a step, uJ."""
    hw = on_chip(steady(groups, dict.fromkeys((g.name for g in groups), rate)), load_chip("loihi1"), [load_table("loihi1-davies")],
                 method="greedy")
    return hw.energies[0].dynamic.value * 1e-6


def _dense(name: str, sources: list[str], level: int) -> Group:
    """256 neurons that read 256 from each source, by weights of their own."""
    taps = np.ones((WIDTH, WIDTH), bool)
    inputs = tuple(Projection(s, "dense", f"{name}<{s}", taps, 8) for s in sources)
    return Group(name, "dense", (1, 1), WIDTH, inputs, level=level)
