"""Reads model.net as docs/format.md describes it: plain dictionaries of plain arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Fields = dict[str, Any]
CUBA_FIELDS = ("i_decay", "v_decay", "vth")


@dataclass
class Op:
    """One op: its name, kind, fields and sources (source, slot, delay), in the order of the file."""

    name: str
    kind: str
    fields: Fields
    sources: list[tuple[str, str, int]]


@dataclass
class Net:
    """The ops in the order in which they compute."""

    ops: list[Op]
    timesteps: int
    input_shape: tuple[int, ...]
    input_range: tuple[int, int]


def read(path: Path) -> Net:
    """The net in a file that carries a group `graph`."""
    with h5py.File(path, "r") as f:
        graph = f["graph"]
        assert graph.attrs["schema"] == 1
        ops = []
        for key in sorted(graph["ops"]):
            group = graph["ops"][key]
            fields = stock(group, f["layer"]) if "layer" in group.attrs else own(group)
            sources = [(str(s), str(slot), int(delay)) for s, slot, delay in json.loads(group.attrs["sources"])]
            ops.append(Op(str(group.attrs["name"]), str(group.attrs["kind"]), fields, sources))
        shape = tuple(int(n) for n in graph.attrs["input_shape"])
        low, high = (int(n) for n in graph.attrs["input_range"])
        return Net(ops, int(graph.attrs["timesteps"]), shape, (low, high))


def plain(value: Any) -> Any:
    """An attribute as Python's int or str, or as an array of 64 bits."""
    if isinstance(value, str | bytes):
        return value.decode() if isinstance(value, bytes) else value
    return np.asarray(value, np.int64) if np.ndim(value) else int(value)


def own(group: h5py.Group) -> Fields:
    """Fields of an op that stock NetX does not know."""
    fields: Fields = {key: data[()].astype(np.int64) for key, data in group.items()}
    neuron: Fields = {}
    for key, value in group.attrs.items():
        if key.startswith("neuron."):
            neuron[key.split(".", 1)[1]] = plain(value)
        elif key not in ("name", "kind", "sources"):
            fields[key] = plain(value)
    if neuron:
        fields["neuron"] = neuron
    return fields


def stock(group: h5py.Group, layers: h5py.Group) -> Fields:
    """Fields of a conv or dense, which lie in a stock layer."""
    layer = layers[str(int(group.attrs["layer"]))]
    weight, bias = layer["weight"][()].astype(np.int64), layer["bias"][()].astype(np.int64)
    neuron = {ours: int(layer[f"neuron/{theirs}"][()]) for ours, theirs in zip(CUBA_FIELDS, ("iDecay", "vDecay", "vThMant"))}
    if group.attrs["kind"] == "conv":
        rows, columns = (int(n) for n in layer["stride"][()])
        assert rows == columns
        return {
            "weight": weight, "bias": bias, "grid": plain(group.attrs["grid"]), "stride": rows, "padding": layer["padding"][()].astype(int),
            "groups": int(layer["groups"][()]), "neuron": neuron,
        }  # fmt: skip
    if "map" in layer.attrs:
        positions, channels = (int(n) for n in layer.attrs["map"])
        numbered = np.empty_like(weight)
        for p in range(positions):
            for c in range(channels):
                numbered[:, p * channels + c] = weight[:, c * positions + p]
        weight = numbered
    return {"weight": weight, "bias": bias, "neuron": neuron}
