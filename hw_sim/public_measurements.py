"""The validate command: our figures of PilotNet on Loihi 2 beside the public measurement, each with the tolerance it has to keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spikegate.graph.ir import COUNTERS
from spikegate.hw_sim.chip import pilotnet
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.mapping import map_to
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.splitting import split
from spikegate.hw_sim.energy.cost_tables import load_table
from spikegate.hw_sim.energy.units import digits


@dataclass(frozen=True)
class Check:
    """One figure: ours, the one to compare with, and the relative tolerance; `fitted` if the measurement itself set a price or time."""

    name: str
    unit: str
    ours: float
    measured: float
    tolerance: float
    fitted: bool = False

    @property
    def error(self) -> float:
        return self.ours / self.measured - 1

    @property
    def holds(self) -> bool:
        return abs(self.error) <= self.tolerance


def pilotnet_checks(path: Path | None = None, steps: int = 64) -> list[Check]:
    """Compute all figures; see `pilotnet.read` for what is refused."""
    layers = pilotnet.read(path)
    chip, measured = load_chip("loihi2"), pilotnet.MEASURED
    work = pilotnet.workload(layers, steps)
    tables = [load_table(n) for n in ("loihi1-davies", "loihi2-pilotnet")]
    hw = on_chip(work, chip, tables, schedule="pipelined", method="greedy")
    davies, fitted = (e.dynamic.value * 1e-6 / steps for e in hw.energies)
    assert hw.times is not None and hw.energies[1].static is not None
    sister = sum(split(g, chip).cores for g in pilotnet.groups(layers, input_on_chip=False))
    per_step = work.mean.sum((0, 1)) / steps
    synops = per_step[COUNTERS.index("synop")]
    step_us = float(hw.times.interval_ns.mean()) * 1e-3 / steps
    return [
        Check("cores", "cores", hw.mapping.cores, measured["cores"], 0.0),
        Check("cores of the SDNN sister", "cores", sister, measured["cores_sdnn"], 0.0),
        Check("neurons", "neurons", int(hw.mapping.neurons.sum()), measured["neurons"], 0.0),
        Check("synaptic operations per step, chip's counters", "synops", synops, measured["synops_counter_per_step"], 0.02),
        Check("synaptic operations per step, separate simulation", "synops", synops, measured["synops_per_step"], 0.02),
        Check("spikes per step, separate simulation", "spikes", per_step[COUNTERS.index("spike_out")], measured["spikes_per_step"], 0.02),
        Check("dynamic energy per step, Loihi 1's published prices", "uJ", davies, measured["dynamic_uj_per_step"], 0.10),
        Check("dynamic energy per step, fitted Loihi 2 estimate", "uJ", fitted, measured["dynamic_uj_per_step"], 0.10, fitted=True),
        Check("static energy per step, measured power x our time", "uJ", hw.energies[1].static.value * 1e-6 / steps,
              measured["static_uj_per_step"], 0.30),
        Check("time per step", "us", step_us, measured["step_us"], 0.30, fitted=True),
    ]


def cores_by_layer(path: Path | None = None) -> dict[str, tuple[int, int]]:
    """Layer -> (our cores, the compile log's)."""
    mapping = map_to(pilotnet.workload(pilotnet.read(path), 1), load_chip("loihi2"))
    return {c.group.name: (c.cores, pilotnet.CORES[c.group.name]) for c in mapping.cuts}


def to_json(checks: list[Check]) -> list[dict[str, Any]]:
    return [vars(c) | {"error": c.error, "holds": c.holds} for c in checks]


def show(checks: list[Check], console: Console) -> None:
    """One row per figure."""
    title = "PilotNet LIF on the loihi2 profile (estimate) and what is public of it"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("figure")
    for column in ("ours", "public", "error", "allowed", "holds"):
        table.add_column(column, justify="right")
    for c in checks:
        mark = " *" if c.fitted else ""
        ours, public = (f"{digits(v, 6)} {c.unit}" for v in (c.ours, c.measured))
        table.add_row(c.name + mark, ours, public, f"{100 * c.error:+.1f} %", f"{100 * c.tolerance:.0f} %", "yes" if c.holds else "no")
    table.caption = "* this measurement itself set a price or a time of the profile: agreement shows consistency, not prediction"
    console.print(table)
