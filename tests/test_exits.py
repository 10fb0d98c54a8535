"""Exits for exports that are there already: without training, exact, undone by --halt off; options that change nothing are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spikegate.command.runs import is_run
from spikegate.convert.exits import Rule, rewrite
from spikegate.convert.export import Args, kind_of
from spikegate.convert.prune import prune
from spikegate.deploy.agreement import agreement
from spikegate.deploy.bundle import load_images, open_export, without_halting
from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.manifest import read_manifest
from spikegate.ops.exit_gate import NEVER

NET = Path("zoo:spikformer-digits")
RULES = [Rule(drop=0.02), Rule(loss=0.05), Rule(risk=0.1, confidence=0.8)]


@pytest.fixture(scope="module", params=RULES, ids=["drop", "loss", "risk"])
def early(request, tmp_path_factory):
    return request.param, rewrite(NET, tmp_path_factory.mktemp("exits") / "net", request.param)


def test_a_net_of_the_zoo_leaves_early(early):
    rule, folder = early
    bundle, before, manifest = open_export(folder), open_export(NET), read_manifest(folder)
    x = bundle.host.encode(load_images(bundle).x)
    record, whole = integer.run(bundle.graph, x), integer.run(before.graph, x)
    assert record.mean_timesteps < 3.9 and record.chip_events.sum() < whole.chip_events.sum()
    assert (record.prediction != whole.prediction).mean() < 0.1
    assert manifest["halting"] and [k for k in ("exit_drop", "exit_loss", "exit_guarantee") if manifest[k] is not None] == [
        {"--exit-drop": "exit_drop", "--exit-loss": "exit_loss", "--exit-risk": "exit_guarantee"}[rule.given[0]]
    ]
    assert np.array_equal(integer.run(without_halting(bundle.graph), x).logits, whole.logits)
    assert all(row["macs"] == 0 for row in manifest["audit"])


def test_torch_and_the_integers_agree_on_it(early):
    bundle = open_export(early[1])
    found = agreement(bundle, load_images(bundle).x[:16], ("torch", "int"))
    assert found.equal


@pytest.mark.timeout(120)
def test_so_does_lava(tmp_path):
    bundle = open_export(rewrite(NET, tmp_path / "net", Rule(drop=0.02)))
    assert agreement(bundle, load_images(bundle).x[:4], ("int", "lava")).equal


def test_what_is_said_and_what_is_json(tmp_path, capsys):
    rewrite(NET, tmp_path / "a", Rule(loss=0.05))
    said = " ".join(capsys.readouterr().out.split())
    assert "exit margins at timesteps 1..3" in said and "that did not shape the margins" in said and "deploy/run.py" in said
    rewrite(NET, tmp_path / "b", Rule(loss=0.05), as_json=True)
    found = json.loads(capsys.readouterr().out)
    gate = open_export(tmp_path / "b").graph.ops["exit"]
    assert found["margins"] == gate.margin[:-1].tolist() and gate.margin[-1] == NEVER  # type: ignore[attr-defined]
    assert found["exit_loss"] == read_manifest(tmp_path / "b")["exit_loss"]


def test_a_net_imported_from_spikingjelly_leaves_early(tmp_path):
    pytest.importorskip("spikingjelly")
    from bench.jelly_net import Args as Trained
    from bench.jelly_net import trained
    from spikegate.convert.spikingjelly.importing import import_model
    from spikegate.data.parts import load_parts

    parts = load_parts("digits", None, validation=0.1, seed=0)
    net = trained(parts, Trained(tmp_path, limit_train=512, dim=32, depth=1, timesteps=3, epochs=10, batch=32))
    import_model(net.eval(), tmp_path / "run", {"name": "digits", "path": None}, quiet=True)
    bundle = open_export(rewrite(tmp_path / "run", None, Rule(loss=0.05)))
    images = load_images(bundle).x
    assert integer.run(bundle.graph, bundle.host.encode(images)).mean_timesteps < 3
    assert agreement(bundle, images[:16], ("torch", "int")).equal


def test_a_pruned_net_leaves_early_and_stays_pruned(tmp_path):
    """Its folder holds the weights that it came from, too: the net that is there is meant, not another export of those."""
    pruned = prune(NET, tmp_path / "pruned", 0.3)
    assert is_run(pruned) and kind_of(Args(run=pruned, exit_drop=0.02)) == "exits of an export"
    bundle, before = open_export(rewrite(pruned, tmp_path / "both", Rule(drop=0.02))), open_export(pruned)
    x = bundle.host.encode(load_images(bundle).x)
    both, alone = integer.run(bundle.graph, x), integer.run(before.graph, x)
    cuts = [b.graph.ops["prune"].cut for b in (bundle, before)]  # type: ignore[attr-defined]
    assert cuts[0] == cuts[1] > 0 and both.chip_events.sum() < alone.chip_events.sum()
    assert both.mean_timesteps < alone.mean_timesteps
    assert agreement(bundle, load_images(bundle).x[:16], ("torch", "int")).equal


def test_a_loss_that_cannot_be_had_is_refused(tmp_path):
    with pytest.raises(DeployError, match=r"even the most cautious exits lose more than 0\.00% of 144 validation images"):
        rewrite(NET, tmp_path / "out", Rule(loss=0.0))
    assert not (tmp_path / "out").exists()


def test_two_rules_are_refused():
    with pytest.raises(DeployError, match="--exit-risk: and --exit-drop are two ways"):
        Rule(drop=0.1, risk=0.1)


KINDS = {
    "--format nir": {"format": "nir"}, "--format bias": {"format": "bias"}, "--prune": {"prune": 0.1},
    "exits of an export": {"run": NET, "exit_loss": 0.01}, "the export of a trained run": {},
}  # fmt: skip
OTHERS = {
    "exit_drop": 0.1, "exit_loss": 0.1, "exit_risk": 0.1, "exit_confidence": 0.5, "prune": 0.1, "prune_loss": 0.1, "patience": 1,
    "prune_embedding": True, "data_path": Path("x"), "dry_run": True,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_takes_effect_or_is_refused(kind):
    from spikegate.convert.export import TAKEN

    assert kind_of(Args(**KINDS[kind])) == kind
    for name, value in OTHERS.items():
        given = KINDS[kind] | {name: value}
        if kind == "the export of a trained run" and name in ("prune", "prune_loss"):
            continue  # that is the other kind
        if name in TAKEN[kind] and (name != "exit_confidence" or "exit_risk" in given):
            assert kind_of(Args(**given)) == kind
            continue
        with pytest.raises(DeployError) as e:
            kind_of(Args(**given))
        assert e.value.where in {f"--{k.replace('_', '-')}" for k in given}
