"""Torch twin of `spikegate.ops.rectangle_gate`: the same score, summed over this gate's timesteps and the gates before."""

from __future__ import annotations

import torch

from spikegate.ops.rectangle_gate import RectangleGate
from spikegate.train.layers.base import Moment
from spikegate.train.layers.token_gate import Gate, clipped


class Rectangle(Gate):
    """Credit [T, batch, tokens]: that of the gate before less what this gate has scored so far."""

    op = RectangleGate

    def forward(self, inputs: dict, now: Moment) -> torch.Tensor:
        scores = self.scores(inputs) * (inputs["chain"].detach() > 0)
        spent = now.state.get(self.name)
        out = []
        for credit, score in zip(inputs["chain"], scores):
            spent = score if spent is None else spent + score
            spent = spent - (spent.detach() - self.theta).clamp(min=0)  # as the op's register: in value, not in gradient
            out.append(clipped(credit - spent))
        now.state[self.name] = spent
        return torch.stack(out)
