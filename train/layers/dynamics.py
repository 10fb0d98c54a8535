"""CUBA neurons over all timesteps of a chunk in one autograd function, with SLAYER's integer arithmetic.

Units are SLAYER's: a weight mantissa of 64 is 1.0 and states are multiples of 1/4096, so every value below 2^12 is
an exact float32 and equals the chip's integer state / 4096. The passes over memory are compiled, `spikegate.train.layers.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from spikegate.train.layers import kernels

STATE = 4096.0  # SLAYER's s_scale: states are integers / 4096
MANT = 64.0  # SLAYER's w_scale: weights, biases, thresholds are integers / 64


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, v, scale, shift, alive, norm, keep, threshold, reset, exact, modes, waits, alpha, steps):
        ctx.set_materialize_grads(False)
        shape = (steps, *x.shape[1:])
        channels = shape[-1]
        x3 = _rows(x)
        gain = offset = None
        if norm is not None:
            mean, var = kernels.moments(x3)
            count = x3.size // channels
            gain = 1 / np.sqrt(var + norm.eps)
            norm.mean.lerp_(torch.from_numpy(mean).float(), norm.momentum)
            norm.var.lerp_(torch.from_numpy(var * (count / max(1, count - 1))).float(), norm.momentum)
            a = scale.detach().numpy() * gain
            offset = mean
            a, b = a.astype(np.float32), (shift.detach().numpy() - a * mean).astype(np.float32)
        else:
            a, b = _per_channel(scale, channels, 1.0), _per_channel(shift, channels, 0.0)
        state = torch.zeros(shape[1:]) if v is None else v.detach().clone(memory_format=torch.contiguous_format)
        spikes = torch.empty(shape)
        lives = EMPTY if alive is None else alive.detach().contiguous().numpy().reshape(steps, -1)
        kinds = np.zeros(steps, np.int8) if modes is None else np.asarray(modes, np.int8)
        waiting = NOWHERE if waits is None else waits.contiguous().numpy().reshape(steps, -1)
        settings = np.float32(keep), np.float32(threshold), np.float32(reset[0]), int(reset[1]), bool(exact), kinds, lives, waiting
        out = spikes.numpy().reshape(steps, -1, channels)
        count = kernels.forward(x3, state.numpy().reshape(-1, channels), a, b, *settings, out)
        ctx.save_for_backward(x, v, scale)
        ctx.constants = a, b, settings, np.float32(alpha), gain, offset, shape
        return spikes, state, torch.tensor(count, dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad_s, grad_v, grad_count):
        x, v, scale = ctx.saved_tensors
        a, b, settings, alpha, gain, offset, shape = ctx.constants
        steps, channels = shape[0], shape[-1]
        x3 = _rows(x)
        rows = x3.shape[1]
        given = np.zeros((steps, rows, channels), np.float32) if grad_s is None else _rows(grad_s)
        from_v = EMPTY if grad_v is None else grad_v.contiguous().numpy().reshape(-1, channels)
        before = np.zeros((rows, channels), np.float32) if v is None else v.detach().contiguous().numpy().reshape(-1, channels)
        per_count = np.float32(0 if grad_count is None else grad_count.item())
        to_x, to_v = torch.empty(x.shape), torch.empty(shape[1:])
        lives = settings[-2]
        need = ctx.needs_input_grad
        to_alive = np.empty_like(lives) if need[4] else EMPTY
        to3 = to_x.numpy().reshape(x3.shape)
        plain, weighted = kernels.backward(
            x3, before, a, b, *settings, alpha, given, per_count, from_v, to3, to_v.numpy().reshape(-1, channels), to_alive
        )
        if gain is not None:  # batch statistics
            n = x3.size // channels
            weighted = (weighted - offset * plain) * gain
            slope = -(a * weighted / n) * gain
            rest = -a * plain / n - slope * offset
            kernels.affine(to3, x3, a, slope.astype(np.float32), rest.astype(np.float32))
        elif scale is not None:
            kernels.affine(to3, x3, a, np.zeros(channels, np.float32), np.zeros(channels, np.float32))
        return (
            to_x,
            to_v if need[1] else None,
            _summed(weighted, scale) if need[2] else None,
            torch.from_numpy(plain).float() if need[3] else None,
            torch.from_numpy(to_alive).reshape(shape[:-1]) if need[4] else None,
            *[None] * 9,
        )


EMPTY = np.empty((0, 0), np.float32)
NOWHERE = np.empty((0, 0), np.bool_)


def _rows(x: torch.Tensor) -> np.ndarray:
    """[T, ..., channels] as a contiguous array [T, rows, channels]."""
    return x.detach().contiguous().numpy().reshape(len(x), -1, x.shape[-1])


def _per_channel(value: torch.Tensor | None, channels: int, default: float) -> np.ndarray:
    return np.full(channels, default, np.float32) if value is None else value.detach().expand(channels).contiguous().numpy()


def _summed(grad: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The gradient of one scale for each channel, or of one for all."""
    each = torch.from_numpy(grad).float()
    return each if like.shape == each.shape else each.sum().reshape(like.shape)


def neurons(
    x: torch.Tensor,
    v: torch.Tensor | None,
    decay: int,
    threshold: float,
    exact: bool,
    *,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    norm: Any = None,
    alive: torch.Tensor | None = None,
    modes: Sequence[int] | None = None,
    waits: torch.Tensor | None = None,
    alpha: float = 2.0,
    step: float = 0.0,
    levels: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Leaky integrate-and-fire with full current decay, on the currents ``scale x + shift``; hard reset, with `step` soft reset.

    .. math:: v_t = \mathrm{trunc}(v_{t-1} (1 - d / 4096)) + x_t, \quad s_t = [v_t > \vartheta], \quad v_t \leftarrow v_t (1 - s_t)

    Surrogate gradient: arctan of width ``threshold`` (spikingjelly's ATan, alpha 2), the reset is detached.

    Parameters
    ----------
    x : float [T, ..., channels], in SLAYER units once scaled; where its first axis is expanded, it is read once
    v : float [..., channels], voltage before the first step; None: zero
    decay : voltage decay in 1/4096; 0, 2048 and 4096 are exact in float32
    exact : round the decayed voltage towards zero as the chip does (the deployed form)
    scale, shift : float [channels] or [1]
    norm : a `FoldedNorm`: normalise `x` with the batch's statistics, keep running ones; `scale` and `shift` are then gamma and beta
    alive : float [T, ...], multiplies the spikes
    modes : what the neurons do in each timestep: `kernels.RUNS`, `kernels.HELD` (they neither fire nor reset), `kernels.IDLE` (nothing)
    step, levels : soft reset: what each of up to `levels` spikes of a timestep takes from the voltage; 0: the voltage is set to 0
    waits : bool [T, ...], where the neurons' spikes count but their voltage stays as it was before the timestep

    Returns
    -------
    spikes float [T, ..., channels], voltage float [..., channels] after the last step, number of spikes (differentiable)
    """
    if exact and decay not in (0, 2048, 4096):
        raise ValueError(f"decay {decay} of the exact form must be 0, 2048 or 4096: others need more than float32 holds")
    steps = len(x)
    if steps > 1 and x.stride(0) == 0 and norm is None:
        x = x[:1]
    return _Lif.apply(x, v, scale, shift, alive, norm, 1.0 - decay / STATE, threshold, (step, levels), exact, modes, waits, alpha, steps)


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
