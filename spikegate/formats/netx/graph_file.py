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

from spikegate.files import write_bytes
from spikegate.formats.netx.chain import read_chain
from spikegate.formats.netx.fields import DAMAGED, edges, read_fields, sizes
from spikegate.formats.netx.stock import read_stock_layer, write_stock_layer
from spikegate.graph.ir import INPUT, OPS, DeployError, Graph, Op, Payload, load_ops
from spikegate.neurons import resets
from spikegate.neurons.base import SPIKE, Neuron
from spikegate.neurons.cuba import Cuba
from spikegate.reading import hdf5
from spikegate.reading.numbers import int32, integer, integers
from spikegate.reading.text import json_value, plain_name, text

SCHEMA = 1
STOCK_KINDS = ("conv", "dense")


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
    write_bytes(path, _image(graph))


def _image(graph: Graph) -> bytes:
    """The file, built in memory: HDF5 cannot be left in good order on a full disk."""
    with h5py.File("model.net", "w", driver="core", backing_store=False) as f:
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
            fed = [[e.source, e.slot, e.delay] for e in graph.edges if e.target == name]
            group.attrs.update(name=name, kind=op.kind, sources=json.dumps(fed))
            if is_stock(op):
                group.attrs["layer"] = write_stock_layer(layers, op, graph.shape_of(graph.sources(name)["x"][0].source))
                if hasattr(op, "grid"):
                    group.attrs["grid"] = op.grid
            else:
                _write_fields(group, op)
        f.flush()
        image: bytes = f.id.get_file_image()
    return image


def _text(group: h5py.Group, key: str, value: str) -> None:
    group.create_dataset(key, (1,), "S10", [value.encode()])


def _write_fields(group: h5py.Group, op: Op) -> None:
    for f in dataclasses.fields(op):  # type: ignore[arg-type]
        value = getattr(op, f.name)
        if isinstance(value, np.ndarray):
            group.create_dataset(f.name, data=int32(value, f"{op.kind}.{f.name}"), compression="gzip")
        elif isinstance(value, Cuba):
            for part in dataclasses.fields(value):
                group.attrs[f"{f.name}.{part.name}"] = getattr(value, part.name)
        elif isinstance(value, Neuron):
            group.attrs[f"{f.name}.kind"] = value.kind
            for part in dataclasses.fields(value):  # type: ignore[arg-type]
                group.attrs[f"{f.name}.{part.name}"] = getattr(value, part.name)
        else:
            group.attrs[f.name] = value


def read_graph(path: Path, *, input_shape: tuple[int, ...] | None = None, payload: Payload = SPIKE,
               seen: tuple[int, ...] | None = None, delay_shift: bool = False) -> Graph:
    """Read one of our files, or a chain that SLAYER's blocks exported: `chain.read_chain` takes the keyword arguments.

    Raises
    ------
    DeployError
        Naming file, layer and problem: no HDF5, truncated, newer schema, unknown type, wrong shape or dtype, links
        that lead out of the file, broken design rules.
    """
    load_ops()
    hint = "export it again with convert/export.py, or check that the download is complete"
    with hdf5.opened(Path(path), "NetX HDF5 file", hint) as f:
        if "graph" in f:
            graph = _read_ours(f, path)
        else:
            graph, _ = read_chain(f, str(path), input_shape=input_shape, payload=payload, seen=seen, delay_shift=delay_shift)
        graph.check()
    return graph


def _read_ours(f: h5py.File, path: Path) -> Graph:
    root = f["graph"]
    schema = integer(root.attrs["schema"], f"{path}:graph@schema")
    if schema != SCHEMA:
        raise DeployError(str(path), f"has schema {schema}, this version reads {SCHEMA}", "export it again with this version")
    span = integers(root.attrs["input_range"], f"{path}:graph@input_range")
    if span.shape != (2,) or span[0] > span[1]:
        raise DeployError(f"{path}:graph@input_range", f"is {span.tolist()}", "it holds the least and the largest input")
    graph = Graph(
        timesteps=integer(root.attrs["timesteps"], f"{path}:graph@timesteps"),
        input_shape=sizes(root.attrs["input_shape"], f"{path}:graph@input_shape"),
        input_payload=Payload(int(span[0]), int(span[1])),
        meta=_meta(root.attrs["meta"], f"{path}:graph@meta"),
    )
    if not 1 <= graph.timesteps <= 4096:
        raise DeployError(str(path), f"{graph.timesteps} timesteps", "a net runs 1 to 4096")
    unknown = []
    for key in sorted(root["ops"]):
        group = root["ops"][key]
        name, kind = (text(group.attrs[k], f"{path}:graph/ops/{key}@{k}") for k in ("name", "kind"))
        if not plain_name(name) or name in graph.ops or name == INPUT:
            raise DeployError(f"{path}:graph/ops/{key}@name", f"is {name!r}", "names are printable, short and each given once")
        if kind not in OPS:
            unknown.append(f"{name}: type {kind!r}")
            continue
        if "layer" in group.attrs:
            index = integer(group.attrs["layer"], f"{path}:{name}@layer", low=0)
            grid = sizes(group.attrs.get("grid", ()), f"{path}:{name}@grid")
            op = read_stock_layer(f["layer"][str(index)], f"{path}:layer/{index}", grid=grid)
        else:
            op = read_fields(group, OPS[kind], f"{path}:{name}")
        graph.ops[name] = op
        graph.edges += edges(group.attrs["sources"], name, f"{path}:{name}@sources")
    if unknown:
        raise DeployError(str(path), f"unknown {'; '.join(unknown)}", f"known types: {', '.join(sorted(OPS))}")
    return graph


def _meta(text: Any, where: str) -> dict[str, Any]:
    """Labels and training facts, JSON."""
    found = json_value(text, where)
    if not isinstance(found, dict):
        raise DeployError(where, f"is a {type(found).__name__}, not a mapping", DAMAGED)
    return found
