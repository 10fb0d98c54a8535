"""The sequential-MNIST LSNN on Loihi 1: energy, power and time of a step, and energy of an inference, beside the measured ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spikegate.graph.ir import COUNTERS, INPUT
from spikegate.hw_sim.chip.groups import Group, Projection
from spikegate.hw_sim.chip.hardware import on_chip
from spikegate.hw_sim.chip.mapping import Mapping
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.chip.splitting import Cut
from spikegate.hw_sim.chip.workload import Workload
from spikegate.hw_sim.energy.cost_tables import load_table
from spikegate.hw_sim.measurements import background, lsnn
from spikegate.hw_sim.measurements.check import Check, Source

MEASURED = {
    "step_us": 16.6495, "core_dynamic_mw": 1.58346, "core_static_mw": 1.00639, "x86_dynamic_mw": 23.1951, "x86_static_mw": 0.149004,
    "inference_uj": 362.701, "correct": 189.0,
}
TABLE = lsnn.Activity(
    np.array([0.0068, 0.2882, 1.4881, 2.9942, 3.8489, 4.121, 4.0846, 3.8693, 3.7947, 3.6982, 3.2649, 2.3617, 0.9866, 0.1395, 1.0]),
    np.array([0.0425, 2.1994, 11.9338, 18.4897, 16.0334, 13.6461, 12.233, 11.364, 9.9699, 9.1701, 8.3526, 6.7587, 5.695, 9.4196, 53.8388]),
    np.array([2.4716, 125.5246, 674.6043, 1107.5648, 1059.7575, 968.1318, 912.0123, 876.6608, 811.8923, 758.2963, 683.5569, 531.8827,
              333.0635, 356.7702, 2169.3834]),
    190, lsnn.IMAGES,
)
"""What `lsnn.simulate` gives for the public weights and the 200 images, so that neither has to be at hand."""
COMPARTMENTS = lsnn.REGULAR + 2 * lsnn.ADAPTIVE + lsnn.READOUTS
USED_CORES = 2
SOURCE = Source(
    "Loihi 1", "sequential-MNIST LSNN", "nxsdk_modules_ncl, lsnn, sMNIST_Loihi_performance_measurements.ipynb (BSD-3)",
    ("weights", "thresholds, decays and input coding", "the 200 images", "cores"),
)
X86 = ("embedded processor left out of our time",)


def workload(activity: lsnn.Activity) -> Workload:
    """840 steps of a mean image; input neurons on one core, all other compartments on another, as in the measurement."""
    wide = np.ones((COMPARTMENTS, lsnn.INPUTS), bool), np.ones((COMPARTMENTS, COMPARTMENTS), bool)
    groups = [
        Group("input", "lif", (1, 1), lsnn.INPUTS, (Projection(INPUT, "direct", "input"),), level=1),
        Group("lsnn", "dense", (1, 1), COMPARTMENTS, (Projection("input", "dense", "lsnn", wide[0], 8),
                                                      Projection("lsnn", "dense", "lsnn", wide[1], 8)), level=2),
    ]
    inputs, spikes, synops = (_whole(x) for x in (activity.inputs, activity.spikes, activity.synops))
    counts = np.zeros((1, lsnn.STEPS, 2, len(COUNTERS)), np.int64)
    at = {c: i for i, c in enumerate(COUNTERS)}
    for i, (sent, done) in enumerate(((inputs, inputs), (spikes, synops))):
        counts[0, :, i, at["spike_out"]] = counts[0, :, i, at["message"]] = sent
        counts[0, :, i, at["synop"]] = done
        counts[0, :, i, at["neuron_update"]] = groups[i].neurons
    shape = (lsnn.STEPS, 1, 1)
    active = {"input": np.tile(inputs.reshape(shape) / lsnn.INPUTS, (1, 1, lsnn.INPUTS)),
              "lsnn": np.tile(spikes.reshape(shape) / COMPARTMENTS, (1, 1, COMPARTMENTS))}
    return Workload(groups, counts, active, {}, np.array([lsnn.STEPS]), recorded=frozenset(active), back=(("lsnn", "lsnn"),))


def checks(folder: Path | None = None) -> list[Check]:
    """All figures, simulated again where weights and images are at hand; from `TABLE` elsewhere."""
    again = folder is not None and lsnn.at_hand(folder)
    activity = lsnn.simulate(lsnn.read_weights(folder), *lsnn.read_images(folder)) if again and folder is not None else TABLE
    work, chip = workload(activity), load_chip("loihi1")
    cuts = [Cut(g, 1, 1, g.channels, 0) for g in work.groups]
    hw = on_chip(work, chip, [load_table("loihi1-davies")], schedule="pipelined", method="greedy", mapping=Mapping(chip, work, cuts))
    assert hw.times is not None
    dynamic_nj = hw.energies[0].dynamic.value * 1e-3 / lsnn.STEPS
    m, step_us = MEASURED, float(hw.times.interval_ns.mean()) * 1e-3 / lsnn.STEPS
    static_mw = background.static_mw_per_chip() * USED_CORES / chip.cores_per_chip
    x86_mw = background.x86_mw("relnet")
    inference = dynamic_nj * lsnn.STEPS * 1e-3 + (static_mw + x86_mw) * m["step_us"] * lsnn.STEPS * 1e-3
    share = (f"a chip's static power counts for its {USED_CORES} used cores",)
    return [
        Check(SOURCE, "images classified right, of 200", "images", activity.correct, m["correct"], 0.01, "the chip's integer arithmetic"),
        Check(SOURCE, "core dynamic energy per step", "nJ", dynamic_nj, m["core_dynamic_mw"] * m["step_us"], 0.60,
              "Loihi 1's published prices"),
        Check(SOURCE, "core static power", "mW", static_mw, m["core_static_mw"], 1.5,
              "static power of RelNet, keyword spotter, 32 chips", share),
        Check(SOURCE, "embedded processor, power", "mW", x86_mw, m["x86_dynamic_mw"] + m["x86_static_mw"], 0.30,
              "RelNet's, by chip", ("equal load of the processors",)),
        Check(SOURCE, "energy per inference, measured time", "uJ", inference, m["inference_uj"], 0.30, "all of the above",
              (*share, "equal load of the processors")),
        Check(SOURCE, "time per step", "us", step_us, m["step_us"], 3.0, "Loihi 1's published times", X86),
    ]


def _whole(means: np.ndarray) -> np.ndarray:
    """Whole numbers int64 [840] whose sums are those of the windows' means."""
    return np.diff(np.round(np.cumsum(np.repeat(means, lsnn.WINDOW))), prepend=0).astype(np.int64)
