"""PilotNet LIF on Loihi 2: placement, counts, time and energy beside the measurement that lava-dl's notebook prints."""

from __future__ import annotations

from pathlib import Path

from spikegate.graph.ir import COUNTERS
from spikegate.hw_sim.chip import pilotnet
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.mapping import map_to
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.splitting import split
from spikegate.hw_sim.energy.cost_tables import load_table
from spikegate.hw_sim.measurements.check import Check, Source

SOURCE = Source(
    "Loihi 2", "PilotNet LIF", "lava-dl, tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb (BSD-3)",
    ("net with its weights and biases", "every event: biases alone drive the stored run", "compile log"),
)
LOG = "rules recovered from this log"
GRID = ("grid of tiles and routes",)


def checks(path: Path | None = None, steps: int = 64) -> list[Check]:
    """All figures; see `pilotnet.read` for what is refused."""
    layers = pilotnet.read(path)
    chip, measured = load_chip("loihi2"), pilotnet.MEASURED
    work = pilotnet.workload(layers, steps)
    tables = [load_table(n) for n in ("loihi1-davies", "loihi2-pilotnet")]
    hw = on_chip(work, chip, tables, schedule="pipelined", method="greedy")
    davies, fitted = (e.dynamic.value * 1e-6 / steps for e in hw.energies)
    assert hw.times is not None and hw.energies[1].static is not None
    sister = sum(split(g, chip).cores for g in pilotnet.groups(layers, input_on_chip=False))
    per_step = work.mean.sum((0, 1)) / steps
    synops, spikes = per_step[COUNTERS.index("synop")], per_step[COUNTERS.index("spike_out")]
    step_us = float(hw.times.interval_ns.mean()) * 1e-3 / steps
    static = hw.energies[1].static.value * 1e-6 / steps
    dynamic_uj, static_uj = measured["dynamic_uj_per_step"], measured["static_uj_per_step"]
    return [
        Check(SOURCE, "cores", "cores", hw.mapping.cores, measured["cores"], 0.0, LOG, fitted=True),
        Check(SOURCE, "cores of the SDNN sister", "cores", sister, measured["cores_sdnn"], 0.0, LOG, fitted=True),
        Check(SOURCE, "neurons", "neurons", int(hw.mapping.neurons.sum()), measured["neurons"], 0.0),
        Check(SOURCE, "synaptic operations per step", "synops", synops, measured["synops_counter_per_step"], 0.02,
              "counted; the chip's counters are digitised from a plot"),
        Check(SOURCE, "spikes per step, separate simulation", "spikes", spikes, measured["spikes_per_step"], 0.02, "counted"),
        Check(SOURCE, "dynamic energy per step", "uJ", davies, dynamic_uj, 0.10, "Loihi 1's published prices"),
        Check(SOURCE, "dynamic energy per step, fitted table", "uJ", fitted, dynamic_uj, 0.10, "loihi2-pilotnet", fitted=True),
        Check(SOURCE, "static energy per step", "uJ", static, static_uj, 0.30, "this chip's static power, our time", fitted=True),
        Check(SOURCE, "time per step", "us", step_us, measured["step_us"], 0.30, "1.02 ns per synaptic operation", GRID, fitted=True),
    ]


def cores_by_layer(path: Path | None = None) -> dict[str, tuple[int, int]]:
    """Layer -> (our cores, the compile log's)."""
    mapping = map_to(pilotnet.workload(pilotnet.read(path), 1), load_chip("loihi2"))
    return {c.group.name: (c.cores, pilotnet.CORES[c.group.name]) for c in mapping.cuts}
