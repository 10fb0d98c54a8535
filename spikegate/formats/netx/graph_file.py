"""The exported file: NetX HDF5 for what stock NetX has, a group `graph/` of our own for the rest.

A plain chain of `conv` and `dense` is written as lava-dl writes it and runs in stock `netx.hdf5.Network`. Any other net
also carries a guard (layer 0 of type ``concat``, which stock refuses), because stock NetX silently skips what it does
not know and would run a wrong net. Layout: ``layer/<i>/`` stock layers; ``graph/`` attributes schema, timesteps, input;
``graph/ops/<n>/`` attributes name, kind, sources, and either ``layer`` (index of the stock layer) or the op's fields.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spikegate.files import atomic
from spikegate.formats.netx.chain import read_chain
from spikegate.formats.netx.stock import MAX_ELEMENTS, read_array, read_stock_layer, write_stock_layer
from spikegate.graph.ir import INPUT, OPS, DeployError, Edge, Graph, Op, Payload, load_ops
from spikegate.neurons import resets
from spikegate.neurons.base import NEURONS, SPIKE, Neuron
from spikegate.neurons.cuba import Cuba

SCHEMA = 1
STOCK_KINDS = ("conv", "dense")
CUBA = ("i_decay", "v_decay", "vth")  # fields of a neuron that every file has


def is_stock(op: Op) -> bool:
    """Whether an op is a layer that stock NetX has; none of those subtracts at a spike."""
    return op.kind in STOCK_KINDS and resets.stock(op.neuron)  # type: ignore[attr-defined]


def is_stock_chain(graph: Graph) -> bool:
    """Whether stock NetX can run the whole graph: binary conv and dense, each fed by the one before alone."""
    previous = INPUT
    for name, op in graph.ops.items():
        sources = graph.sources(name)
        if not is_stock(op) or list(sources) != ["x"] or [(e.source, e.delay) for e in sources["x"]] != [(previous, 0)]:
            return False
        previous = name
    return graph.input_payload.binary and bool(graph.ops)


def write_graph(graph: Graph, path: Path) -> None:
    """Check the graph and write it atomically.

    Raises
    ------
    DeployError
        For broken design rules (all at once) or a file that cannot be written.
    """
    graph.check()
    with atomic(path) as part, h5py.File(part, "w") as f:
        layers = f.create_group("layer")
        if is_stock_chain(graph):
            shapes = [graph.meta.get("input_grid"), *(getattr(op, "grid", None) for op in graph.ops.values())]
            grid = next((g for g in shapes if g is not None), (1, graph.input_shape[0]))
            _text(layers.create_group("0"), "type", "input")
            layers["0"]["shape"] = np.array([graph.input_shape[-1], *grid] if len(graph.input_shape) == 2 else graph.input_shape)
        else:
            _text(layers.create_group("0"), "type", "concat")
            layers["0"].attrs["note"] = "this net has branches, attention, gates or soft resets: load it with Spikegate, not stock netx"
        root = f.create_group("graph")
        root.attrs.update(
            schema=SCHEMA,
            timesteps=graph.timesteps,
            input_shape=list(graph.input_shape),
            input_range=[graph.input_payload.low, graph.input_payload.high],
            meta=json.dumps(graph.meta),
        )
        for i, (name, op) in enumerate(graph.ops.items()):
            group = root.create_group(f"ops/{i:05d}")
            edges = [[e.source, e.slot, e.delay] for e in graph.edges if e.target == name]
            group.attrs.update(name=name, kind=op.kind, sources=json.dumps(edges))
            if is_stock(op):
                group.attrs["layer"] = write_stock_layer(layers, op, graph.shape_of(graph.sources(name)["x"][0].source))
                if hasattr(op, "grid"):
                    group.attrs["grid"] = op.grid
            else:
                _write_fields(group, op)


def _text(group: h5py.Group, key: str, value: str) -> None:
    group.create_dataset(key, (1,), "S10", [value.encode()])


def _write_fields(group: h5py.Group, op: Op) -> None:
    for f in dataclasses.fields(op):  # type: ignore[arg-type]
        value = getattr(op, f.name)
        if isinstance(value, np.ndarray):
            group.create_dataset(f.name, data=value.astype(np.int32), compression="gzip")
        elif isinstance(value, Cuba):
            for part in dataclasses.fields(value):
                group.attrs[f"{f.name}.{part.name}"] = getattr(value, part.name)
        elif isinstance(value, Neuron):
            group.attrs[f"{f.name}.kind"] = value.kind
            for part in dataclasses.fields(value):  # type: ignore[arg-type]
                group.attrs[f"{f.name}.{part.name}"] = getattr(value, part.name)
        else:
            group.attrs[f.name] = value


def read_graph(path: Path, *, input_shape: tuple[int, ...] | None = None, payload: Payload = SPIKE) -> Graph:
    """Read one of our files, or a chain that SLAYER's blocks exported (`netx_chain.read_chain`; it takes `input_shape` and `payload`).

    Raises
    ------
    DeployError
        Naming file, layer and problem: no HDF5, truncated, newer schema, unknown type, wrong shape or dtype, links
        that lead out of the file, broken design rules.
    """
    load_ops()
    hint = "export it again with convert/export.py, or check that the download is complete"
    if not Path(path).is_file():
        raise DeployError(str(path), "no such file", "give a .net file")
    try:
        with h5py.File(path, "r") as f:
            no_foreign_links(f, str(path))
            graph = _read_ours(f, path) if "graph" in f else read_chain(f, str(path), input_shape=input_shape, payload=payload)[0]
    except DeployError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as e:
        raise DeployError(str(path), f"not a readable NetX HDF5 file ({e})", hint) from None
    graph.check()
    return graph


def no_foreign_links(group: h5py.Group, where: str) -> None:
    for key in group:
        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise DeployError(f"{where}:{group.name}/{key}", "is a link to another place or file", "copy the data into the file")
        if isinstance(group[key], h5py.Group):
            no_foreign_links(group[key], where)


def _read_ours(f: h5py.File, path: Path) -> Graph:
    root = f["graph"]
    schema = int(root.attrs["schema"])
    if schema != SCHEMA:
        raise DeployError(str(path), f"has schema {schema}, this version reads {SCHEMA}", "export it again with this version")
    low, high = (int(v) for v in root.attrs["input_range"])
    graph = Graph(
        timesteps=int(root.attrs["timesteps"]),
        input_shape=tuple(int(v) for v in root.attrs["input_shape"]),
        input_payload=Payload(low, high),
        meta=json.loads(root.attrs["meta"]),
    )
    if not 1 <= graph.timesteps <= 4096:
        raise DeployError(str(path), f"{graph.timesteps} timesteps", "a net runs 1 to 4096")
    unknown = []
    for key in sorted(root["ops"]):
        group = root["ops"][key]
        name, kind = str(group.attrs["name"]), str(group.attrs["kind"])
        if kind not in OPS:
            unknown.append(f"{name}: type {kind!r}")
            continue
        if "layer" in group.attrs:
            index = int(group.attrs["layer"])
            op = read_stock_layer(f["layer"][str(index)], f"{path}:layer/{index}", grid=tuple(int(g) for g in group.attrs.get("grid", ())))
        else:
            op = _read_fields(group, OPS[kind], f"{path}:{name}")
        graph.ops[name] = op
        graph.edges += [Edge(str(s), name, str(slot), int(d)) for s, slot, d in json.loads(group.attrs["sources"])]
    if unknown:
        raise DeployError(str(path), f"unknown {'; '.join(unknown)}", f"known types: {', '.join(sorted(OPS))}")
    return graph


def _read_neuron(group: h5py.Group, field: str, where: str) -> Neuron:
    kind = str(group.attrs[f"{field}.kind"])
    if kind not in NEURONS:
        raise DeployError(where, f"neuron of unknown type {kind!r}", f"known types: {', '.join(NEURONS)}")
    values: dict[str, Any] = {}
    for part in dataclasses.fields(NEURONS[kind]):  # type: ignore[arg-type]
        key = f"{field}.{part.name}"
        if key in group.attrs or part.default is dataclasses.MISSING:
            value = group.attrs[key]
            values[part.name] = str(value) if part.type == "str" else np.asarray(value, np.int32) if np.ndim(value) else int(value)
    return NEURONS[kind](**values)


def _read_cuba(group: h5py.Group, field: str) -> Cuba:
    values: dict[str, Any] = {}
    for part in dataclasses.fields(Cuba):
        key = f"{field}.{part.name}"
        if key in group.attrs or part.name in CUBA:
            values[part.name] = str(group.attrs[key]) if part.type == "str" else int(group.attrs[key])
    return Cuba(**values)


def _read_fields(group: h5py.Group, cls: type[Op], where: str) -> Op:
    values: dict[str, Any] = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        kind = str(f.type)
        # Files written before a field existed lack it; its default then means what they meant.
        if f.default is not dataclasses.MISSING and kind not in ("Cuba", "Neuron") and f.name not in group and f.name not in group.attrs:
            continue
        if kind.startswith("np."):
            values[f.name] = read_array(group, f.name, where)
        elif kind == "Cuba":
            values[f.name] = _read_cuba(group, f.name)
        elif kind == "Neuron":
            values[f.name] = _read_neuron(group, f.name, where)
        elif f.name not in group.attrs:
            raise DeployError(where, f"field {f.name!r} is missing", "the file is damaged; export it again")
        elif kind.startswith("tuple") or (kind.endswith("Padding") and np.ndim(group.attrs[f.name])):
            values[f.name] = tuple(int(v) for v in group.attrs[f.name])
        else:
            values[f.name] = str(group.attrs[f.name]) if kind == "str" else int(group.attrs[f.name])
        if kind.startswith("tuple") and int(np.prod(values[f.name])) > MAX_ELEMENTS:
            raise DeployError(where, f"{f.name} {values[f.name]} is too large", "the file is damaged; export it again")
    return cls(**values)
