"""Stock NetX layers, field by field as lava-dl 0.6.0 writes them: conv, flatten, dense, input."""

from __future__ import annotations

from typing import Literal, overload

import h5py
import numpy as np

from spikegate.graph.ir import DeployError, Op
from spikegate.neurons import resets
from spikegate.neurons.cuba import Cuba
from spikegate.ops.conv import Conv
from spikegate.ops.dense import Dense
from spikegate.reading.numbers import int32, integers
from spikegate.reading.text import said
from spikegate.synapses.synapse import Padding, pair

NEURONS = ("CUBA", "LOIHI")
READABLE = ("input", "conv", "flatten", "dense")


@overload
def read_array(group: h5py.Group, key: str, where: str, *, optional: Literal[False] = False) -> np.ndarray: ...


@overload
def read_array(group: h5py.Group, key: str, where: str, *, optional: bool) -> np.ndarray | None: ...


def read_array(group: h5py.Group, key: str, where: str, *, optional: bool = False) -> np.ndarray | None:
    """An integer dataset as int32; refuses foreign dtypes, fractions, NaN and numbers of more than 32 bits."""
    if key not in group:
        if optional:
            return None
        raise DeployError(where, f"field {key!r} is missing", "the file is damaged; export it again")
    data = group[key]
    if not isinstance(data, h5py.Dataset):
        raise DeployError(f"{where}/{key}", "is a group, not numbers", "the file is damaged or foreign")
    return integers(data[()], f"{where}/{key}")


def _number(group: h5py.Group, key: str, where: str, default: int | None = None) -> int:
    """A scalar, or an array of equal entries (SLAYER writes (2,) strides)."""
    value = read_array(group, key, where, optional=default is not None)
    if value is None:
        return int(default)  # type: ignore[arg-type]
    if value.size == 0 or (value != value.flat[0]).any():
        raise DeployError(f"{where}/{key}", f"is {value.tolist()}", "unequal values per axis or channel are not supported")
    return int(value.flat[0])


def _padding(group: h5py.Group, where: str) -> Padding:
    """One number where both axes agree, else (rows, columns)."""
    value = read_array(group, "padding", where, optional=True)
    if value is None or value.size != 2 or value.flat[0] == value.flat[1]:
        return _number(group, "padding", where, 0)
    return int(value.flat[0]), int(value.flat[1])


def kind_of(group: h5py.Group) -> str:
    """The text in its dataset ``type``; a DeployError where there is none."""
    data = group.get("type") if isinstance(group, h5py.Group) else None
    value = np.asarray(data[()]) if isinstance(data, h5py.Dataset) and data.size == 1 else np.zeros(0)
    if value.size != 1 or value.dtype.kind not in "SO":
        raise DeployError(f"{group.file.filename}:{group.name.strip('/')}", "has no type", "the file is damaged; export it again")
    return said(value.flat[0])


def write_stock_layer(layers: h5py.Group, op: Op, in_shape: tuple[int, ...]) -> int:
    """Append `op` under its next free index (after a ``flatten`` where a map meets a dense layer); returns the index."""
    if isinstance(op, Dense) and len(in_shape) == 2:
        group = layers.create_group(str(len(layers)))
        group.create_dataset("type", (1,), "S10", [b"flatten"])
        group["shape"] = np.array([int(np.prod(in_shape))])
        group.attrs["map"] = in_shape
    index = len(layers)
    group = layers.create_group(str(index))
    group.create_dataset("type", (1,), "S10", [op.kind.encode()])
    weight = op.weight  # type: ignore[attr-defined]
    if isinstance(op, Conv):
        group["shape"] = np.array([len(weight), *op.out_grid])
        for key, value in (
            ("inChannels", weight.shape[1] * op.groups),
            ("outChannels", len(weight)),
            ("kernelSize", weight.shape[2:]),
            ("stride", (op.stride,) * 2),
            ("padding", pair(op.padding)),
            ("dilation", (1, 1)),
            ("groups", op.groups),
        ):
            group[key] = np.array(value)
    else:
        group["shape"] = np.array([len(weight)])
        group["inFeatures"], group["outFeatures"] = weight.shape[1], len(weight)
        if len(in_shape) == 2:
            positions, channels = in_shape
            weight = weight.reshape(-1, positions, channels).transpose(0, 2, 1).reshape(len(weight), -1)
            group.attrs["map"] = in_shape
    group.create_dataset("weight", data=int32(weight, f"layer/{index}/weight"), compression="gzip")
    group["bias"] = int32(op.bias, f"layer/{index}/bias")  # type: ignore[attr-defined]
    neuron: Cuba = op.neuron  # type: ignore[attr-defined]
    if not resets.stock(neuron):
        raise DeployError(f"layer/{index}", "has a soft reset or several levels, unknown to stock NetX", "export the net with its graph")
    for key, value in (
        ("type", "CUBA"),
        ("iDecay", neuron.i_decay),
        ("vDecay", neuron.v_decay),
        ("vThMant", neuron.vth),
        ("refDelay", 1),
        ("gradedSpike", False),
    ):
        group[f"neuron/{key}"] = value
    return index


def _neuron(group: h5py.Group, where: str) -> Cuba:
    if "neuron" not in group:
        raise DeployError(where, "has no neuron", "stock NetX would put an integrator with a wrong threshold here; export a spiking block")
    neuron = group["neuron"]
    kind = kind_of(neuron)
    if kind not in NEURONS:
        raise DeployError(f"{where}/neuron", f"type {kind!r} is not supported", f"use one of {', '.join(NEURONS)}")
    if _number(neuron, "weight_exp", f"{where}/neuron", 0):
        raise DeployError(
            f"{where}/neuron", "has a weight exponent, which stock NetX ignores", "train with mean-only normalisation or fold it"
        )
    i_decay, v_decay, vth = (_number(neuron, key, f"{where}/neuron") for key in ("iDecay", "vDecay", "vThMant"))
    return Cuba(i_decay, v_decay, vth)


def read_stock_layer(group: h5py.Group, where: str, *, grid: tuple[int, ...] = (), in_shape: tuple[int, ...] | None = None) -> Op:
    """One ``conv`` (on `grid`) or ``dense`` layer; a dense layer after a flatten has the map's shape in `in_shape`."""
    kind = kind_of(group)
    weight = read_array(group, "weight", where)
    assert weight is not None
    if "delay" in group and group["delay"][()].any():
        raise DeployError(where, "has axonal delays", "train without delays")
    bias = read_array(group, "bias", where, optional=True)
    bias = np.zeros(len(weight), np.int32) if bias is None else bias.ravel()
    if kind == "dense":
        weight = weight.reshape(len(bias), -1)
        shape = in_shape if in_shape is not None else tuple(int(v) for v in group.attrs.get("map", ()))
        if len(shape) == 2:
            positions, channels = shape
            weight = weight.reshape(-1, channels, positions).transpose(0, 2, 1).reshape(len(weight), -1)
        return Dense(weight=weight, bias=bias, neuron=_neuron(group, where))
    if kind != "conv":
        raise DeployError(where, f"layer type {kind!r} is not supported", f"known types: {', '.join(READABLE)}")
    weight = weight.reshape(weight.shape[:4])
    if _number(group, "dilation", where, 1) != 1:
        raise DeployError(where, "is dilated", "use kernels without dilation")
    if len(grid) != 2:
        raise DeployError(where, "its input grid is unknown", "put an input layer with its shape first")
    return Conv(
        weight=weight,
        bias=bias,
        grid=grid,
        stride=_number(group, "stride", where, 1),
        padding=_padding(group, where),
        groups=_number(group, "groups", where, 1),
        neuron=_neuron(group, where),
    )
