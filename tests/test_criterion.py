"""What adaptivity adds to the loss."""

from __future__ import annotations

import pytest
import torch

from spikegate.train.criterion import ponder_loss
from spikegate.train.settings.config import TrainConfig


@pytest.mark.parametrize(
    ("alive", "below", "loss", "slope"),
    [(0.8, 0.0, 0.6, 3.0), (0.8, 2.0, 0.6, 3.0), (0.4, 0.0, 0.0, 0.0), (0.4, 2.0, 0.4, -2.0)],
)
def test_the_share_of_living_cells_is_pressed_down_and_pulled_up(alive, below, loss, slope):
    share = torch.tensor(alive, requires_grad=True)
    value = ponder_loss(share, TrainConfig(ponder=3.0, alive_target=0.6, ponder_below=below))
    value.backward()
    assert value.item() == pytest.approx(loss) and share.grad.item() == pytest.approx(slope)
