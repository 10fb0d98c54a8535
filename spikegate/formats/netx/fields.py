"""The fields of one op of our own, as graph_file.py writes them: every number whole, within its range, of its dimensions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

from spikegate.formats.netx.stock import read_array
from spikegate.graph.ir import DeployError, Edge, Op
from spikegate.neurons.base import NEURONS, Neuron
from spikegate.neurons.cuba import Cuba
from spikegate.reading import limits
from spikegate.reading.numbers import integer, integers
from spikegate.reading.text import json_value, text

CUBA = ("i_decay", "v_decay", "vth")  # fields of a neuron that every file has
DAMAGED = "the file is damaged; export it again"
SIZES = ("shape", "grid", "stride", "dilation", "kernel", "groups", "channels", "tokens", "heads", "classes", "timesteps", "outputs",
         "fold", "count", "copies")  # fmt: skip  # 1 or more
NOT_NEGATIVE = ("padding", "first", "at", "extra")


def sizes(value: Any, where: str) -> tuple[int, ...]:
    """A shape: whole numbers of at least 1, not too many values in all."""
    found = tuple(integers(value, where, low=1).ravel().tolist())
    if len(found) > 4 or math.prod(found) > limits.NEURONS:
        raise DeployError(where, f"is {list(found)}, too large", DAMAGED)
    return found


def edges(value: Any, target: str, where: str) -> list[Edge]:
    """What feeds an op, JSON: a list of [source, slot, delay]."""
    found = json_value(value, where)
    fit = isinstance(found, list) and all(
        isinstance(e, list) and [type(v) for v in e] == [str, str, int] and e[2] in (0, 1) for e in found
    )
    if not fit:
        raise DeployError(where, "is no list of [source, slot, delay]", DAMAGED)
    return [Edge(source, target, slot, delay) for source, slot, delay in found]


def read_fields(group: h5py.Group, cls: type[Op], where: str) -> Op:
    """The op whose fields lie in `group`."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        kind, here, name = str(f.type), f"{where}@{f.name}", f.name
        # Files written before a field existed lack it; its default then means what they meant.
        if f.default is not dataclasses.MISSING and kind not in ("Cuba", "Neuron") and name not in group and name not in group.attrs:
            continue
        if kind.startswith("np."):
            values[name] = read_array(group, name, where)
        elif kind == "Cuba":
            values[name] = Cuba(**_parts(group, name, where, Cuba, CUBA))
        elif kind == "Neuron":
            values[name] = _neuron(group, name, where)
        elif kind == "str":
            values[name] = text(_attribute(group, name, where), here)
        else:
            low = {"low": 1} if name in SIZES else {"low": 0} if name in NOT_NEGATIVE else {}
            given = integers(_attribute(group, name, where), here, **low)
            several = kind.startswith("tuple") or (kind.endswith("Padding") and given.ndim)
            values[name] = tuple(given.ravel().tolist()) if several else integer(given, here)
            if several:
                _fits(values[name], kind, name, here)
    return cls(**values)


def _fits(found: tuple[int, ...], kind: str, name: str, here: str) -> None:
    """A tuple with as many numbers as its type says, and not too many places."""
    pair = "..." not in kind
    if (pair and len(found) != 2) or not 0 < len(found) <= 4 or (name in ("grid", "shape") and math.prod(found) > limits.NEURONS):
        raise DeployError(here, f"is {list(found)}", DAMAGED)


def _attribute(group: h5py.Group, name: str, where: str) -> Any:
    if name not in group.attrs:
        raise DeployError(where, f"field {name!r} is missing", DAMAGED)
    return group.attrs[name]


def _neuron(group: h5py.Group, field: str, where: str) -> Neuron:
    kind = text(_attribute(group, f"{field}.kind", where), f"{where}@{field}.kind")
    if kind not in NEURONS:
        raise DeployError(where, f"neuron of unknown type {kind!r}", f"known types: {', '.join(NEURONS)}")
    needed = [p.name for p in dataclasses.fields(NEURONS[kind]) if p.default is dataclasses.MISSING]  # type: ignore[arg-type]
    return NEURONS[kind](**_parts(group, field, where, NEURONS[kind], needed))


def _parts(group: h5py.Group, field: str, where: str, cls: Any, needed: Sequence[str]) -> dict[str, Any]:
    """A neuron's fields; those that are not `needed` may be missing, as in files of before they existed."""
    values: dict[str, Any] = {}
    for part in dataclasses.fields(cls):
        key, here = f"{field}.{part.name}", f"{where}@{field}.{part.name}"
        if key in group.attrs or part.name in needed:
            value = _attribute(group, key, where)
            read = text if part.type == "str" else integers if np.ndim(value) else integer
            values[part.name] = read(value, here)
    return values
