"""CUBA neurons over all timesteps of a chunk in one autograd function, with SLAYER's integer arithmetic.

Units are SLAYER's: a weight mantissa of 64 is 1.0 and states are multiples of 1/4096, so every value below 2^12 is
an exact float32 and equals the chip's integer state / 4096.
"""

from __future__ import annotations

import torch

STATE = 4096.0  # SLAYER's s_scale: states are integers / 4096
MANT = 64.0  # SLAYER's w_scale: weights, biases, thresholds are integers / 64


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, v, keep, threshold, exact, alpha, hold):
        steps = x.shape[0]
        potential = torch.empty(x.shape)
        spikes = torch.empty(x.shape)
        for t in range(steps):
            u = potential[t]
            torch.mul(v, keep, out=u)
            if exact:
                u.mul_(STATE).trunc_().div_(STATE)
            u.add_(x[t])
            s = torch.gt(u, threshold, out=spikes[t])
            if hold is not None and hold[t]:
                s.zero_()
            v = torch.where(s > 0, 0.0, u)
        ctx.save_for_backward(potential)
        ctx.constants = keep, threshold, alpha, hold
        return spikes, v

    @staticmethod
    def backward(ctx, grad_s, grad_v):
        (potential,) = ctx.saved_tensors
        keep, threshold, alpha, hold = ctx.constants
        slope = potential.sub(threshold).mul_(1.5707963 * alpha / threshold).square_().add_(1.0).reciprocal_()
        slope.mul_(0.5 * alpha / threshold).mul_(grad_s)
        for t in range(len(potential) - 1, -1, -1):
            g = slope[t]
            if hold is not None and hold[t]:
                g.copy_(grad_v)
            else:
                g.addcmul_(grad_v, (potential[t] <= threshold).to(g.dtype))
            grad_v = g * keep
        return slope, grad_v, None, None, None, None, None


def lif(
    x: torch.Tensor, v: torch.Tensor, decay: int, threshold: float, exact: bool, hold: list[bool] | None = None, alpha: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Leaky integrate-and-fire with full current decay and hard reset.

    .. math:: v_t = \mathrm{trunc}(v_{t-1} (1 - d / 4096)) + x_t, \quad s_t = [v_t > \vartheta], \quad v_t \leftarrow v_t (1 - s_t)

    Surrogate gradient: arctan of width ``threshold`` (spikingjelly's ATan, alpha 2), the reset is detached.

    Parameters
    ----------
    x : float [T, ...], input current in SLAYER units
    v : float [...], voltage before the first step
    decay : voltage decay in 1/4096; 0, 2048 and 4096 are exact in float32
    hold : timesteps in which the neurons integrate but neither fire nor reset
    exact : round the decayed voltage towards zero as the chip does (the deployed form)

    Returns
    -------
    spikes float [T, ...], voltage float [...] after the last step
    """
    if exact and decay not in (0, 2048, 4096):
        raise ValueError(f"decay {decay} of the exact form must be 0, 2048 or 4096: others need more than float32 holds")
    return _Lif.apply(x, v, 1.0 - decay / STATE, threshold, exact, alpha, hold)


class _AliveBit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, credit, unit, slope):
        ctx.save_for_backward(credit)
        ctx.constants = unit, slope
        return (credit > 0).to(credit.dtype)

    @staticmethod
    def backward(ctx, grad):
        (credit,) = ctx.saved_tensors
        unit, slope = ctx.constants
        p = torch.sigmoid(credit / (unit * slope))
        return grad * p * (1 - p) / (unit * slope), None, None


def alive_bit(credit: torch.Tensor, unit: float, slope: float) -> torch.Tensor:
    """1 where a token has credit left, straight-through: backward, the slope of sigmoid(credit / (unit * slope))."""
    return _AliveBit.apply(credit, unit, slope)


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, low, high):
        ctx.save_for_backward((x > low) & (x < high + 1))
        return x.floor().clamp(low, high)

    @staticmethod
    def backward(ctx, grad):
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None


def levels(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """``clip(floor(x), low, high)``, straight-through inside the range."""
    return _Levels.apply(x, low, high)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad


def straight_round(x: torch.Tensor) -> torch.Tensor:
    """Round to integers, straight-through."""
    return _Round.apply(x)


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


def reached(n: torch.Tensor, bound: int, alpha: float = 1.0) -> torch.Tensor:
    """``n >= bound`` for integer counts, as 0 or 1; backward, an arctan surrogate centred between `bound` - 1 and `bound`."""
    return _Reached.apply(n, bound, alpha)
