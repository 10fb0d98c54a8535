"""The training recipe: first loss, steps in each parameter's own units, timesteps of the float epochs, the host's bound, older runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn.functional import cross_entropy

from spikegate.command.runs import ZOO
from spikegate.train import models
from spikegate.train.layers.folding import FoldedNorm
from spikegate.train.layers.host_stem import HostStem
from spikegate.train.loop import float_timesteps, phase_of
from spikegate.train.optimize import make_optimizer, set_rate, settle_heads
from spikegate.train.restore import load_run
from spikegate.train.settings.config import Config, check, defaults, flat, merge
from spikegate.train.settings.later import LATER
from spikegate.train.settings.options import nested, of_run, write_yaml

torch.set_num_threads(1)
IMAGE = (3, 16, 16)


def config(**options) -> Config:
    given = {"model.name": "spikformer", "model.dim": 32, "model.depth": 2, "model.stem_channels": 16, **options}
    return check(merge(defaults("digits", given["model.name"]), nested(given)), "test")


def build(settings: Config):
    torch.manual_seed(settings.train.seed)
    return models.build(settings.model, IMAGE, 10, 255)


def batch(count: int = 32):
    torch.manual_seed(9)
    return torch.randint(0, 256, (count, *IMAGE), dtype=torch.uint8), torch.randint(0, 10, (count,))


@pytest.mark.parametrize("name", ["spikformer", "stas", "qkformer", "spike_driven", "stmixer"])
@pytest.mark.parametrize("head", ["tokens", "mean"])
@pytest.mark.parametrize("drive", [0.5, 0.8])
def test_an_untrained_net_knows_nothing(name, head, drive):
    net = build(config(**{"model.name": name, "model.head": head, "model.drive": drive}))
    net.train()
    x, y = batch()
    loss = cross_entropy(net(x).logits, y).item()
    assert abs(loss - math.log(10)) < 0.5, loss


def test_the_wide_start_was_sure_of_nothing_true():
    x, y = batch()
    net = build(config(**{"model.head": "mean", "model.head_start": "wide"}))
    net.train()
    assert cross_entropy(net(x).logits, y).item() > math.log(10) + 0.5


@pytest.mark.parametrize("head", ["tokens", "mean"])
@pytest.mark.parametrize("grown", [1.0, 60.0])
def test_a_head_settles_in_the_range_of_its_bits_without_changing_the_logits(head, grown):
    settings = config(**{"model.head": head})
    net = build(settings)
    x, _ = batch()
    optimizer = make_optimizer(net, settings.train)
    readout = net.twin("readout")
    with torch.no_grad():
        readout.synapse.weight.mul_(grown)
        readout.bias.normal_()
    net(x).logits.square().sum().backward()
    optimizer.step()
    net.eval()
    before, moment = net(x).logits.detach(), optimizer.state[readout.synapse.weight]["exp_avg"].clone()
    length = readout.synapse.weight.detach().clone()
    settle_heads(net, optimizer)
    weight = readout.synapse.weight.detach()
    assert torch.allclose(net(x).logits, before, rtol=1e-4, atol=1e-5)
    assert weight.abs().max() < 3.97 and 0.1 < weight.reshape(10, -1).abs().mean(1).max() <= 0.2001
    assert torch.allclose(optimizer.state[readout.synapse.weight]["exp_avg"] * weight, moment * length, rtol=1e-4)


def first_steps(settings: Config) -> tuple[dict, dict]:
    """Parameters before and after one step at rate 0.001, by name."""
    net = build(settings)
    net.train()
    x, y = batch()
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    optimizer = make_optimizer(net, settings.train)
    set_rate(optimizer, 0.001)
    cross_entropy(net(x).logits, y).backward()
    optimizer.step()
    return before, {n: p.detach() for n, p in net.named_parameters() if p.requires_grad}


def test_relative_steps_are_as_long_as_those_of_a_plain_net():
    """AdamW's first step is the rate, in each parameter's units: a norm that starts at 12.8 moves 12.8 times as far."""
    settings = config(**{"train.weight_decay": 0.0})
    before, after = first_steps(settings)
    net = build(settings)
    norms = {n: m for n, m in net.named_modules() if isinstance(m, FoldedNorm)}
    assert len({m.start for m in norms.values()}) > 1
    for name, norm in norms.items():
        for part in ("gamma", "beta"):
            moved = (after[f"{name}.{part}"] - before[f"{name}.{part}"]).abs().max().item()
            assert moved == pytest.approx(0.001 * norm.start, rel=0.02), name
    weight = "twins.readout.synapse.weight"
    head = net.twin("readout")
    assert (after[weight] - before[weight]).abs().max().item() * head.worth == pytest.approx(0.001, rel=0.02)
    plain = "twins.block1/q.block.synapse.weight"
    assert (after[plain] - before[plain]).abs().max().item() == pytest.approx(0.001, rel=0.02)


def test_equal_steps_are_the_rate_itself():
    before, after = first_steps(config(**{"train.weight_decay": 0.0, "train.rates": "equal"}))
    for name in after:
        assert (after[name] - before[name]).abs().max().item() == pytest.approx(0.001, rel=0.05), name


def test_decay_takes_the_same_share_of_every_matrix():
    settings = config(**{"train.weight_decay": 0.1})
    for group in make_optimizer(build(settings), settings.train).param_groups:
        decays = any(p.ndim > 1 for p in group["params"])
        assert group["weight_decay"] * group["scale"] == pytest.approx(0.1 if decays else 0.0)


@pytest.mark.parametrize(
    ("share", "full", "wanted"),
    [(0.7, 0.3, "1111444888"), (0.7, 0.0, "1111111888"), (0.0, 0.5, "8888888888"), (0.5, 0.9, "4444488888"), (0.99, 0.1, "1111111148")],
)
def test_the_last_float_epochs_run_all_timesteps(share, full, wanted):
    """1: float with one timestep, 4: float with four, 8: as deployed."""
    settings = config(**{"train.epochs": 10, "train.float_share": share, "train.full_share": full, "train.float_timesteps": 1})
    found = "".join("8" if phase_of(k, settings) == "deployed" else str(float_timesteps(k, settings)) for k in range(10))
    assert found == wanted


def test_without_float_timesteps_all_epochs_run_all():
    settings = config(**{"train.epochs": 4})
    assert {float_timesteps(k, settings) for k in range(4)} == {4}


def steep_stem(bound: str) -> HostStem:
    """A stem with difference filters of wide gain, and one row far beyond the bound."""
    torch.manual_seed(1)
    stem = HostStem(3, 4, 3, (8, 8), 1, pixels=255, unit=1 / 64, gain=4.0, low=-1024, high=1023, bound=bound)
    with torch.no_grad():
        stem.conv.weight.copy_(torch.randn(stem.conv.weight.shape))
        stem.conv.weight[3] *= 1000
        stem.norm.var.fill_(0.2)
    return stem.eval()


def test_a_row_bound_keeps_filters_whole_and_sums_exact():
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    stem, cut = steep_stem("row"), steep_stem("weight")
    exact = stem(x)
    stem.phase = cut.phase = "deployed"
    weight, bias = stem.folded()
    assert torch.equal(weight, weight.round())
    assert (weight.abs().flatten(1).sum(1) * 255 + bias.abs()).max() < 1 << 24
    share = weight.detach().flatten(1) / stem.norm.fold_weight(stem.conv.weight).detach().flatten(1)
    assert float((share.std(1) / share.mean(1)).max()) < 0.01  # every row keeps its shape
    assert (stem(x) - exact)[..., :3].abs().max() <= 40 and (cut(x) - exact)[..., :3].abs().max() > 200  # of 1,024


def test_a_run_without_later_settings_is_as_it_was(tmp_path):
    old = config(**LATER | {"model.name": "spikformer", "data.name": "digits"})
    write_yaml(old, tmp_path / "config.yml")
    values = yaml.safe_load((tmp_path / "config.yml").read_text())
    for key in LATER:
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section[part]
        del section[last]
    (tmp_path / "config.yml").write_text(yaml.safe_dump(values))
    found = of_run(tmp_path)
    assert found.hash == old.hash
    assert {k: v for k, v in flat(found.facts()).items() if k in LATER} == LATER


@pytest.mark.parametrize("run", sorted(ZOO.iterdir()), ids=lambda p: p.name)
def test_nets_of_the_zoo_are_as_they_were_trained(run: Path):
    """Older ones do not name the settings of the present recipe: they were trained with the one before."""
    settings, net = load_run(run)
    if "rates" not in yaml.safe_load((run / "config.yml").read_text())["train"]:
        assert settings.train.rates == "equal" and settings.model.stem_bound == "weight"
    assert not isinstance(net.stem, HostStem) or net.stem.bound == settings.model.stem_bound
