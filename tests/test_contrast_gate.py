"""The torch twin of the contrast gate is its op, timestep by timestep and in one chunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spikegate.ops.contrast_gate import ContrastGate
from spikegate.train.layers.base import Moment
from spikegate.train.layers.contrast_gate import Contrast

STEPS = 5


@pytest.mark.parametrize("grid", [(3, 4), (1, 5), (2, 2), (1, 1), (2, 7)])
@pytest.mark.parametrize("theta, shift", [(1, 2), (2, 0), (3, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_the_twin_is_the_op(grid, theta, shift, seed):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 3, (1, 2, grid[0] * grid[1], 4))
    maps = [np.where(rng.random((STEPS, *base.shape[1:])) < 0.2, rng.integers(0, 3, (STEPS, *base.shape[1:])), base) for _ in range(2)]
    op = ContrastGate(grid, 4, int(rng.integers(4, 40)) << (shift // 2), theta, shift)
    state, credit, wanted = op.state(2), op.initial(2), []
    for t in range(STEPS):
        given = tuple(m[t].astype(np.int32) for m in maps)
        credit = op.step(state, {"x": given, "chain": credit}, np.full(2, t + 1))
        wanted.append(credit)
    twin = Contrast(grid, 4, op.cut, theta, shift)
    twin.name, held, found = "gate", {}, []
    last = twin.initial(2)
    assert np.array_equal(last[0], op.initial(2))
    for t in range(STEPS):
        x = [torch.from_numpy(m[t : t + 1]).float() for m in maps]
        last = twin({"x": x, "chain": last}, Moment(t + 1, 1, STEPS, held, batch=2))
        found.append(last[0])
    assert np.array_equal(torch.stack(found), np.stack(wanted))
    again = twin.to_op()
    assert all(getattr(again, n) == getattr(op, n) for n in ("grid", "channels", "cut", "theta", "shift"))


def test_a_chunk_without_a_chain_is_the_op_without_one():
    rng, op = np.random.default_rng(0), ContrastGate((3, 3), 2, 6)
    maps = rng.integers(0, 2, (STEPS, 2, 9, 2))
    state = op.state(2)
    wanted = [op.step(state, {"x": (m.astype(np.int32),)}, np.full(2, t + 1)) for t, m in enumerate(maps)]
    twin = Contrast((3, 3), 2, 6)
    found = twin({"x": [torch.from_numpy(maps).float()]}, Moment(1, STEPS, STEPS, batch=2))
    assert np.array_equal(found, np.stack(wanted)) and 0 < found.sum() < found.numel()
