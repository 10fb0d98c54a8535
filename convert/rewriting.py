"""An export with another form of its net: files copied, net and manifest written anew, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.convert.checks.audit import audit
from spikegate.convert.checks.listing import op_rows
from spikegate.files import together
from spikegate.formats.manifest import read_manifest, write_manifest
from spikegate.formats.netx.graph_file import is_stock_chain, read_graph, write_graph
from spikegate.graph import credit
from spikegate.graph.ir import Graph

NET, MANIFEST = "model.net", "manifest.json"


def write_form(
    export: Path, output: Path, graph: Graph, inputs: np.ndarray, prove: Callable[[Graph], None] | None = None, **changed: Any
) -> Path:
    """Write `graph` as a form of `export` to folder `output`; returns it.

    Everything that lies beside the net is copied: embedding, test images, trained weights. What the manifest says of the ops follows
    from `graph`.

    Parameters
    ----------
    inputs : int [N, *graph.input_shape], embedded samples for the audit
    prove : is given the net as the written file holds it, and raises where it is not what it should be
    changed : further fields of the manifest

    Raises
    ------
    DeployError
        A folder that cannot be written, an op that multiplies, what `prove` raises; `output` then is as it was.
    """
    manifest = read_manifest(export)
    with together(output, MANIFEST) as part:
        for path in export.iterdir():
            if path.is_file() and path.name not in (NET, MANIFEST):
                shutil.copyfile(path, part / path.name)
        write_graph(graph, part / NET)
        if prove is not None:
            prove(read_graph(part / NET))
        write_manifest(part, manifest | {
            "ops": op_rows(graph), "dense_ops": {n: op.dense_ops for n, op in graph.ops.items()}, "gates": credit.gates(graph),
            "embedding_ops": [n for n in manifest["embedding_ops"] if n in graph.ops], "stock_netx": is_stock_chain(graph),
            "audit": [{"op": r.name, **r.used, "macs": r.macs} for r in audit(graph, inputs)],
        } | changed, tuple(manifest["sha256"]))  # fmt: skip
    return output
