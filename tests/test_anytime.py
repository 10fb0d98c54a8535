"""The loss of the answers after each timestep: what an exit would say."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from spikegate.command.runs import ZOO
from spikegate.train.criterion import anytime_loss, loss_of
from spikegate.train.restore import load_run


def net_and_images(phase: str):
    config, net = load_run(ZOO / "spikformer-digits")
    torch.manual_seed(0)
    net.set_phase(phase)
    net.train()
    return (
        net,
        config.train.model_copy(update={"activity": 0.0}),
        torch.randint(0, 17, (6, 1, 8, 8), dtype=torch.uint8),
        torch.randint(0, 10, (6,)),
    )


@pytest.mark.parametrize("phase", ["float", "deployed"])
def test_answers_are_those_of_nets_that_end_there(phase):
    """The answer after t timesteps is the mean over them, in units of the logits; the last one is the net's."""
    net, _, x, _ = net_and_images(phase)
    out = net(x)
    assert out.answers.shape == (4, 6, 10) and out.answers[0].abs().max() > 0 and torch.allclose(out.answers[-1], out.logits, rtol=1e-6)
    scale = next(m for m in net.modules() if hasattr(m, "log_scale")).log_scale.exp()
    for t in range(4):
        assert torch.allclose(out.answers[t], out.steps[t] * scale * 4 / (t + 1), rtol=1e-6)


def test_the_loss_is_the_mean_over_timesteps_and_its_share_counts():
    net, settings, x, y = net_and_images("deployed")
    out = net(x)
    each = [cross_entropy(a, y, label_smoothing=0.1) for a in out.answers]
    assert torch.allclose(anytime_loss(out.answers, y, 0.1), sum(each) / 4)
    shares = torch.nn.functional.one_hot(y, 10).float()
    assert torch.allclose(anytime_loss(out.answers, shares, 0.1), sum(each) / 4)
    plain, all_of_it, half = (loss_of(net, out, x, y, settings.model_copy(update={"anytime": share}), None) for share in (0.0, 1.0, 0.5))
    assert torch.allclose(all_of_it, anytime_loss(out.answers, y, settings.label_smoothing)) and not torch.allclose(plain, all_of_it)
    assert torch.allclose(half, (plain + all_of_it) / 2)


def test_early_answers_learn():
    """Trained for them, the first timestep answers better than the last one alone teaches it to."""
    found = {}
    for share in (0.0, 1.0):
        net, settings, x, y = net_and_images("deployed")
        settings = settings.model_copy(update={"anytime": share})
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for _ in range(40):
            optimizer.zero_grad()
            loss_of(net, net(x), x, y, settings, None).backward()
            optimizer.step()
        found[share] = float(cross_entropy(net(x).answers[0], y))
    assert found[1.0] < found[0.0]
