"""One LIF neuron on a Loihi 2 for 1,000 steps: every spike is the chip's, every voltage but the four of the spikes' own steps.

The chip leaves 128 in the voltage register in the step of a spike and 0 in the next; lava's model and ours leave 0 in both.
128 is twice the 64 by which the chip shifts mantissas: we read it as the count of the refractory period, which the chip keeps where the
voltage was (its microcode is not public). As it is 0 one step later and not a decayed 122, it is no membrane voltage, and no spike
depends on it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from spikegate.graph.ir import DeployError
from spikegate.hw_sim.measurements.check import Check, Source
from spikegate.neurons.cuba import Cuba

FILE = "lif_lava_loihi_fixed.csv"
STEPS = 1000
INPUT_STEPS = (
    60, 220, 270, 310, 320, 350, 370, 400, 410, 430, 440, 450, 460, 470, 480, 490, 500, 510, 520, 530, 670, 680, 690, 700, 710, 720, 730,
    740, 750, 760, 770, 780, 840, 850,
)
SPIKE_STEPS = (461, 511, 711, 761)
REFRACTORY = 128  # what the chip's register shows in the step of a spike
VOLTAGES = "a3c44bcb18cf938a1d32c6521d7af576f600acf3820302b16c98efc90abe803c"  # digest of the chip's
NEURON, WEIGHT, DELAY = Cuba(i_decay=4096, v_decay=163, vth=25), 10, 1
SOURCE = Source(
    "Loihi 2", "one LIF neuron", "NIR, paper/01_lif/lif_lava_loihi_fixed.csv (BSD-3)",
    ("input spikes", "decay, weight and threshold"),
)


def simulate(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(spikes, voltages), int64 [steps], for input spikes [steps]; a spike takes one step from the input to the neuron."""
    state = NEURON.state((1, 1))
    spikes, voltages = np.zeros(len(inputs), np.int64), np.zeros(len(inputs), np.int64)
    for step in range(DELAY, len(inputs)):
        current = np.array([[WEIGHT * inputs[step - DELAY]]], np.int32)
        spikes[step] = NEURON.step(state, current, 0, None)[0, 0]
        voltages[step] = state["v"][0, 0]
    return spikes, voltages


def as_on_chip(spikes: np.ndarray, voltages: np.ndarray) -> np.ndarray:
    """Voltages as the chip's register shows them: the count of the refractory period in the steps with a spike."""
    return np.where(spikes == 1, REFRACTORY, voltages)


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(input spikes, spikes, voltages) of the chip, int64 [1000], from NIR's file.

    Raises
    ------
    DeployError
        If the file is not there or is not this run.
    """
    path = folder / FILE
    try:
        rows = np.loadtxt(path, delimiter=",")
    except (OSError, ValueError) as e:
        raise DeployError(str(path), f"cannot be read ({e})", f"take paper/01_lif/{FILE} from NIR's repository") from None
    if rows.shape != (STEPS, 3) or not (rows == rows.astype(np.int64)).all():
        what = f"holds no {STEPS} rows of input, voltage and spike"
        raise DeployError(str(path), what, f"take paper/01_lif/{FILE} from NIR's repository")
    inputs, voltages, spikes = rows.astype(np.int64).T
    return inputs, spikes, voltages


def digest(voltages: np.ndarray) -> str:
    """SHA-256 of voltages as int32, little-endian: the file itself is not shipped."""
    return hashlib.sha256(voltages.astype("<i4").tobytes()).hexdigest()


def checks(folder: Path | None = None) -> list[Check]:
    """Spikes in the same steps, and voltages that are the chip's once its refractory count is put in; from NIR's file where it is given."""
    if folder is not None and (folder / FILE).is_file():
        inputs, chip_spikes, chip_voltages = read(folder)
        spikes, voltages = simulate(inputs)
        same, equal = int((spikes == chip_spikes).sum()), int((as_on_chip(spikes, voltages) == chip_voltages).sum())
    else:
        inputs, chip_spikes = np.zeros(STEPS, np.int64), np.zeros(STEPS, np.int64)
        inputs[list(INPUT_STEPS)] = 1
        chip_spikes[list(SPIKE_STEPS)] = 1
        spikes, voltages = simulate(inputs)
        same = int((spikes == chip_spikes).sum())
        equal = STEPS if digest(as_on_chip(spikes, voltages)) == VOLTAGES else 0
    return [
        Check(SOURCE, "steps with the chip's spike or silence", "steps", same, STEPS, 0.0, "lava's fixed-point arithmetic"),
        Check(SOURCE, "steps with the chip's voltage", "steps", equal, STEPS, 0.0, "the same; 4 steps with the refractory count"),
    ]
