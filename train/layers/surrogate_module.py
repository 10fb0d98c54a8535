"""Surrogate module learning (STMixer, NeurIPS 2024): auxiliary nets of real numbers that help in training and are not exported."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class _Encoder(nn.Module):
    """One encoder without spikes: token mixing per head and an MLP (ratio 4), each with a residual; [batch, tokens, channels]."""

    def __init__(self, tokens: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.fc1, self.fc2 = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.mix = nn.Parameter(torch.randn(heads, tokens, tokens) / tokens**0.5)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.gelu(self.fc1(self.norms[0](x))).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        x = x + self.fc2(F.gelu(self.mix @ y).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class SurrogateModule(nn.Module):
    """Class logits from a tap of the stream: mean over timesteps, projection, `encoders` GELU encoders, token mean, linear.

    `taps` name the currents whose sum is the stream at this point. Published with batch norm; layer norm here, so that
    no sample depends on its batch mates.
    """

    def __init__(self, taps: list[str], encoders: int, tokens: int, channels: int, heads: int, classes: int) -> None:
        super().__init__()
        self.taps = list(taps)
        self.project = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU())
        self.encoders = nn.Sequential(*(_Encoder(tokens, channels, heads) for _ in range(encoders)))
        self.head = nn.Linear(channels, classes)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """`stream` [T, batch, tokens, channels] to logits [batch, classes]."""
        return self.head(self.encoders(self.project(stream.mean(0))).mean(1))


def mutual_loss(
    final: torch.Tensor, taps: list[torch.Tensor], labels: torch.Tensor, smoothing: float,
    mix: float = 0.9, weight: float = 0.5, temperature: float = 3.0,
) -> torch.Tensor:
    r"""Surrogate modules' loss, constants of the published code.

    .. math:: 0.9\, \mathrm{soft} + 0.1\, \frac{\mathrm{CE} + 0.5 \sum_i \mathrm{CE}_i}{1 + 0.5\, n}

    soft is the mean over taps of both directed KL divergences at temperature 3, targets detached, divided by 2.
    """
    hard = F.cross_entropy(final, labels, label_smoothing=smoothing)
    hard = hard + weight * sum(F.cross_entropy(t, labels, label_smoothing=smoothing) for t in taps)

    def towards(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.kl_div((a / temperature).log_softmax(-1), (b.detach() / temperature).softmax(-1), reduction="batchmean")

    soft = sum(towards(final, t) + towards(t, final) for t in taps) / (2 * len(taps))
    return mix * soft + (1 - mix) * hard / (1 + weight * len(taps))
