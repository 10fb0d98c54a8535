"""An exported net whose image is replayed to its first neurons, rewritten so that these neurons keep it as their biases."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from spikegate.command import cli
from spikegate.command.runs import find_export, named
from spikegate.convert.rewriting import write_form
from spikegate.engine import integer
from spikegate.formats.host import Host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.ir import DeployError, Graph
from spikegate.neurons.cuba import DECAY_ONE
from spikegate.ops.biased import Biased

IMAGES = 8  # random ones, on which both forms must give the same spikes


def with_biases(graph: Graph) -> Graph:
    """The same net with `biased` in place of each `inject` that no gate silences and that only `lif` neurons read.

    Spikes, logits and exits are the same; the events between the two are gone.
    """
    folded: dict[str, str] = {}  # neurons -> their replay
    for name in graph.only("inject"):
        readers = [e.target for e in graph.consumers(name) if not e.delay]
        alone = all(len(graph.sources(r)["x"]) == 1 and graph.ops[r].kind == "lif" for r in readers)
        direct = all(graph.ops[r].neuron.i_decay == DECAY_ONE for r in readers if graph.ops[r].kind == "lif")  # type: ignore[attr-defined]
        if readers and alone and direct and "alive" not in graph.sources(name) and len(readers) == len(graph.consumers(name)):
            folded |= dict.fromkeys(readers, name)
    gone = set(folded.values())

    def biased(name: str) -> Biased:
        neurons: Any = graph.ops[name]
        replay: Any = graph.ops[folded[name]]
        return Biased(neurons.shape, replay.low, replay.high, neurons.neuron)

    ops = {n: biased(n) if n in folded else op for n, op in graph.ops.items() if n not in gone}
    edges = []
    for e in graph.edges:
        if e.source in gone:
            edges += [dataclasses.replace(e, source=s.source) for s in graph.edges if s.target == e.source]
        elif e.target not in gone:
            edges.append(e)
    made = dataclasses.replace(graph, ops=ops, edges=edges)
    made.check()
    return made


def rewrite(run: Path | None, output: Path | None, *, as_json: bool = False) -> Path:
    """Write the bias form of an export to `output`, with its embedding and images; returns the folder.

    Raises
    ------
    DeployError
        No export, no place to write to, or a net without such a replay.
    """
    export = find_export(run)
    if output is None:
        raise DeployError("--output", "is missing: an export is not overwritten", "name a folder for the bias form")
    manifest, graph = read_manifest(export), read_graph(export / "model.net")
    made = with_biases(graph)
    if len(made.ops) == len(graph.ops):
        raise DeployError(named(export), "has no replay that neurons alone read", "it is as it should be: nothing to rewrite")
    host = Host(export / "embedding.onnx")
    images = np.random.default_rng(0).integers(0, host.pixels + 1, (IMAGES, *manifest["image_shape"])).astype(np.uint8)
    embedded = host.encode(images)
    write_form(export, output, made, embedded, lambda written: _prove(graph, written, embedded))
    if as_json:
        cli.print_json({"folder": str(output), "ops": len(made.ops), "ops_before": len(graph.ops)})
    else:
        cli.console.print(f"wrote {output}: {len(graph.ops) - len(made.ops)} replays less, the same spikes on {IMAGES} random images",
                          soft_wrap=True, markup=False)
    return output


def _prove(before: Graph, after: Graph, embedded: np.ndarray) -> None:
    a, b = (integer.run(g, embedded, spikes=True) for g in (before, after))
    odd = [n for n in after.ops if not np.array_equal(a.spikes[n], b.spikes[n])]
    if odd or not (np.array_equal(a.logits, b.logits) and np.array_equal(a.exit_step, b.exit_step)):
        raise DeployError((odd or ["readout"])[0], "the bias form does not give the same values", "please report it with this net")
