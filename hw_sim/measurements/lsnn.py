"""The sequential-MNIST LSNN of a Loihi 1 measurement, simulated: 80 inputs, 140 regular and 100 adaptive neurons, 10 readouts.

Arithmetic is the chip's integer one (`spikegate.neurons.cuba.decay`). An adaptive neuron is two compartments: each spike pulls an auxiliary
voltage down, which decays slowly and is added to the neuron's current. Weights, decays, thresholds and input coding are public
(nxsdk_modules_ncl, BSD-3) and the images are the first 200 that NumPy's generator draws from MNIST's test set with seed 0, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikegate.graph.ir import DeployError
from spikegate.neurons.cuba import decay
from spikegate.reading.arrays import read_npy

INPUTS, REGULAR, ADAPTIVE, READOUTS = 80, 140, 100, 10
IMAGES, PIXELS, CUE = 200, 784, 56
STEPS = PIXELS + CUE
WINDOW = 56  # steps of one row of the table of activity
V_DECAY, AUX_DECAY = 4096 // 20, 4096 // 700
THRESHOLD, SHIFT, ADAPTIVE_SHIFT = 127, 6, 8  # adaptive neurons have weights and thresholds four times as large
AUX_WEIGHT = 96 << 2
FILES = ("lsnn_w_in.npy", "lsnn_w_rec.npy", "lsnn_w_out.npy")
IMAGE_FILE, LABEL_FILE = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@dataclass(frozen=True, eq=False)
class Activity:
    """Means over images.

    Attributes
    ----------
    inputs, spikes, synops : float64 [windows], per step: input spikes, spikes of the 240 neurons, synapses that they reach in the next step
        (the host's synapses onto the input neurons not among them)
    correct : images classified as labelled
    images : how many there were
    """

    inputs: np.ndarray
    spikes: np.ndarray
    synops: np.ndarray
    correct: int
    images: int


def at_hand(folder: Path | None) -> bool:
    """Whether a folder holds the weights and MNIST's test set."""
    return folder is not None and all((folder / n).is_file() for n in (*FILES, IMAGE_FILE, LABEL_FILE))


def read_weights(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights int64 [80, 240], [240, 240] and [240, 10], source first.

    Raises
    ------
    DeployError
        If a file is missing or is none of these.
    """
    out = []
    for name, shape in zip(FILES, ((INPUTS, REGULAR + ADAPTIVE), (REGULAR + ADAPTIVE,) * 2, (REGULAR + ADAPTIVE, READOUTS))):
        weight = read_npy(folder / name, "take it from nxsdk_modules_ncl's LSNN")
        if weight.shape != shape:
            raise DeployError(str(folder / name), f"has the shape {weight.shape}, not {shape}", "take it from nxsdk_modules_ncl's LSNN")
        out.append(weight.astype(np.int64))
    return out[0], out[1], out[2]


def read_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(images int64 [200, 784], labels [200]) of the measurement, from MNIST's uncompressed test files."""
    pixels = np.fromfile(folder / IMAGE_FILE, np.uint8)[16:].reshape(-1, PIXELS)
    labels = np.fromfile(folder / LABEL_FILE, np.uint8)[8:]
    chosen = np.random.RandomState(0).choice(len(pixels), IMAGES, False)
    return pixels[chosen].astype(np.int64), labels[chosen].astype(np.int64)


def code(images: np.ndarray) -> np.ndarray:
    """Input spikes bool [840, images, 80]: crossings of 38 grey levels upwards and downwards, full white, and the cue at the end."""
    levels = np.floor(np.linspace(0, 255, INPUTS // 2)).astype(np.int64)
    out = np.zeros((STEPS, len(images), INPUTS), bool)
    now, then = images[:, :-1], images[:, 1:]
    for k in range(1, len(levels) - 1):
        out[: PIXELS - 1, :, 2 * k] = ((now < levels[k]) & (then >= levels[k])).T
        out[: PIXELS - 1, :, 2 * k + 1] = ((now >= levels[k]) & (then < levels[k])).T
    out[:PIXELS, :, INPUTS - 2] = (images == levels[-1]).T
    out[PIXELS:, :, INPUTS - 1] = True
    return out


def simulate(weights: tuple[np.ndarray, np.ndarray, np.ndarray], images: np.ndarray, labels: np.ndarray) -> Activity:
    """Run all images at once and count."""
    w_in, w_rec, w_out = weights
    coded = code(images)
    n, neurons = len(images), REGULAR + ADAPTIVE
    v, aux, out = (np.zeros((n, k), np.int64) for k in (neurons, ADAPTIVE, READOUTS))
    x, s = np.zeros((n, INPUTS), np.int64), np.zeros((n, neurons), np.int64)
    scale = np.repeat([1 << SHIFT, 1 << ADAPTIVE_SHIFT], [REGULAR, ADAPTIVE])
    fan_in, fan_rec = (w_in != 0).sum(1), (w_rec != 0).sum(1) + (w_out != 0).sum(1)
    fan_rec[REGULAR:] += 1  # an adaptive neuron's own auxiliary compartment
    counts = np.zeros((3, STEPS))
    for step in range(STEPS):
        current = (x @ w_in + s @ w_rec) * scale
        out = decay(out, V_DECAY) + ((s @ w_out) << SHIFT)
        synops = (x @ fan_in + s @ fan_rec).sum()
        aux = decay(aux, AUX_DECAY) - AUX_WEIGHT * s[:, REGULAR:]
        current[:, REGULAR:] += aux
        v = decay(v, V_DECAY) + current
        s = (v > THRESHOLD * scale).astype(np.int64)
        v[s == 1] = 0
        x = coded[step].astype(np.int64)
        counts[:, step] = x.sum(), s.sum(), synops
    inputs, spikes, reached = counts.reshape(3, -1, WINDOW).mean(2) / n
    return Activity(inputs, spikes, reached, int((out.argmax(1) == labels).sum()), n)
