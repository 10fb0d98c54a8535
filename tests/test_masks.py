"""Timestep masks in training: their own rate, the share that stays open, what a run and a deployment say of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikegate.deploy.bundle import without_halting
from spikegate.graph.masks import mean_layer_timesteps
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
