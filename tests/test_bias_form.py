"""Neurons with the image as their biases: the same spikes as a replay, under every mask, in torch, the reference and Lava, for less."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spikegate.command.runs import ZOO
from spikegate.convert.bias_form import rewrite, with_biases
from spikegate.engine import integer
from spikegate.formats.netx.graph_file import read_graph, write_graph
from spikegate.graph.ir import COUNTERS, DeployError, Graph
from spikegate.neurons.cuba import Cuba
from spikegate.ops.biased import Biased
from spikegate.ops.inject import Inject
from spikegate.ops.lif import Lif
from spikegate.ops.readout import Readout
from spikegate.ops.timestep_gate import TimestepGate

SHAPE, STEPS = (6, 4), 4


def replayed(mask: list[int] | None, rule: str = "skip", low: int = -80, high: int = 119) -> Graph:
    """Replay, neurons (under a mask, if one is given), readout."""
    g = Graph(timesteps=STEPS, input_shape=SHAPE, input_payload=Inject(SHAPE, low, high).payload)
    g.add("replay", Inject(SHAPE, low, high), x="input")
    gate = {} if mask is None else {"open": g.add("mask", TimestepGate(np.array(mask), rule))}
    g.add("encode", Lif(SHAPE, Cuba(4096, 2048, 90)), x="replay", **gate)
    weight = 2 * np.random.default_rng(1).integers(-9, 9, (3, *SHAPE))
    g.add("readout", Readout(weight, np.zeros(3, np.int64), STEPS), x=["encode"])
    return g


def images(number: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(-80, 120, (number, *SHAPE)).astype(np.int32)


@pytest.mark.parametrize("rule", ["skip", "mute", "hold"])
@pytest.mark.parametrize("mask", [None, *([a, b, 1, c] for a in (0, 1) for b in (0, 1) for c in (0, 1))])
def test_the_same_spikes_as_a_replay_under_every_mask(mask, rule):
    before = replayed(mask, rule)
    after = with_biases(before)
    assert [op.kind for op in after.ops.values()].count("biased") == 1 and "replay" not in after.ops
    a, b = (integer.run(g, images(), spikes=True, batch=3) for g in (before, after))
    assert a.spikes["encode"].any() and np.array_equal(a.logits, b.logits)
    assert all(np.array_equal(a.spikes[n], b.spikes[n]) for n in after.ops)
    at, came = b.ops.index("encode"), np.count_nonzero(images().reshape(5, -1), axis=1)
    for counter in ("spike_in", "synop"):  # written once, whether or not the mask skips t = 1
        counts = b.counts[:, :, at, COUNTERS.index(counter)]
        assert np.array_equal(counts[:, 0], came) and not counts[:, 1:].any()
    synops = [r.counts[..., COUNTERS.index("synop")].sum() for r in (a, b)]
    assert synops[1] < synops[0]


def test_what_something_else_reads_or_a_gate_silences_stays_a_replay():
    shared = replayed(None)
    shared.add("other", Inject(SHAPE, -80, 119), x="replay")
    slow = replayed(None)
    slow.ops["encode"] = Lif(SHAPE, Cuba(1000, 2048, 90))  # keeps a current: a bias would not be smoothed by it
    for graph in (shared, slow, read_graph(ZOO / "stas-digits/model.net")):
        assert with_biases(graph).ops.keys() == graph.ops.keys()
    with pytest.raises(DeployError, match="keep a current"):
        bad = with_biases(replayed(None))
        bad.ops["encode"] = Biased(SHAPE, -80, 119, Cuba(1000, 2048, 90))
        bad.check()


def test_an_old_export_is_rewritten_and_proven(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeployError, match="has no replay"):
        rewrite(Path("zoo:spikformer-digits"), Path("again"))
    with pytest.raises(DeployError, match="--output"):
        rewrite(Path("zoo:spikformer-digits"), None)
    old = Path("old")
    old.mkdir()
    for path in (ZOO / "spikformer-digits").iterdir():
        (old / path.name).write_bytes(path.read_bytes())
    graph = read_graph(old / "model.net")
    op = graph.ops["sps.encode"]
    ops = {"sps.replay": Inject(op.shape, op.low, op.high), **graph.ops, "sps.encode": Lif(op.shape, op.neuron)}
    graph.ops = ops
    graph.edges = [type(e)("sps.replay", e.target, e.slot) if e.source == "input" else e for e in graph.edges]
    graph.edges.append(type(graph.edges[0])("input", "sps.replay", "x"))
    write_graph(graph, old / "model.net")
    manifest = json.loads((old / "manifest.json").read_text())
    from spikegate.formats.manifest import write_manifest

    write_manifest(old, manifest | {"embedding_ops": ["sps.replay", *manifest["embedding_ops"]]}, tuple(manifest["sha256"]))
    made = json.loads((rewrite(old, Path("new")) / "manifest.json").read_text())
    assert made["ops"] == manifest["ops"] and made["embedding_ops"] == manifest["embedding_ops"]
    assert read_graph(Path("new/model.net")).ops.keys() == read_graph(ZOO / "spikformer-digits/model.net").ops.keys()
    assert "the same spikes" in capsys.readouterr().out


@pytest.mark.lava
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mask", [None, [0, 1, 0, 1]])
def test_lava_gives_the_same(mask):
    from spikegate.deploy.network.network import Network

    graph = with_biases(replayed(mask))
    reference = integer.run(graph, images(), spikes=True)
    with Network(graph, "op", 2, patience_s=60) as network:
        record = network.run(images(), spikes=True)
    assert np.array_equal(record.logits, reference.logits) and np.array_equal(record.counts, reference.counts)
    assert all(np.array_equal(record.spikes[n], reference.spikes[n]) for n in graph.ops)
