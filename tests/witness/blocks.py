"""Layers of foreign NetX files."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.witness.common import Fields, Result, Slots, State, nz, once
from tests.witness.neurons import block
from tests.witness.synapses import Synapses, convolution, dense, transposed


def layered(f: Fields, state: State, maps: list[np.ndarray], sets: list[Synapses], shape: Any, more: Any = 0) -> Result:
    """Neurons on the sums of `maps` [positions, channels]; `shape` turns sums and outputs into the op's own order."""
    x = sum(maps)
    sums = tuple(shape(s.sums(x)) for s in sets)
    y = block(f["neuron"], state, sums if len(sums) > 1 else sums[0] + more, f["bias"])
    cost = sum(s.cost(maps) for s in sets)
    return y, {"spike_in": nz(maps), "synop": cost, "neuron_update": y.size, "spike_out": nz([y])}


def weights(f: Fields) -> list[np.ndarray]:
    return [w for w in (f["weight"], f["weight_imag"]) if w.size]


def block_dense(f: Fields, state: State, slots: Slots, t: int) -> Result:
    sets = once(f, lambda: [dense(w) for w in weights(f)])
    return layered(f, state, [x.reshape(1, -1) for x in slots["x"]], sets, np.ravel)


def block_recurrent(f: Fields, state: State, slots: Slots, t: int) -> Result:
    s, back = slots["s"][0], dense(f["weight_rec"])
    sets = once(f, lambda: [dense(f["weight"])])
    y, counts = layered(f, state, [x.reshape(1, -1) for x in slots["x"]], sets, np.ravel, back.sums(s[None])[0])
    return y, counts | {"spike_in": counts["spike_in"] + nz([s]), "synop": counts["synop"] + back.cost([s[None]])}


def conv_like(make: Any) -> Any:
    def op(f: Fields, state: State, slots: Slots, t: int) -> Result:
        geometry = f["grid"], f.get("stride", 1), f.get("padding", 0), f.get("dilation", 1), f.get("groups", 1)
        sets = once(f, lambda: [make(w, *geometry)[0] for w in weights(f)])
        return layered(f, state, [x.reshape(sets[0].inputs) for x in slots["x"]], sets, lambda s: s)

    return op


block_conv, block_conv_t = conv_like(convolution), conv_like(transposed)


def tall(make: Any, padded: bool) -> Any:
    def op(f: Fields, state: State, slots: Slots, t: int) -> Result:
        (height, width), channels, (kh, kw) = f["grid"], f["channels"], f["weight"].shape[2:]
        below, right = (height % kh, width % kw) if padded else (0, 0)

        def stacked(x: np.ndarray) -> np.ndarray:
            out = np.zeros((channels * (height + below), width + right), np.int64)
            for c in range(channels):
                top = c * (height + below)
                out[top : top + height, :width] = x[:, c].reshape(height, width)
            return out.reshape(-1, 1)

        grid = channels * (height + below), width + right
        geometry = f["stride"], f.get("padding", 0), f.get("dilation", 1)
        sets = once(f, lambda: [make(w, grid, *geometry, 1)[0] for w in weights(f)])
        return layered(f, state, [stacked(x) for x in slots["x"]], sets, lambda s: s.reshape(channels, -1).T)

    return op


block_pool, block_unpool = tall(convolution, True), tall(transposed, False)


def block_input(f: Fields, state: State, slots: Slots, t: int) -> Result:
    weight, x = f.get("weight", 64), sum(slots["x"])
    y = block(f["neuron"], state, x, 0, weight * x + 64 * f.get("bias", 0))
    cost = sum(int(np.abs(s).sum()) for s in slots["x"]) if weight else 0
    return y, {"spike_in": nz(slots["x"]), "synop": cost, "neuron_update": y.size, "spike_out": nz([y])}


def block_average(f: Fields, state: State, slots: Slots, t: int) -> Result:
    x = sum(slots["x"])
    y = (x.T if x.ndim == 2 else x).reshape(f["outputs"], -1).sum(1)
    return y, {"spike_in": nz(slots["x"]), "synop": nz(slots["x"]), "neuron_update": f["outputs"], "spike_out": nz([y])}


def axon_delay(f: Fields, state: State, slots: Slots, t: int) -> Result:
    history = state.setdefault("history", {})
    history[t] = sum(slots["x"])
    y = np.zeros_like(history[t])
    for c, d in enumerate(f["delay"]):
        if t - d >= 1:
            y[..., c] = history[t - d][..., c]
    return y, {"spike_in": nz(slots["x"]), "spike_out": nz([y])}
