"""Plain torch, on any device: what the twins compute, written down as it is meant. The other backends are held against it."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from spikegate.synapses.synapse import out_grid
from spikegate.train.backends import ranks
from spikegate.train.backends.seam import IDLE, RUNS, STATE, Lif


class _Fires(torch.autograd.Function):
    """``u > threshold``; backward, the slope of an arctan of width ``threshold``."""

    @staticmethod
    def forward(ctx, u, lif):
        ctx.save_for_backward(u)
        ctx.lif = lif
        return (u > lif.threshold).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        width, height = 1.5707963 * ctx.lif.alpha / ctx.lif.threshold, 0.5 * ctx.lif.alpha / ctx.lif.threshold
        z = (u - ctx.lif.threshold) * width
        return height / (1 + z * z) * grad, None


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward((x > low) & (x < high + 1))
        return x.floor().clamp(low, high)

    @staticmethod
    def backward(ctx, grad):
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None


class _Reached(torch.autograd.Function):
    @staticmethod
    def forward(ctx, n, bound, alpha):
        ctx.save_for_backward(n)
        ctx.constants = bound, alpha
        return (n >= bound).to(n.dtype)

    @staticmethod
    def backward(ctx, grad):
        (n,) = ctx.saved_tensors
        bound, alpha = ctx.constants
        slope = n.sub(bound - 0.5).mul_(1.5707963 * alpha).square_().add_(1.0).reciprocal_()
        return slope.mul_(0.5 * alpha).mul_(grad), None, None


def statistics(x: torch.Tensor, norm: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each channel of [..., channels] over all ranks, differentiable; the running ones of `norm` move."""
    flat = x.reshape(-1, x.shape[-1])
    rows = ranks.total(torch.full((), float(len(flat)), device=x.device))
    mean = ranks.total(flat.sum(0)) / rows
    var = ranks.total((flat - mean).square().sum(0)) / rows
    with torch.no_grad():
        norm.mean.lerp_(mean, norm.momentum)
        norm.var.lerp_(var * (rows / (rows - 1).clamp(min=1)), norm.momentum)
    return mean, var


class Plain:
    """The definition."""

    name = "torch"

    def neurons(
        self, x: torch.Tensor, v: torch.Tensor | None, lif: Lif, steps: int, *, scale: torch.Tensor | None, shift: torch.Tensor | None,
        norm: Any, alive: torch.Tensor | None, modes: torch.Tensor | None, waits: torch.Tensor | None, keep_v: bool, counts: bool,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """See `seam.Backend`."""
        x = x.float()
        if norm is not None:
            assert scale is not None and shift is not None
            mean, var = statistics(x, norm)
            scale = scale / torch.sqrt(var + norm.eps)
            shift = shift - scale * mean
        current = x if scale is None else x * scale
        current = current if shift is None else current + shift
        before = torch.zeros_like(current[0]) if v is None else v
        spikes = []
        for t in range(steps):
            kept = before * lif.keep
            if lif.exact:
                kept = kept + (torch.trunc(kept * STATE) / STATE - kept).detach()
            u = kept + current[t if len(current) > 1 else 0]
            s = _Fires.apply(u, lif)
            for k in range(1, lif.levels):
                s = s + _Fires.apply(u - k * lif.step, lif)
            if modes is not None:
                s = s * (modes[t] == RUNS)
            after = u - lif.step * s.detach() if lif.step else u * (1 - s.detach())
            if modes is not None:
                after = torch.where(modes[t] == IDLE, before, after)
            spikes.append(s if alive is None else s * alive[t].unsqueeze(-1))
            before = after if waits is None else torch.where(waits[t].unsqueeze(-1), before, after)
        out = torch.stack(spikes).to(dtype)
        return out, before, out.sum(dtype=torch.float32) if counts else None

    def levels(self, x: torch.Tensor, unit: float, low: float, high: float, norm: Any) -> torch.Tensor:
        """See `seam.Backend`."""
        return _Levels.apply((x if norm is None else norm.normalise(x)) / unit, low, high)

    def reached(self, n: torch.Tensor, bound: int, alpha: float) -> torch.Tensor:
        """See `seam.Backend`."""
        return _Reached.apply(n, bound, alpha)

    def pool(self, x: torch.Tensor, grid: tuple[int, int], kernel: int, stride: int, padding: int) -> torch.Tensor:
        """See `seam.Backend`."""
        channels, (rows, columns) = x.shape[-1], out_grid(grid, (kernel, kernel), stride, padding)
        image = x.reshape(-1, *grid, channels).permute(0, 3, 1, 2)
        found = F.avg_pool2d(image, kernel, stride, padding, divisor_override=1)
        return self.reached(found, 1, 1.0).flatten(2).transpose(1, 2).reshape(*x.shape[:-2], rows * columns, channels)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        """See `seam.Backend`."""
        q, k, v = (m.float().unflatten(-1, (heads, -1)).transpose(-3, -2) for m in (q, k, v))
        y = q @ (k.transpose(-1, -2) @ v) if q.shape[-2] > q.shape[-1] else (q @ k.transpose(-1, -2)) @ v
        return y.transpose(-3, -2).flatten(-2)

    def lookup(self, table: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        """See `seam.Backend`."""
        return table[n.long()]
