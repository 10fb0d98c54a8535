"""A NIR file as nodes and edges, by name; subgraphs unfolded. nir's own type check is left out: spikegate/formats/nir/shapes.py checks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.errors import DeployError, first_line
from spikegate.reading import hdf5, limits
from spikegate.reading.text import said

FIELDS = {
    "Input": (), "Output": (), "Flatten": (), "Affine": ("weight", "bias"), "Linear": ("weight",), "Conv1d": ("weight", "bias"),
    "Conv2d": ("weight", "bias"), "SumPool2d": (), "AvgPool2d": (), "Scale": ("scale",), "Delay": ("delay",),
    "Threshold": ("threshold",), "I": ("r",), "IF": ("r", "v_threshold", "v_reset"), "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"), "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
}  # fmt: skip  # node type -> its numbers


@dataclass
class Flat:
    """A NIR graph without subgraphs. `joints` are inputs and outputs of subgraphs, which pass signals on."""

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    joints: set[str] = field(default_factory=set)
    metadata: dict[str, Any] = field(default_factory=dict)

    def kind(self, name: str) -> str:
        return type(self.nodes[name]).__name__

    def before(self, name: str) -> list[str]:
        return [a for a, b in self.edges if b == name]

    def after(self, name: str) -> list[str]:
        return [b for a, b in self.edges if a == name]

    def only(self, kind: str) -> list[str]:
        return [n for n in self.nodes if self.kind(n) == kind and n not in self.joints]


def read_file(path: Path) -> Any:
    """``nir.NIRGraph`` of a file; a DeployError names what is missing or damaged."""
    try:
        from nir.serialization import hdf2dict
    except ImportError:
        raise DeployError("nir", "is not installed", "pip install 'spikegate[nir]'") from None
    with hdf5.opened(Path(path), "NIR file", "write it with nir 1.0.8") as f:
        found = hdf2dict(f["node"])
    if not isinstance(found, dict) or str(found.get("type")) != "NIRGraph":
        raise DeployError(str(path), "holds no NIR graph", "write a nir.NIRGraph")
    return _node("NIR", found)


def _node(name: str, found: dict[str, Any]) -> Any:
    """A node of nir's own class, or a graph of them."""
    import nir

    try:
        if str(found["type"]) != "NIRGraph":
            with np.errstate(all="raise"):  # sizes that overflow would be other sizes
                return nir.dict2NIRNode(_alike(dict(found)))
        parts, pairs = dict(found["nodes"]), np.asarray(found["edges"])
        metadata = found.get("metadata", {})
    except KeyError as e:
        raise DeployError(name, f"lacks {e.args[0]!r}", "write the file with nir 1.0.8") from None
    except Exception as e:  # nir's constructors raise many types
        raise DeployError(name, f"is no node that nir can make ({first_line(e)})", "write the file with nir 1.0.8") from None
    if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "OSU" or len(pairs) > limits.TEXTS):
        what = f"edges has shape {pairs.shape} and type {pairs.dtype}, needs at most {limits.TEXTS} pairs of names"
        raise DeployError(name, what, "write the file with nir 1.0.8")
    nodes = {str(k): _node(str(k), n) for k, n in parts.items()}
    return nir.NIRGraph(nodes, [(said(a), said(b)) for a, b in pairs], metadata, type_check=False)


def _alike(found: dict[str, Any]) -> dict[str, Any]:
    """One number for a whole layer beside full arrays, as older writers mixed them, in the arrays' shape: nir 1.0.8 wants one shape."""
    fields = FIELDS.get(str(found["type"]), ())
    if "tau" in fields or "tau_mem" in fields or "v_threshold" in fields:
        given = {f: np.asarray(found[f]) for f in fields if f in found}
        shape = max((v.shape for v in given.values()), key=np.prod, default=())
        found |= {f: np.full(shape, v.reshape(-1)[0]) for f, v in given.items() if v.size == 1 and v.shape != shape}
    return found


def unfolded(graph: Any) -> Flat:
    """The graph without subgraphs, names joined by a dot; every node a known one with finite numbers, every edge between two nodes.

    Raises
    ------
    DeployError
        Naming each node that is unknown, every edge that leads nowhere or is there twice.
    """
    flat = Flat(metadata=_facts("NIR", graph))
    _unfold(graph, "", flat)
    for name, node in flat.nodes.items():
        _facts(name, node)
    unknown = [f"{n} ({flat.kind(n)})" for n in flat.nodes if flat.kind(n) not in FIELDS]
    if unknown:
        raise DeployError("NIR", f"cannot take {', '.join(unknown)}", f"known: {', '.join(FIELDS)}")
    for name, node in flat.nodes.items():
        for f in FIELDS[flat.kind(name)]:
            values = np.asarray(getattr(node, f))
            if values.dtype.kind not in "fiub" or values.size == 0:
                raise DeployError(name, f"{f} holds no numbers", "write the file again")
            if not np.isfinite(values.astype(float)).all():
                raise DeployError(name, f"{f} has values that are not finite", "look for a training that diverged")
    return flat


def _facts(name: str, node: Any) -> dict[str, Any]:
    """A node's metadata; a DeployError where it is no mapping."""
    if not isinstance(node.metadata, dict):
        raise DeployError(name, "metadata is no mapping", "write the file with nir 1.0.8")
    return dict(node.metadata)


def _unfold(graph: Any, prefix: str, flat: Flat) -> tuple[list[str], list[str]]:
    """Enter a graph's nodes and edges; returns the full names of its inputs and outputs."""
    ends: dict[str, tuple[list[str], list[str]]] = {}
    inputs, outputs = [], []
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        kind = type(node).__name__
        if kind == "NIRGraph":
            ends[name] = _unfold(node, f"{full}.", flat)
            continue
        if full in flat.nodes:
            raise DeployError(full, "two nodes have this name once subgraphs are unfolded", "rename one")
        flat.nodes[full] = node
        ends[name] = [full], [full]
        inputs += [full] * (kind == "Input")
        outputs += [full] * (kind == "Output")
    where = f"subgraph {prefix[:-1]}" if prefix else "NIR"
    edges = [(str(a), str(b)) for a, b in graph.edges]
    times = Counter(edges)
    for a, b in edges:
        for end in (a, b):
            if end not in graph.nodes:
                what = f"edge {a} -> {b} names a node that does not exist"
                raise DeployError(where, what, f"nodes: {', '.join(map(str, graph.nodes))}; mend the program that wrote the file")
        if times[a, b] > 1:
            raise DeployError(where, f"edge {a} -> {b} is there twice", "NIR has one edge between two nodes; double the weights instead")
        sent, taken = ends[a][1], ends[b][0]
        if len(sent) != 1 or len(taken) != 1:
            raise DeployError(where, f"edge {a} -> {b} joins a subgraph of several inputs or outputs", "give subgraphs one of each")
        flat.edges.append((sent[0], taken[0]))
    if prefix:
        flat.joints |= {*inputs, *outputs}
    return inputs, outputs
