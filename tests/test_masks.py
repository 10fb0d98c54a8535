"""Timestep masks in training: their own rate, the share that stays open, what a run and a deployment say of them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikegate.command.runs import find_export
from spikegate.data.shipped import open_images
from spikegate.deploy.bundle import without_halting
from spikegate.engine import injector, integer
from spikegate.engine.stage import _alike
from spikegate.formats.event_host import open_host
from spikegate.formats.manifest import read_manifest
from spikegate.formats.netx.graph_file import read_graph
from spikegate.graph.masks import mean_layer_timesteps
from spikegate.graph.signals import MUTE, SKIP
from spikegate.ops.timestep_gate import RULES
from spikegate.train.layers.timestep_gate import TimestepMask, keep_open
from spikegate.train.optimize import make_optimizer, masks_learn, set_rate
from spikegate.train.settings.config import TrainConfig
from spikegate.train.tracing import trace_net
from tests.test_layers import lively


def masks_of(scores: list[list[float]]) -> list[TimestepMask]:
    out = [TimestepMask(len(word), "skip") for word in scores]
    for mask, word in zip(out, scores):
        mask.score.data = torch.tensor(word)
    return out


@given(
    scores=st.lists(st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4), min_size=1, max_size=5),
    share=st.floats(0.05, 1),
)
def test_a_share_stays_open_and_the_order_as_learned(scores, share):
    masks = masks_of(scores)
    before = torch.cat([m.score.detach().clone() for m in masks])
    keep_open(masks, share)
    after = torch.cat([m.score.detach() for m in masks])
    least = max(1, round(share * len(after)))
    assert int((after >= 0).sum()) >= least
    if int((before >= 0).sum()) >= least:
        assert torch.equal(before, after)
    else:
        assert torch.allclose(after - before, (after - before)[0].expand(len(after)), atol=1e-5)


def test_scores_learn_at_their_own_rate():
    net = lively("dts_vit")[0]
    optimizer = make_optimizer(net, TrainConfig(mask_rate=5.0, rates="equal"))
    set_rate(optimizer, 0.01)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    scores = {id(m.score) for m in net.masks}
    assert scores and {r for i, r in rates.items() if i in scores} == {0.05} and {r for i, r in rates.items() if i not in scores} == {0.01}


def test_masks_stay_from_a_share_of_the_epochs_on():
    """Their scores' rate is 0 then, the weights' is not; nothing moves them, not even moments from before."""
    net = lively("dts_vit")[0]
    config = TrainConfig(mask_until=0.5, epochs=4, rates="equal")
    optimizer = make_optimizer(net, config)
    learn = [masks_learn(s, 10, config) for s in range(40)]
    assert learn == [True] * 20 + [False] * 20 and all(masks_learn(s, 10, TrainConfig(epochs=4)) for s in range(40))
    scores = torch.cat([m.score for m in net.masks]).detach().clone()
    weight = next(p for p in net.parameters() if p.ndim > 1)
    for masks in (True, False):
        kept, before = torch.cat([m.score for m in net.masks]).detach().clone(), weight.detach().clone()
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        set_rate(optimizer, 0.01, masks)
        optimizer.step()
        now = torch.cat([m.score for m in net.masks]).detach()
        assert torch.equal(now, kept) != masks and not torch.equal(weight, before)
    assert not torch.equal(scores, torch.cat([m.score for m in net.masks]))


def test_average_timesteps_are_those_of_the_masks_and_halting_off_opens_them():
    net, x = lively("dts_vit")
    trace_net(net, x.numpy())
    graph, words = net.graph(), torch.stack([m.bits().detach() for m in net.masks])
    assert mean_layer_timesteps(graph) == pytest.approx(float(words.sum(1).mean()))
    assert words.sum() < words.numel()
    plain = without_halting(graph)
    assert mean_layer_timesteps(plain) is None and not plain.only("timestep_gate") and plain.only("conv")


@given(st.lists(st.lists(st.sampled_from(range(4)), min_size=5, max_size=5), min_size=1, max_size=3))
def test_a_call_computes_timesteps_that_the_same_samples_run(rows):
    """Property: the runs are all timesteps in order; in one, each sample is skipped throughout or never; a muted timestep is alone."""
    words = np.array(rows)
    runs = list(_alike(words))
    assert [k for first, last in runs for k in range(first, last)] == list(range(5))
    for first, last in runs:
        part = words[:, first:last]
        assert ((part == SKIP).all(1) | (part != SKIP).all(1)).all()
        assert last - first == 1 or not (part == MUTE).any()


@pytest.fixture(scope="module")
def masked():
    """Graph of a net with learned masks, and integers of eight images."""
    export = find_export(Path("zoo:dts_vit-digits"))
    graph, manifest = read_graph(export / "model.net"), read_manifest(export)
    return graph, open_host(export, graph, manifest).encode(open_images(export, manifest, "test:8").x)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_masks_decide_the_same_in_chunks_and_timestep_by_timestep(masked, data):
    """Property: any masks and rules, several timesteps in a call or one: the same spikes, logits and events."""
    graph, values = deepcopy(masked[0]), masked[1]
    words = st.lists(st.integers(0, 1), min_size=graph.timesteps, max_size=graph.timesteps)
    for name in graph.only("timestep_gate"):
        mask, rule = np.array(data.draw(words)), data.draw(st.sampled_from(sorted(RULES)))
        graph.ops[name] = replace(graph.ops[name], mask=mask, rule=rule)
    found = []
    for fits in (1, 1 << 30):
        with pytest.MonkeyPatch.context() as m:
            m.setattr(injector, "CHUNK_VALUES", fits)
            assert injector.span_of(graph, len(values)) == (1 if fits == 1 else graph.timesteps)
            found.append(integer.run(graph, values))
    one, several = found
    assert np.array_equal(one.logits, several.logits) and np.array_equal(one.counts, several.counts)
