"""CUBA neurons over all timesteps of a chunk, with SLAYER's integer arithmetic, and what else rounds or compares, with gradients.

Units are SLAYER's: a weight mantissa of 64 is 1.0 and states are multiples of 1/4096, so every value below 2^12 is
an exact float32 and equals the chip's integer state / 4096. A backend of the tensors' device computes, `spikegate.train.backends`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from spikegate.train.backends.choose import backend_for
from spikegate.train.backends.seam import STATE, Lif

MANT = 64.0  # SLAYER's w_scale: weights, biases, thresholds are integers / 64


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
    modes: Sequence[int] | torch.Tensor | None = None,
    waits: torch.Tensor | None = None,
    alpha: float = 2.0,
    step: float = 0.0,
    levels: int = 1,
    keep_v: bool = True,
    counts: bool = True,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, Any, Any]:
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
    modes : what the neurons do in each timestep: `seam.RUNS`, `seam.HELD` (they neither fire nor reset), `seam.IDLE` (nothing)
    step, levels : soft reset: what each of up to `levels` spikes of a timestep takes from the voltage; 0: the voltage is set to 0
    waits : bool [T, ...], where the neurons' spikes count but their voltage stays as it was before the timestep
    keep_v, counts : whether the last voltage and the number of spikes are needed; a backend may leave out what is not (None)
    dtype : type of the spikes; the processor's are float32

    Returns
    -------
    spikes float [T, ..., channels], voltage float [..., channels] after the last step, number of spikes (differentiable)
    """
    if exact and decay not in (0, 2048, 4096):
        raise ValueError(f"decay {decay} of the exact form must be 0, 2048 or 4096: others need more than float32 holds")
    steps = len(x)
    if steps > 1 and x.stride(0) == 0 and norm is None:
        x = x[:1]
    if modes is not None:
        modes = torch.as_tensor(modes, dtype=torch.int32, device=x.device)
    lif = Lif(1.0 - decay / STATE, float(threshold), bool(exact), alpha, float(step), int(levels))
    more = {"scale": scale, "shift": shift, "norm": norm, "alive": alive, "modes": modes, "waits": waits}
    return backend_for(x.device).neurons(x, v, lif, steps, **more, keep_v=keep_v, counts=counts, dtype=dtype)


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


def levels(x: torch.Tensor, unit: float, low: float, high: float, norm: Any = None) -> torch.Tensor:
    """``clip(floor(x / unit), low, high)``, straight-through inside the range; `norm`: a `FoldedNorm` that normalises `x` in training."""
    return backend_for(x.device).levels(x, unit, low, high, norm)


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


def reached(n: torch.Tensor, bound: int, alpha: float = 1.0) -> torch.Tensor:
    """``n >= bound`` for integer counts, as 0 or 1; backward, an arctan surrogate centred between `bound` - 1 and `bound`."""
    return backend_for(n.device).reached(n, bound, alpha)
