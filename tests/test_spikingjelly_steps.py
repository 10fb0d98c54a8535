"""Class scores of some timesteps alone: what the other timesteps send never reaches them, on any target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")

from spikegate.convert.spikingjelly.models import read
from spikegate.convert.spikingjelly.reporting import float_answers
from spikegate.deploy.network.network import Network
from spikegate.engine import integer
from spikegate.errors import DeployError
from spikegate.formats.netx.graph_file import read_graph, write_graph
from tests.foreign_import import both, same_in_torch
from tests.foreign_models import lif
from tests.jelly_forwards import Net, T, by_step, first_alone, flat, last_alone, plain, plan_of, steps, uneven_steps

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(7))


def spikes_of(s, x):
    return s.two(flat(s.d, s.lif(flat(s.c, steps(x))))).flatten(2)


def scores_then_last(s, x):
    return s.fc(spikes_of(s, x))[-1]


def last_as_a_sequence(s, x):
    return s.fc(spikes_of(s, x))[-1:]


def loop_that_keeps_the_last(s, x):
    out = None
    for _ in range(T):
        out = by_step(s, x)
    return out


def last_two(s, x):
    return s.fc(spikes_of(s, x))[2:].mean(0)


def last_two_of_spikes(s, x):
    return s.fc(spikes_of(s, x)[2:].mean(0))


def last_two_as_a_sequence(s, x):
    return s.fc(spikes_of(s, x)[2:])


WAYS = {
    last_alone: (3,), first_alone: (0,), scores_then_last: (3,), last_as_a_sequence: (3,), loop_that_keeps_the_last: (3,),
    last_two: (2, 3), last_two_of_spikes: (2, 3), last_two_as_a_sequence: (2, 3),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda f: f.__name__)
def test_only_these_timesteps_count(way):
    model = Net(way, "s" if way is loop_that_keeps_the_last else "m")
    spikes, embedded, _, graph = both(model, IMAGES)
    plan = plan_of(model)
    assert plan.head.steps == WAYS[way]
    record = integer.run(graph, embedded, spikes=True)
    counted = record.spikes["two"][:, list(WAYS[way])].sum(1)
    head = graph.ops["readout"]
    assert np.array_equal(record.logits, np.einsum("kpc,npc->nk", head.weight, counted.astype(np.int64)) + T * head.bias)
    assert np.abs(T * head.bias - T * plan.head.bias * (head.weight.max() / plan.head.parts[0].weight.max())).max() <= T
    same_in_torch(graph, embedded)
    full = both(Net(plain), IMAGES)
    assert all(np.array_equal(spikes[name], full[0][name]) for name in spikes), "the layers are those of the net that counts all"


def test_answers_are_those_of_the_float_model():
    """Those of its last timestep, not of its mean."""
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 17, (64, 1, 8, 8)) / 16).float()
    model = Net(last_alone)
    _, embedded, _, graph = both(model, images)
    ours, theirs = integer.run(graph, embedded).prediction, float_answers(model, images, "single", T)
    mean = float_answers(Net(plain), images, "single", T)
    assert (ours == theirs).mean() > 0.9 > (mean == theirs).mean()


class Stream(nn.Module):
    """Class scores of the last timestep from a stream of currents, with the image's share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem, self.fire, self.conv = nn.Conv2d(1, 4, 3, padding=1), lif(v_threshold=0.3), nn.Conv2d(4, 4, 3, padding=1)
        self.fire2, self.conv2, self.head = lif(v_threshold=0.3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        x = flat(self.stem, steps(x))
        x = x + flat(self.conv, self.fire(x))
        x = x + flat(self.conv2, self.fire2(x))
        return self.head(x.flatten(3).mean(3))[-1]


def test_streams_of_currents_count_the_last_timestep_too():
    model = Stream().eval()
    _, embedded, _, graph = both(model, IMAGES)
    assert len(graph.only("step_window")) == 2 and "direct" in graph.sources("readout")
    same_in_torch(graph, embedded)
    plan = read(model, IMAGES[:2], None)[0]
    assert plan.head.steps == (3,)


@pytest.mark.lava
def test_lava_counts_the_same(tmp_path):
    """Spikes, scores and events of the integer reference."""
    _, embedded, _, graph = both(Net(last_alone), IMAGES[:3])
    write_graph(graph, tmp_path / "model.net")
    reference = integer.run(graph, embedded, spikes=True)
    graph = read_graph(tmp_path / "model.net")
    with Network(graph, "block", 2) as network:
        ours = network.run(embedded)
    assert np.array_equal(ours.logits, reference.logits) and np.array_equal(ours.counts, reference.counts)


def test_timesteps_that_weigh_differently_are_refused():
    with pytest.raises(DeployError, match="each with the same weight"):
        plan_of(Net(uneven_steps))
