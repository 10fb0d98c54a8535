"""PilotNet on Loihi 2: a public measurement, and the net that it was made with, to check placement, counts, times and energy.

The measurement is printed in lava-dl's notebook tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb (lava-nc/lava-dl, BSD-3); the
net is `network.net` in the tests of the installed lava-dl wheel. In the stored run the input layer sends nothing, so biases alone drive
the net and no images are needed. Only shapes, weights and biases are read here.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from spikegate.graph.ir import COUNTERS, INPUT, DeployError
from spikegate.hw_sim.chip.groups import Group, Projection, weight_bits
from spikegate.hw_sim.chip.reach import conv_sum
from spikegate.hw_sim.chip.workload import Workload
from spikegate.reading import hdf5

FILE = Path("tests/lava/lib/dl/netx/gts/pilotnet_lif/network.net")
STEPS_PER_INFERENCE = 16
MEASURED = {
    "cores": 74.0,
    "cores_sdnn": 61.0,
    "synops_per_step": 2.269e6,
    "synops_counter_per_step": 2.282e6,
    "spikes_per_step": 34601.0,
    "neurons": 158509.0,
    "dynamic_uj_per_step": 68.35,
    "static_uj_per_step": 35.5,
    "step_us": 152.85,
}
"""Cores, energies and time are printed in the notebook. Events come from a simulation of the same file; its synaptic operations agree with
the chip's own counters, digitised from the notebook's plot, within 0.6 %. 61 cores are from the log of the SDNN sister notebook."""
CORES = {"input": 13, "conv1": 25, "conv2": 13, "conv3": 3, "conv4": 3, "conv5": 2, "dense1": 12, "dense2": 1, "dense3": 1, "dense4": 1}
"""Cores by layer as the notebook's compile log prints them (convolutions 25/13/3/3/2, dense 12/1/1/1)."""
DECAY, THRESHOLD = 0.75, 25.0


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer: shape (channels, height, width), weights and biases; the input layer has none."""

    name: str
    shape: tuple[int, int, int]
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


def find() -> Path | None:
    """The wheel's file, where lava-dl is installed with its tests."""
    return next((Path(p) / FILE for p in sys.path if p and (Path(p) / FILE).is_file()), None)


def read(path: Path | None = None) -> list[Layer]:
    """Shapes, weights and biases of the file.

    Raises
    ------
    DeployError
        If the file is not there or is not this net.
    """
    path = path or find()
    if path is None:
        raise DeployError("PilotNet", "lava-dl's test files are not installed", "install lava-dl 0.6.0 from its wheel, or give --file")
    layers: list[Layer] = []
    with hdf5.opened(path, "PilotNet file of lava-dl", "take network.net from lava-dl's tests") as f:
        names = {b"conv": 0, b"dense": 0}
        for key in sorted(f["layer"], key=int):
            group = f["layer"][key]
            kind = bytes(group["type"][0])
            if kind == b"input":
                layers.append(Layer("input", tuple(int(v) for v in group["shape"])))  # type: ignore[arg-type]
            elif kind in names:
                names[kind] += 1
                layers.append(_layer(f"{kind.decode()}{names[kind]}", group, kind == b"conv", layers[-1] if layers else None))
    if [layer.name for layer in layers] != list(CORES):
        raise DeployError(str(path), f"holds layers {', '.join(x.name for x in layers)}", "take network.net from lava-dl's tests")
    return layers


def _layer(name: str, group: h5py.Group, conv: bool, before: Layer | None) -> Layer:
    weight, bias = np.array(group["weight"]), np.array(group["bias"], float)
    if not conv:
        weight = weight.reshape(int(group["outFeatures"][()]), -1)
        if before is not None and before.weight is not None and before.weight.ndim == 4:  # lava-dl flattens width, height, channel
            c, h, w = before.shape
            weight = weight.reshape(-1, w, h, c).transpose(0, 2, 1, 3).reshape(len(weight), -1)
        return Layer(name, (len(weight), 1, 1), weight, np.broadcast_to(bias, (len(weight),)))
    c, h, w = (int(v) for v in group["shape"])
    pad = [int(v) for v in group["padding"]]
    strides = [int(v) for v in group["stride"]]
    return Layer(name, (c, h, w), weight, bias, (strides[0], strides[1]), (pad[0], pad[1]))


def _projection(layer: Layer, before: Layer) -> Projection:
    assert layer.weight is not None
    bits, source = weight_bits(layer.weight), before.name
    if layer.weight.ndim == 2:
        return Projection(source, "dense", layer.name, layer.weight != 0, 8)
    grid = before.shape[1:]
    return Projection(source, "conv", layer.name, layer.weight != 0, bits, grid, layer.stride, layer.padding)


def groups(layers: list[Layer], *, input_on_chip: bool = True) -> list[Group]:
    """Groups of the net. The SDNN sister has the same layers and no input neurons on chip (its log shows 61 = 74 - 13 cores)."""
    out = []
    for level, layer in enumerate(layers, 1):
        c, h, w = layer.shape
        if layer.weight is None:
            if input_on_chip:  # image to bias: one to one, cut as a convolution is
                one = Projection(INPUT, "conv", layer.name, np.ones((c, 1, 1, 1), bool), 8, (h, w), groups=c)
                out.append(Group(layer.name, "lif", (h, w), c, (one,), level=level))
            continue
        before = layers[level - 2]
        source = before.name if input_on_chip or before.weight is not None else INPUT
        projection = _projection(layer, before)
        out.append(Group(layer.name, "conv" if layer.weight.ndim == 4 else "dense", (h, w), c,
                         (Projection(**{**vars(projection), "source": source}),), level=level))
    return out


def simulate(layers: list[Layer], steps: int = 128, warm_up: int = 64) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The net without input events: v <- 0.75 v + W s + b, a spike above 25, reset to 0, one step per layer.

    Returns
    -------
    spikes : layer -> int64 [steps, positions, channels], after `warm_up` steps (position = y * width + x)
    synops : layer -> int64 [steps], non-zero synapses of the spikes that arrive
    """
    v = {x.name: np.zeros((x.shape[1] * x.shape[2], x.shape[0])) for x in layers}
    sent = {n: np.zeros(a.shape, bool) for n, a in v.items()}
    spikes = {n: np.zeros((steps, *a.shape), np.int64) for n, a in v.items()}
    synops = {n: np.zeros(steps, np.int64) for n in v}
    for step in range(-warm_up, steps):
        arrived = dict(sent)
        for before, layer in itertools.pairwise(layers):
            assert layer.weight is not None and layer.bias is not None
            x, name = arrived[before.name].astype(np.float64), layer.name
            p = _projection(layer, before)
            if not x.any():
                drive = np.zeros(v[name].shape)
            elif layer.weight.ndim == 4:
                drive = conv_sum(x, layer.weight, p, layer.shape[1:])
            else:
                drive = (layer.weight @ x.ravel())[None]
            if step >= 0 and x.any():
                synops[name][step] = _synops(p, x, layer)
            v[name] = DECAY * v[name] + drive + layer.bias
            sent[name] = v[name] > (THRESHOLD if name != layers[-1].name else np.inf)
            v[name][sent[name]] = 0
            if step >= 0:
                spikes[name][step] = sent[name]
    return spikes, synops


def _synops(p: Projection, x: np.ndarray, layer: Layer) -> int:
    assert p.taps is not None
    if p.form == "conv":
        return int(conv_sum(x, p.taps.sum(0, keepdims=True), p, layer.shape[1:]).sum())
    return int((p.taps.sum(0) @ x.ravel()).sum())


def workload(layers: list[Layer], steps: int = 64) -> Workload:
    """The simulated run as a workload of one sample with `steps` timesteps; a layer's timestep t is chip step t + level - 1."""
    spikes, synops = simulate(layers, steps + len(layers))
    placed = groups(layers)
    counts = np.zeros((1, steps, len(placed), len(COUNTERS)), np.int64)
    activity = {}
    for i, group in enumerate(placed):
        rows = slice(group.level - 1, group.level - 1 + steps)
        activity[group.name] = spikes[group.name][rows].astype(np.float64)
        sums = activity[group.name].sum((1, 2))
        readers = sum(p.source == group.name for g in placed for p in g.projections)
        values = {"synop": synops[group.name][rows], "spike_out": sums, "message": sums * readers, "neuron_update": group.neurons}
        for counter, value in values.items():
            counts[0, :, i, COUNTERS.index(counter)] = value
    for i in range(1, len(placed)):
        counts[0, 1:, i, COUNTERS.index("spike_in")] = activity[placed[i - 1].name].sum((1, 2))[:-1]
    return Workload(placed, counts, activity, {}, np.array([steps]), recorded=frozenset(activity))
