"""A layer of a foreign chain as one of our own `conv` or `dense` ops: they are quicker, and export as stock layers again."""

from __future__ import annotations

import h5py
import numpy as np

from spikegate.formats.netx.input_map import geometry
from spikegate.formats.netx.stock import kind_of, read_array, read_stock_layer
from spikegate.graph.ir import Op, Payload
from spikegate.neurons.base import Neuron
from spikegate.neurons.leaky import SPIKES, Leaky

ANY_LENGTH = 1_000_000  # timesteps: a stock file does not say how many a sample has


def plain(group: h5py.Group, here: str, neuron: Neuron, grid: tuple[int, ...], shape: tuple[int, ...], flat: bool) -> Op | None:
    """The op for binary events, or None where it would break one of our ops' rules. `flat`: a map of `shape` comes flattened."""
    scalars = isinstance(neuron, Leaky) and not np.ndim(neuron.i_decay) and not np.ndim(neuron.v_decay)
    if not scalars or neuron.weight_exp or neuron.output != SPIKES:  # type: ignore[attr-defined]
        return None
    if "delay" in group and group["delay"][()].any():
        return None
    kind = kind_of(group)
    if kind == "conv":
        form = geometry(group, here)
        if form["stride"][0] != form["stride"][1] or form["dilation"] != (1, 1) or len(grid) != 2:
            return None
    elif read_array(group, "weight", here).ndim != 2 or (len(shape) == 2 and not flat):
        return None
    op = read_stock_layer(group, here, grid=grid, in_shape=shape)
    shapes = {"x": [shape]} if shape else {}
    given = {"x": [Payload(0, 1)]}
    return None if [*op.problems(shapes, given), *op.overflows(given, ANY_LENGTH)] else op
