"""Ops with synapses and CUBA neurons, and those that pass on the host's integers."""

from __future__ import annotations

import numpy as np

from tests.witness.common import Fields, Result, Slots, State, held, in_patches, living, masked, nz, once
from tests.witness.neurons import cuba
from tests.witness.synapses import Synapses, convolution


def inject(f: Fields, state: State, slots: Slots, t: int) -> Result:
    if t == 1:
        state["held"] = sum(slots["x"])
    tokens, channels = f["shape"]
    lives = living(slots, tokens)
    y = masked([state["held"]], lives)[0]
    arrived = nz(slots["x"]) if t == 1 else 0
    return y, {"spike_in": arrived, "synop": arrived, "neuron_update": int(lives.sum()) * int(channels), "spike_out": nz([y])}


def route(f: Fields, state: State, slots: Slots, t: int) -> Result:
    x, (height, width), fold, n = sum(slots["x"]), f["grid"], f.get("fold", 1), f["count"]
    y = np.zeros(((height // fold) * (width // fold), f["channels"]), np.int64)
    for row in range(height // fold):
        for column in range(width // fold):
            for dy in range(fold):
                for dx in range(fold):
                    at = f.get("at", 0) + (dy * fold + dx) * n
                    source = x[(row * fold + dy) * width + column * fold + dx]
                    y[row * (width // fold) + column, at : at + n] = source[f["first"] : f["first"] + n]
    return y, {}


def synapses(f: Fields) -> Synapses:
    make = lambda: convolution(f["weight"], f["grid"], f.get("stride", 1), f.get("padding", 0), 1, f.get("groups", 1))[0]  # noqa: E731
    return once(f, make)


def level_conv(f: Fields, state: State, slots: Slots, t: int) -> Result:
    wires = synapses(f)
    if t > 1:
        return np.zeros(wires.outputs, np.int64), {}
    y = np.clip(np.floor_divide(wires.sums(sum(slots["x"])) + f["bias"], f["theta"]), 0, f["levels"])
    return y, {"spike_in": nz(slots["x"]), "synop": wires.cost(slots["x"]), "neuron_update": y.size, "spike_out": nz([y])}


def lif(f: Fields, state: State, slots: Slots, t: int) -> Result:
    y = cuba(f["neuron"], state, sum(slots["x"]), 0, None, held(slots))
    arrived = nz(slots["x"])
    return y, {"spike_in": arrived, "synop": arrived, "neuron_update": y.size, "spike_out": nz([y])}


def out_grid(f: Fields) -> tuple[int, int]:
    """Height and width of a convolution's output."""
    pad, stride = f.get("padding", 0), f.get("stride", 1)
    edges = (pad, pad) if np.isscalar(pad) else pad
    rows, columns = ((n + 2 * e - k) // stride + 1 for n, e, k in zip(f["grid"], edges, f["weight"].shape[2:]))
    return rows, columns


def biased(f: Fields, state: State, slots: Slots, t: int) -> Result:
    arrived = write_bias(state, slots, t)
    positions, channels = state["bias"].shape
    lives = np.ones(positions, bool)
    if "alive" in slots:
        alive = slots["alive"][0] > 0
        lives = in_patches(alive, *f["grid"]) if positions > len(alive) else alive
    y = cuba(f["neuron"], state, np.zeros_like(state["bias"]), state["bias"], lives, held(slots))
    return y, {**arrived, "neuron_update": int(lives.sum()) * channels, "spike_out": nz([y])}


def write_bias(state: State, slots: Slots, t: int) -> dict[str, int]:
    """What a biased op does even where its timestep mask skips."""
    if t > 1:
        return {}
    state["bias"] = sum(slots["x"])
    return {"spike_in": nz(slots["x"]), "synop": nz(slots["x"])}


def conv(f: Fields, state: State, slots: Slots, t: int) -> Result:
    wires = synapses(f)
    positions, channels = wires.outputs
    lives, sources = np.ones(positions, bool), slots["x"]
    if "alive" in slots and f["weight"].shape[2:] == (1, 1) and f.get("stride", 1) == 1 and not np.any(f.get("padding", 0)):
        lives = slots["alive"][0] > 0
        sources = masked(slots["x"], lives)
    elif "alive" in slots:
        lives = in_patches(slots["alive"][0] > 0, *out_grid(f))
    y = cuba(f["neuron"], state, wires.sums(sum(sources)), f["bias"], lives, held(slots))
    updated = int(lives.sum()) * channels
    return y, {"spike_in": nz(sources), "synop": wires.cost(sources), "neuron_update": updated, "spike_out": nz([y])}


def dense(f: Fields, state: State, slots: Slots, t: int) -> Result:
    sources = [x.ravel() for x in slots["x"]]
    fan = np.count_nonzero(f["weight"], axis=0)
    y = cuba(f["neuron"], state, f["weight"] @ sum(sources), f["bias"])
    cost = sum(int((np.abs(x) * fan).sum()) for x in sources)
    return y, {"spike_in": nz(sources), "synop": cost, "neuron_update": len(y), "spike_out": nz([y])}


def token_mix(f: Fields, state: State, slots: Slots, t: int) -> Result:
    weight, channels = f["weight"], f["channels"]
    heads, tokens, _ = weight.shape
    lives = living(slots, tokens)
    sources = masked(slots["x"], lives)
    x = sum(sources)
    sums, cost = np.zeros((tokens, channels), np.int64), 0
    for c in range(channels):
        matrix = weight[c // (channels // heads)]
        for n in np.flatnonzero(x[:, c]):
            sums[:, c] += matrix[:, n] * x[n, c]
            cost += int(x[n, c]) * int(np.count_nonzero(matrix[lives, n]))
    y = cuba(f["neuron"], state, sums, 0, lives, held(slots))
    return y, {"spike_in": nz(sources), "synop": cost, "neuron_update": int(lives.sum()) * channels, "spike_out": nz([y])}


def current(f: Fields, state: State, slots: Slots, t: int) -> Result:
    wires, copies = synapses(f), f.get("copies", 1)
    lives = living(slots, wires.outputs[0])
    sources = masked(slots["x"], lives) if "alive" in slots else slots["x"]
    y = masked([wires.sums(sum(sources)) + f["bias"]], lives)[0]
    return y, {"spike_in": copies * nz(sources), "synop": copies * wires.cost(sources)}


def membrane(f: Fields, state: State, slots: Slots, t: int) -> Result:
    tokens, channels = f["shape"]
    lives = living(slots, tokens)
    x = masked(slots.get("x", []), lives)
    y = cuba(f["neuron"], state, sum(slots["current"]) + sum(x), 0, lives, held(slots))
    updated = int(lives.sum()) * int(channels)
    return y, {"spike_in": nz(x), "synop": nz(x), "neuron_update": updated, "spike_out": nz([y])}


def max_pool(f: Fields, state: State, slots: Slots, t: int) -> Result:
    x, (height, width) = slots["x"][0], f["grid"]
    kernel, stride, padding = f.get("kernel", 3), f.get("stride", 2), f.get("padding", 1)
    rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
    y, cost = np.zeros((rows * columns, f["channels"]), np.int64), 0
    for row in range(rows):
        for column in range(columns):
            for iy in range(row * stride - padding, row * stride - padding + kernel):
                for ix in range(column * stride - padding, column * stride - padding + kernel):
                    if 0 <= iy < height and 0 <= ix < width:
                        y[row * columns + column] |= x[iy * width + ix]
                        cost += int(x[iy * width + ix].sum())
    return y, {"spike_in": nz([x]), "synop": cost, "neuron_update": y.size, "spike_out": nz([y])}
