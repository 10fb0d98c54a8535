"""Two converted convolutional nets on Loihi 1: cores and time of a step beside what NxTF's tutorials print.

Shapes are printed there. The MNIST net's rates are the means of our simulation of it (8-bit weights, reset to 0, 512 steps, the first 128
test images: 125 right, 126 on the chip); the file of weights is not shipped. The CIFAR-10 net is given the same rates.
"""

from __future__ import annotations

import numpy as np

from spikegate.graph.ir import INPUT
from spikegate.hw_sim.chip.groups import Group, Projection
from spikegate.hw_sim.chip.hardware import Hardware, on_chip
from spikegate.hw_sim.chip.mapping import map_to
from spikegate.hw_sim.chip.profile import load_chip
from spikegate.hw_sim.measurements.check import Check, Source
from spikegate.hw_sim.measurements.steady import steady

RATES = {"input": 0.0439, "conv1": 0.0631, "conv2": 0.0608, "conv3": 0.0663, "conv4": 0.0}
"""Spikes per neuron and step of the MNIST net; the readout's neurons never fire."""
RATE = 0.0625  # mean of the hidden neurons above
SLOW, FAST = 0.02, 0.20  # ends of the bracket where rates are not public
INPUT_US = 10e3 / 512  # the tutorial's "around 10 ms" for the input of an image, by step
MNIST = Source(
    "Loihi 1", "MNIST CNN", "nxsdk_modules_ncl, dnn, a_image_classification_mnist.ipynb",
    ("shapes", "weights"), ("spikes even over a layer", "cuts of the layers"),
)
CIFAR = Source(
    "Loihi 1", "CIFAR-10 mini-MobileNet", "nxsdk_modules_ncl, dnn, b_image_classification_cifar.ipynb",
    ("shapes", "two compartments a neuron", "about 10 ms for an image's input"), ("our cuts of the layers",),
)


def mnist() -> list[Group]:
    """28 x 28, four convolutions without padding."""
    out = [Group("input", "lif", (28, 28), 1, (Projection(INPUT, "direct", "input"),), level=1)]
    for i, (channels, size, kernel, stride) in enumerate(((16, 12, 5, 2), (32, 10, 3, 1), (64, 4, 3, 2), (10, 1, 4, 1)), 1):
        out.append(_conv(out[-1], f"conv{i}", channels, size, kernel, stride, 0))
    return out


def mobilenet() -> list[Group]:
    """32 x 32 x 3, pairs of depthwise and pointwise convolutions, average pooling, ten classes; a second compartment a neuron resets it."""
    out = [Group("input", "lif", (32, 32), 3, (Projection(INPUT, "direct", "input"),), extra=32 * 32 * 3, level=1)]
    size = 16
    out.append(_conv(out[-1], "conv0", 32, size, 3, 2, 1, extra=True))
    for i, (channels, stride) in enumerate(((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)), 1):
        size //= stride
        before = out[-1]
        out.append(_conv(before, f"depth{i}", before.channels, size, 3, stride, 1, groups=before.channels, extra=True))
        out.append(_conv(out[-1], f"point{i}", channels, size, 1, 1, 0, extra=True))
    out.append(_conv(out[-1], "pool", 256, 2, 2, 2, 0, groups=256, extra=True))
    head = np.ones((10, 4 * 256), bool)
    out.append(Group("dense", "dense", (1, 1), 10, (Projection("pool", "dense", "dense", head, 8),), extra=10, level=out[-1].level + 1))
    return out


def neurons(groups: list[Group]) -> int:
    """Neurons without their second compartments and without the input's."""
    return sum(g.positions * g.channels for g in groups[1:])


def checks() -> list[Check]:
    """Cores, neurons and times; times with one rate everywhere are bracketed by rates from 2 to 20 %."""
    chip = load_chip("loihi1")
    small, net = mnist(), mobilenet()
    mapping = map_to(steady(net, dict.fromkeys((g.name for g in net), 0.0)), chip)
    middle, low, high = (INPUT_US + _time(on_chip(steady(net, dict.fromkeys((g.name for g in net), r)), chip, [], method="greedy"))
                         for r in (RATE, SLOW, FAST))
    spiking = _time(on_chip(steady(small, RATES), chip, [], method="greedy"))
    times = "Loihi 1's published times"
    return [
        Check(MNIST, "spiking time per step", "us", spiking, 57.364, 1.0, times, ("accumulates even over a layer's cores",)),
        Check(CIFAR, "neurons", "neurons", neurons(net), 76810, 0.0, "counted"),
        Check(CIFAR, "cores", "cores", mapping.cores, 157, 0.05, "our cutting rules, recovered on Loihi 2"),
        Check(CIFAR, "chips", "chips", mapping.chips, 2, 0.0, "the same"),
        Check(CIFAR, "time per step, input and readout included", "us", middle, 137.295, 2.0, f"{times}; barrier of 256 chips",
              ("rate of the MNIST net", "readout left out of ours"), low, high),
    ]


def _conv(before: Group, name: str, channels: int, size: int, kernel: int, stride: int, pad: int, *, groups: int = 1,
          extra: bool = False) -> Group:
    taps = np.ones((channels, before.channels // groups, kernel, kernel), bool)
    p = Projection(before.name, "conv", name, taps, 8, before.grid, (stride, stride), (pad, pad), groups)
    more = size * size * channels if extra else 0
    return Group(name, "conv", (size, size), channels, (p,), extra=more, level=before.level + 1)


def _time(hw: Hardware) -> float:
    """Time of a step in us in which every layer works."""
    assert hw.times is not None
    return float(hw.times.interval_ns.mean()) * 1e-3
