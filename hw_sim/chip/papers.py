"""Nets of papers that were not run here: their shapes with one firing rate everywhere, to see what a chip would make of them."""

from __future__ import annotations

import re

import numpy as np

from spikegate.graph.ir import COUNTERS, INPUT, DeployError
from spikegate.hw_sim.chip.groups import Group, Projection
from spikegate.hw_sim.chip.reach import landing
from spikegate.hw_sim.chip.splitting import Cut
from spikegate.hw_sim.chip.workload import Workload

SPIKFORMER = re.compile(r"spikformer-(\d+)-(\d+)$")
BITS, SIZE, CLASSES, EXPANSION, HEADS = 8, 32, 10, 4, 12


def shapes(name: str) -> list[Group]:
    """Groups of ``spikformer-<blocks>-<width>`` for 32 x 32 images, 10 classes (arXiv 2209.15425, CIFAR).

    The first convolution is the host's; the embedding's max-pools are folded into the readers' strides (2), which leaves the number of
    positions and the fan-in of every convolution as they are. Every weight is taken as 8 bit and non-zero.

    Raises
    ------
    DeployError
        For another name.
    """
    found = SPIKFORMER.match(name)
    if not found:
        raise DeployError("--paper", f"no shapes of {name!r} here", "give spikformer-<blocks>-<width>, such as spikformer-4-384")
    depth, dim = int(found[1]), int(found[2])
    if not 1 <= depth <= 64 or dim % 8 or not 8 <= dim <= 2048:
        raise DeployError("--paper", f"{name} is no size of this net", "blocks from 1 to 64, width a multiple of 8 up to 2048")
    out = [Group("sps.conv1", "lif", (SIZE, SIZE), dim // 8, (Projection(INPUT, "direct", "sps.conv1"),), level=1)]
    grid = SIZE
    for i, (outer, stride) in enumerate(((dim // 4, 1), (dim // 2, 1), (dim, 2), (dim, 2)), 2):
        before = out[-1]
        grid //= stride
        taps = np.ones((outer, before.channels, 3, 3), bool)
        p = Projection(before.name, "conv", f"sps.conv{i}", taps, BITS, before.grid, (stride, stride), (1, 1))
        out.append(Group(f"sps.conv{i}", "conv", (grid, grid), outer, (p,), level=i))
    stream = [out[-2].name, out[-1].name] if out[-2].grid == out[-1].grid else [out[-1].name]
    level = len(out)
    for block in range(1, depth + 1):
        b = f"block{block}"
        for part in "qkv":
            out.append(_linear(f"{b}.{part}", grid, dim, dim, stream, level + 1))
        pairs = tuple(Projection(f"{b}.{s}", "direct" if s == "q" else "pairs", f"{b}.attention") for s in "qkv")
        scratch = 24 * dim * dim // HEADS
        out.append(Group(f"{b}.attention", "spiking_attention", (grid, grid), dim, pairs, scratch_bits=scratch, level=level + 2))
        out.append(_linear(f"{b}.proj", grid, dim, dim, [f"{b}.attention"], level + 3))
        stream = [*stream, f"{b}.proj"]
        out.append(_linear(f"{b}.fc1", grid, dim, EXPANSION * dim, stream, level + 4))
        out.append(_linear(f"{b}.fc2", grid, EXPANSION * dim, dim, [f"{b}.fc1"], level + 5))
        stream = [*stream, f"{b}.fc2"]
        level += 5
    head = np.ones((CLASSES, grid * grid * dim), bool)
    last = tuple(Projection(s, "dense", "readout", head, BITS, copies=grid * grid) for s in stream)
    out.append(Group("readout", "readout", (1, 1), CLASSES, last, level=level + 1))
    return out


def _linear(name: str, grid: int, inner: int, outer: int, sources: list[str], level: int) -> Group:
    taps = np.ones((outer, inner, 1, 1), bool)
    inputs = tuple(Projection(s, "conv", name, taps, BITS, (grid, grid)) for s in sources)
    return Group(name, "conv", (grid, grid), outer, inputs, level=level)


def at_rate(groups: list[Group], rate: float, timesteps: int) -> Workload:
    """A workload of one sample in which every neuron fires at `rate`.

    Accumulates of a residual stream are counted as if its sources together fired at `rate`, as papers with one rate for each layer do;
    packets are counted for every source, so they are an upper figure.

    Raises
    ------
    DeployError
        For a rate outside (0, 1] or less than one timestep.
    """
    if not 0 < rate <= 1 or timesteps < 1:
        raise DeployError("--rate", f"rate {rate:g} over {timesteps} timesteps", "give a rate above 0 up to 1 and at least one timestep")
    counts = np.zeros((1, timesteps, len(groups), len(COUNTERS)), np.int64)
    fires = {g.name: rate * np.ones((g.positions, g.channels)) for g in groups}
    at = {c: i for i, c in enumerate(COUNTERS)}
    for i, g in enumerate(groups):
        whole = Cut(g, g.grid[1], g.grid[0], g.channels, 0)
        inputs = [p for p in g.projections if p.source != INPUT]
        spikes = round(rate * g.positions * g.channels)
        if g.kind == "spiking_attention":
            counts[0, :, i, at["attention_ac"]] = round(2 * rate * g.positions**2 * g.channels)
        elif inputs:
            counts[0, :, i, at["synop"]] = round(sum(float(landing(p, fires[p.source], whole).sum()) for p in inputs) / len(inputs))
        counts[0, :, i, at["spike_in"]] = round(sum(fires[p.source].sum() for p in inputs) / max(1, len(inputs)))
        counts[0, :, i, at["neuron_update"]] = g.neurons
        counts[0, :, i, at["spike_out"]] = spikes
        counts[0, :, i, at["message"]] = spikes * sum(p.source == g.name for h in groups for p in h.projections)
    activity = {n: np.repeat(a[None], timesteps, 0) for n, a in fires.items()}
    return Workload(groups, counts, activity, {}, np.array([timesteps]), recorded=frozenset(activity))
