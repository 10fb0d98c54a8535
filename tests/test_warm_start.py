"""Warm starts: from a static twin, from a net of the zoo, from a net that was trained on other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spikegate.command.runs import ZOO
from spikegate.graph.ir import DeployError
from spikegate.train import checkpoint, models
from spikegate.train.layers.readout import Head
from spikegate.train.restore import Start, read_facts, start_from
from spikegate.train.settings.config import Config
from spikegate.train.settings.options import from_mapping, of_run
from spikegate.train.settings.runfolder import WEIGHTS

SOURCE = Path("zoo:spikformer-digits")


def net_of(classes: int, **model):
    config = of_run(ZOO / "spikformer-digits").model_dump()
    config["model"] |= model
    torch.manual_seed(1)
    return models.build(Config.model_validate(config).model, (1, 8, 8), classes, 16)


def same(net, without: tuple[str, ...] = ()) -> None:
    """Every tensor of the source is in the net, but for those whose names begin with one of `without`."""
    given, own = checkpoint.read(ZOO / "spikformer-digits" / WEIGHTS, "")[0], net.state_dict()
    for name, tensor in given.items():
        assert torch.equal(own[name], tensor) or name.startswith(without), name


def test_a_net_of_the_zoo_is_a_start():
    net = net_of(10)
    assert start_from(SOURCE, net, read_facts(SOURCE).classes) == Start([], wider=False)
    same(net)


ADAPTIVE = {"name": "at_snn", "halting": {"enabled": True}}


@pytest.mark.parametrize("classes, change", [(7, {}), (10, {}), (10, {"head": "mean"}), (12, ADAPTIVE)])
def test_other_classes_have_a_fresh_head(classes, change):
    net = net_of(classes, **change)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    fresh = start_from(SOURCE, net, [f"class {k}" for k in range(classes)]).fresh
    heads = {n for n, twin in net.named.items() if isinstance(twin, Head)}
    gates = {n for n, twin in net.named.items() if twin.halts}
    assert heads and bool(gates) == ("name" in change)
    assert {n.split(".")[1].replace("/", ".") for n in fresh} == heads | {n for n in gates if any(True for _ in net.named[n].parameters())}
    assert all(torch.equal(net.state_dict()[n], before[n]) for n in fresh)
    same(net, tuple(f"twins.{n.replace('.', '/')}." for n in heads))


@pytest.mark.parametrize("classes, change, what", [
    (["a", "b"], {"dim": 16, "heads": 2}, "the model needs"),
    (None, {"head": "mean"}, "twins.readout.synapse.weight is"),
])
def test_nothing_else_starts_fresh(classes, change, what):
    classes = classes or read_facts(SOURCE).classes
    with pytest.raises(DeployError, match=what):
        start_from(SOURCE, net_of(len(classes), **change), classes)


@pytest.mark.parametrize("timesteps", [2, 7])
def test_another_number_of_timesteps_takes_all_that_was_trained(timesteps):
    net = net_of(10, timesteps=timesteps)
    assert start_from(SOURCE, net, read_facts(SOURCE).classes) == Start([], wider=False)
    same(net, ("twins.exit.",))
    assert len(net.state_dict()["twins.exit.margin"]) == timesteps


def test_masks_of_another_number_of_timesteps_are_refused():
    config = of_run(ZOO / "dts_vit-digits")
    config.model.timesteps += 1
    source = Path("zoo:dts_vit-digits")
    with pytest.raises(DeployError, match=r"twins\..* is "):
        start_from(source, models.build(config.model, (1, 8, 8), 10, 16), read_facts(source).classes)


@pytest.mark.parametrize("fresh, change", [
    (["sps", "isps", "stem"], {"name": "stas", "halting": {"enabled": False}}),
    (["stem", "sps", "readout"], {"embedding": "published"}),
    (["stem", "sps"], {"stem_channels": 8, "pooling": "or"}),
    (["readout"], {"head": "mean"}),
    (["block2"], {}),
    (["block2.fc1", "block2.fc2", "block1.fc1", "block1.fc2"], {"mlp_ratio": 3.0}),
])
def test_named_layers_start_fresh(fresh, change):
    net = net_of(10, **change)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    begun = start_from(SOURCE, net, read_facts(SOURCE).classes, fresh)
    own, given = net.state_dict(), checkpoint.read(ZOO / "spikformer-digits" / WEIGHTS, "")[0]
    assert begun.fresh and not begun.wider
    for name, tensor in own.items():
        first = name.split(".")[0] if name.startswith("stem") else name.split(".")[1].replace("/", ".")
        new = any(f"{first}.".startswith(f"{part}.") for part in fresh)
        assert new == (name in begun.fresh) and torch.equal(tensor, before[name] if new else given[name]), name


def test_a_wider_net_with_another_embedding():
    net = net_of(10, dim=48, heads=6, embedding="published", pooling="or")
    begun = start_from(SOURCE, net, read_facts(SOURCE).classes, ["stem", "sps", "readout"])
    given = checkpoint.read(ZOO / "spikformer-digits" / WEIGHTS, "")[0]
    assert begun.wider and {n.split("/")[0].split(".")[-1] for n in begun.fresh if "sps" in n} == {"sps"}
    assert torch.equal(net.state_dict()["twins.block1/q.norm.mean"][32:], given["twins.block1/q.norm.mean"][:16])


@pytest.mark.parametrize("fresh", ["sp", "spsx", "twins", "block3", ""])
def test_a_layer_that_is_not_there_is_named(fresh):
    with pytest.raises(DeployError, match=f"has a layer {fresh!r}") as e:
        start_from(SOURCE, net_of(10), read_facts(SOURCE).classes, ["readout", fresh])
    assert "block1, block2" in str(e.value) and "sps, stem" in str(e.value)


def test_fresh_layers_need_a_start():
    with pytest.raises(DeployError, match=r"train\.fresh names layers"):
        from_mapping({"train": {"fresh": ["sps"]}}, "here")


def test_an_unknown_net_of_the_zoo_is_named():
    with pytest.raises(DeployError, match="no such net in the zoo"):
        start_from(Path("zoo:nothing"), net_of(10), ["a"] * 10)
