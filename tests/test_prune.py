"""Token pruning without training: exact, undone by `--halt off`, no more dropped than asked for, refused where tokens are none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from spikegate.command.runs import find_export
from spikegate.convert.prune import prune
from spikegate.convert.pruned_graph import before_blocks, gated, with_gate
from spikegate.deploy.agreement import agreement
from spikegate.deploy.bundle import load_images, open_export, without_halting
from spikegate.deploy.targets import Target
from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.manifest import read_manifest
from spikegate.graph.ir import Graph, Payload
from spikegate.ops.base.patches import patches
from spikegate.ops.conv import Conv
from spikegate.ops.exit_gate import NEVER, ExitGate
from spikegate.ops.lif import Lif
from spikegate.ops.readout import Readout

NET = Path("zoo:spikformer-digits")


@pytest.fixture(scope="module", params=[False, True], ids=["blocks", "embedding"])
def pruned(request, tmp_path_factory) -> Path:
    return prune(NET, tmp_path_factory.mktemp("pruned") / "net", 0.3, patience=2, whole=request.param)


def test_no_more_than_asked_for_is_dropped(pruned):
    facts = read_manifest(pruned)["pruned"]
    assert 0.68 <= facts["mean_tokens"] < 0.95 and facts["events"] < facts["events_before"]  # ended samples count no cells
    bundle = open_export(pruned)
    gate = bundle.graph.ops["prune"]
    record = integer.run(bundle.graph, bundle.host.encode(load_images(bundle).x))
    assert gate.cut == facts["cut"] and record.mean_tokens < 0.97  # type: ignore[attr-defined]
    assert all(row["macs"] == 0 for row in read_manifest(pruned)["audit"])


def test_what_may_be_lost_decides_how_much_is_dropped(tmp_path):
    """The form with the fewest events that loses no more on all validation images; share and patience bound it."""
    facts = [read_manifest(prune(NET, tmp_path / str(k), loss=loss, whole=True, **bounds))["pruned"] for k, (loss, bounds) in enumerate(
        [(0.01, {}), (0.03, {}), (0.03, {"patience": 2}), (0.03, {"share": 0.12})])]  # fmt: skip
    assert all(f["accuracy"] >= f["accuracy_before"] - f["loss"] and f["events"] < f["events_before"] for f in facts)
    assert facts[1]["events"] <= facts[0]["events"] and facts[1]["events"] <= min(f["events"] for f in facts)
    assert facts[2]["patience"] == 2 and facts[3]["share"] == 0.12 and facts[3]["mean_tokens"] >= 0.88
    assert facts[0]["images"] == 144, "all validation images"


@pytest.mark.parametrize("given, says", [
    ({}, "no share and no loss"), ({"loss": 1.5}, "--prune-loss"),
    ({"loss": 0.0, "patience": 1}, "no form saves events and loses 0.00% at most"),
])  # fmt: skip
def test_a_loss_that_cannot_be_had_is_refused(given, says, tmp_path):
    with pytest.raises(DeployError, match=says):
        prune(NET, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.lava
@pytest.mark.parametrize("mapping", ["op", "block", "chip"])
def test_a_pruned_net_is_the_same_in_lava(pruned, mapping):
    from spikegate.deploy.timing import timing_of

    bundle = open_export(pruned)
    at = timing_of(bundle.graph, mapping=mapping)
    assert agreement(bundle, load_images(bundle).x[:16], ("int", "lava"), at=at).equal


def test_nothing_is_lost_where_nothing_is_dropped(pruned):
    """Cut 0, and the pruned net without its gate, are the net that it was made from."""
    before = open_export(NET)
    manifest = before.manifest
    x = before.host.encode(load_images(before).x[:64])
    expected = integer.run(before.graph, x)
    whole = read_manifest(pruned)["pruned"]["embedding"]
    idle = with_gate(before.graph, manifest["embedding_ops"], tuple(manifest["grid"]), 0, whole=whole)
    for graph in (idle, without_halting(open_export(pruned).graph)):
        assert np.array_equal(integer.run(graph, x).logits, expected.logits)
    assert integer.run(idle, x).mean_tokens == 1


def test_a_dropped_token_keeps_its_value():
    """All tokens dropped at once: the logits are those of the embedding's spikes of the first timestep, T times."""
    before = open_export(NET)
    manifest = before.manifest
    x = before.host.encode(load_images(before).x[:8])
    blind = with_gate(before.graph, manifest["embedding_ops"], tuple(manifest["grid"]), 1 << 20)
    record = integer.run(blind, x, spikes=["prune.relay"])
    head = blind.ops["readout"]
    first = np.einsum("ctd,ntd->nc", head.weight, record.spikes["prune.relay"][:, 0])  # type: ignore[attr-defined]
    assert np.array_equal(record.logits, (first + head.bias) * blind.timesteps)  # type: ignore[attr-defined]
    assert (record.exit_step == 1).all()


@pytest.mark.parametrize("name", ["zoo:spikformer-digits", "zoo:qkformer-digits", "zoo:dts_vit-digits"])
def test_a_dropped_token_leaves_the_embedding_from_the_timestep_after(name):
    """Nothing is sent from its patch, nothing updated; the gate decides as if the embedding had gone on, but for what neighbours miss."""
    before = open_export(Path(name))
    grid = tuple(before.manifest["grid"])
    embedding = before_blocks(before.graph, before.manifest["embedding_ops"])
    x = before.host.encode(load_images(before).x[:32])
    graph = with_gate(before.graph, embedding, grid, 60, 2, whole=True)
    halted = [e.target for e in graph.edges if e.source == "prune" and e.delay and e.slot == "alive"]
    assert halted == gated(graph, embedding, grid[0] * grid[1]) and "prune.relay" not in graph.ops
    record = integer.run(graph, x, spikes=halted)
    dead = ~record.alive[:, :-1, 1]  # after the gate of the timestep before
    assert dead.any() and not dead.all()
    static = integer.run(before.graph, x, spikes=halted)
    for name in halted:
        op = graph.ops[name]
        patch = patches(op.out_grid, dead.shape[2])  # type: ignore[attr-defined]
        sent = record.spikes[name][:, 1:]
        assert not sent[dead[:, :, patch]].any() and static.spikes[name][:, 1:][dead[:, :, patch]].any(), name
        k = record.ops.index(name)
        assert (record.counts[:, 1:, k] <= static.counts[:, 1:, static.ops.index(name)]).all() or op.kind != "biased"
    both = [integer.run(with_gate(before.graph, embedding, grid, 60, 2, whole=w), x).chip_events.sum() for w in (False, True)]
    assert both[1] < both[0]


def test_an_embedding_that_cannot_halt_is_named():
    """Neurons without a slot for credit, and convolutions that work on each token by itself."""
    graph = Graph(timesteps=3, input_shape=(4, 2), input_payload=Payload(0, 9))
    graph.add("encode", Lif((4, 2)), x="input")
    graph.add("block", Conv(np.full((2, 2, 1, 1), 2, np.int16), np.zeros(2, np.int32), (2, 2)), x="encode")
    graph.add("readout", Readout(np.full((3, 4, 2), 2, np.int16), np.zeros(3, np.int32), 3), x=["encode", "block"])
    graph.add("exit", ExitGate(3, 3, np.full(3, NEVER)), logits="readout")
    assert with_gate(graph, ["encode"], (2, 2), 3).ops["prune.relay"]
    with pytest.raises(DeployError, match="no op of the embedding takes a credit"):
        with_gate(graph, ["encode"], (2, 2), 3, whole=True)


def test_the_embedding_of_an_imported_net_is_found_in_its_graph():
    """Its ops have no names of ours, and its manifest calls what the host feeds embedding: the convolutions after it belong to it, too."""
    before = open_export(NET)
    named = before.manifest["embedding_ops"]
    assert before_blocks(before.graph, []) == before_blocks(before.graph, named) == named
    late = before_blocks(open_export(Path("zoo:qkformer-digits")).graph, ["sps.encode"])
    assert "stage1.block1.fc2" in late and "stage2.conv" in late and not any(n.startswith("stage2.block") for n in late)


def test_a_net_imported_from_spikingjelly_is_pruned(tmp_path):
    pytest.importorskip("spikingjelly")
    from bench.jelly_net import Args, trained
    from spikegate.convert.spikingjelly.importing import import_model
    from spikegate.data.parts import load_parts

    parts = load_parts("digits", None, validation=0.1, seed=0)
    net = trained(parts, Args(tmp_path, limit_train=512, dim=32, depth=1, timesteps=3, epochs=10, batch=32))
    import_model(net.eval(), tmp_path / "run", {"name": "digits", "path": None}, quiet=True)
    folder = prune(tmp_path / "run", None, 0.3)
    bundle, static = open_export(folder), open_export(tmp_path / "run")
    x = static.host.encode(load_images(static).x[:64])
    left = open_export(prune(tmp_path / "run", tmp_path / "left", 0.3, whole=True)).graph  # its replayed image goes on
    assert "prune.relay" not in left.ops and integer.run(left, x).chip_events.sum() < integer.run(bundle.graph, x).chip_events.sum()
    record = integer.run(bundle.graph, x)
    assert bundle.graph.ops["prune"].grid == (4, 4) and 0.5 < record.mean_tokens < 1  # type: ignore[attr-defined]
    assert np.array_equal(integer.run(without_halting(bundle.graph), x).logits, integer.run(static.graph, x).logits)
    with pytest.raises(DeployError, match="the torch form of imported nets has no"):
        agreement(bundle, load_images(static).x[:2], ("torch", "int"))


@pytest.mark.parametrize("name, says", [
    ("zoo:at_snn-digits", "has token gates already"), ("zoo:stmixer-digits", "currents"),
    ("zoo:spike_driven-digits", "no spikes of an embedding"),
])  # fmt: skip
def test_nets_whose_tokens_cannot_be_dropped_are_refused(name, says, tmp_path):
    with pytest.raises(DeployError, match=says):
        prune(Path(name), tmp_path / "out", 0.3)
    assert not (tmp_path / "out").exists()


def test_torch_has_the_pruned_form_with_its_calibrated_constants(pruned):
    """Every spike, credit, logit and exit; the run folder's weights lie beside the zoo's export and are copied with it."""
    bundle = open_export(pruned)
    images = load_images(bundle).x[:64]
    found = agreement(bundle, images, ("torch", "int"))
    assert found.equal and found.totals["prune"][0] and found.totals["sps.rpe"][1]
    record = integer.run(bundle.graph, bundle.host.encode(images))
    assert record.mean_tokens < 1
    gate = bundle.graph.ops["prune"]
    bundle.graph.ops["prune"] = dataclasses.replace(gate, cut=gate.cut + 12)  # type: ignore[type-var]
    assert agreement(bundle, images, ("torch", "int")).equal  # the graph's constants, not some that were kept
    more = integer.run(bundle.graph, bundle.host.encode(images))
    assert more.mean_tokens < record.mean_tokens and (more.exit_step < bundle.graph.timesteps).any()


def test_torch_counts_the_events_of_a_pruned_net(pruned):
    bundle = open_export(pruned)
    images = load_images(bundle).x[:32]
    with Target("torch", bundle.graph, pruned, counts=True) as target:
        ours = target.run(images, bundle.host.encode(images))
    assert np.array_equal(ours.counts, integer.run(bundle.graph, bundle.host.encode(images)).counts)


def test_a_net_of_another_run_is_refused(pruned):
    bundle = open_export(pruned)
    bundle.graph.ops["other"] = bundle.graph.ops["block1.q"]
    with pytest.raises(DeployError, match="other: is no op of the trained net"):
        Target("torch", bundle.graph, pruned).run(load_images(bundle).x[:2], np.zeros(0))


def test_shares_that_are_none_are_refused(pruned):
    for share, patience in ((1.0, 1), (-0.1, 1), (0.2, 0)):
        with pytest.raises(DeployError, match="--prune"):
            prune(NET, pruned / "x", share, patience=patience)
    assert find_export(pruned) == pruned
