"""Voltages of imported neurons that reach their threshold exactly: integers fire as floats do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (extra spikingjelly)")
from spikingjelly.activation_based import neuron

from tests.foreign_import import both


class Tiny(nn.Module):
    """Exact spikes from the image (threshold 0.5 without leak), then neurons on whole-numbered weights."""

    def __init__(self, weight: torch.Tensor, node: nn.Module, T: int) -> None:
        super().__init__()
        self.T = T
        self.first, self.fire = nn.Conv2d(1, 3, 1), neuron.IFNode(v_threshold=0.5, step_mode="m")
        self.conv, self.node, self.head = nn.Conv2d(3, len(weight), 3, padding=1, bias=False), node, nn.Linear(16 * len(weight), 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, 0.26, 0.13]).reshape(3, 1, 1, 1))
            self.first.bias.zero_()
            self.conv.weight.copy_(weight)

    def forward(self, x):
        x = self.fire(self.first(x).unsqueeze(0).repeat(self.T, 1, 1, 1, 1))
        x = self.conv(x.flatten(0, 1)).unflatten(0, (self.T, -1))
        return self.head(self.node(x).flatten(2))


TIES = {
    "seed": st.integers(0, 100_000), "T": st.integers(1, 6), "leaks": st.booleans(), "decay_input": st.booleans(),
    "reset": st.sampled_from([0.0, -0.5, 0.25, None]), "above": st.sampled_from([0.5, 1.0, 1.5, 3.0]), "image": st.booleans(),
}  # fmt: skip


def cells_alike(seed, T, tau, decay_input, reset, above, image=False, most=2) -> list[float]:
    """Share of equal cells of the image's neurons, and of those on whole numbers up to `most`; `image`: both are of the kind drawn."""
    rng = np.random.default_rng(seed)
    weight = torch.from_numpy(rng.integers(-most, most + 1, (4, 3, 3, 3))).float()
    make = {"v_threshold": (reset or 0.0) + above, "v_reset": reset, "step_mode": "m"}

    def node():
        return neuron.LIFNode(tau=tau, decay_input=decay_input, **make) if tau else neuron.IFNode(**make)

    images = torch.from_numpy(rng.integers(0, 2, (5, 1, 4, 4))).float()
    model = Tiny(weight, node(), T)
    if image:
        model.fire = node()
        model.first.weight.data.copy_(torch.tensor([1.0, 0.5, 0.25]).reshape(3, 1, 1, 1))
        model.first.bias.data.copy_(torch.tensor([0.0, 0.5, -0.25]))
    return [row.agreement for row in both(model.eval(), images, levels=1)[2]]


@settings(max_examples=25, deadline=None)
@given(**TIES)
@example(seed=0, T=2, leaks=True, decay_input=False, reset=0.0, above=0.5, image=False)  # its smallest exact scale leaves no threshold
@example(seed=0, T=2, leaks=False, decay_input=False, reset=None, above=1.5, image=False)  # the threshold's half is the smallest number
@example(seed=0, T=6, leaks=True, decay_input=False, reset=None, above=1.5, image=True)
def test_ties_with_the_threshold_fall_as_in_float(seed, T, leaks, decay_input, reset, above, image):
    assert cells_alike(seed, T, 2.0 if leaks else None, decay_input, reset, above, image) == [1.0, 1.0]


@pytest.mark.parametrize("reset", [0.0, None])
@pytest.mark.parametrize("tau", [4.0, 4 / 3])
def test_decays_of_few_bits_keep_ties_as_long_as_8_bits_hold_them(tau, reset):
    assert all(cells_alike(seed, 3, tau, False, reset, 1.0, True) == [1.0, 1.0] for seed in range(6))


@pytest.mark.parametrize("tau, T", [(2.0, 12), (4.0, 8), (3.7, 6)])
def test_ties_beyond_8_bits_are_rarely_missed(tau, T):
    """Scaled as other weights are, up to one cell in fifty differed."""
    shares = [cells_alike(seed, T, tau, False, reset, 1.0)[1] for seed in range(4) for reset in (0.0, None)]
    assert np.mean(shares) > 0.998
