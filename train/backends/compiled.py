"""The processor's backend: neurons over all timesteps of a chunk in one autograd function over the compiled passes of `kernels`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from spikegate.train.backends import kernels, ranks
from spikegate.train.backends.definition import Plain
from spikegate.train.backends.seam import Lif


class _Neurons(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, v, scale, shift, alive, norm, lif, modes, waits, steps, keep_v):
        ctx.set_materialize_grads(False)
        shape = (steps, *x.shape[1:])
        channels = shape[-1]
        x3 = _rows(x)
        gain = offset = None
        count = 0.0
        if norm is not None:
            mean, var, count = _moments(x3)
            gain = 1 / np.sqrt(var + norm.eps)
            norm.mean.lerp_(torch.from_numpy(mean).float(), norm.momentum)
            norm.var.lerp_(torch.from_numpy(var * (count / max(1, count - 1))).float(), norm.momentum)
            a = scale.detach().numpy() * gain
            offset = mean
            a, b = a.astype(np.float32), (shift.detach().numpy() - a * mean).astype(np.float32)
        else:
            a, b = _per_channel(scale, channels, 1.0), _per_channel(shift, channels, 0.0)
        state = torch.empty(shape[1:]) if keep_v else None
        to = EMPTY if state is None else state.numpy().reshape(-1, channels)
        spikes = torch.empty(shape)
        lives = EMPTY if alive is None else alive.detach().contiguous().numpy().reshape(steps, -1)
        kinds = np.zeros(steps, np.int8) if modes is None else modes.numpy().astype(np.int8)
        waiting = NOWHERE if waits is None else waits.contiguous().numpy().reshape(steps, -1)
        form = np.float32(lif.keep), np.float32(lif.threshold), np.float32(lif.step), lif.levels, lif.exact
        settings = *form, kinds, lives, waiting
        out = spikes.numpy().reshape(steps, -1, channels)
        fired = sum(kernels.share(kernels.forward, torch.get_num_threads(), x3, _voltages(v, channels), a, b, *settings, out, to))
        ctx.save_for_backward(x, v, scale)
        ctx.constants = a, b, settings, np.float32(lif.alpha), gain, offset, shape, count
        return spikes, state, torch.tensor(float(fired), dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad_s, grad_v, grad_count):
        x, v, scale = ctx.saved_tensors
        a, b, settings, alpha, gain, offset, shape, count = ctx.constants
        steps, channels = shape[0], shape[-1]
        x3 = _rows(x)
        rows = x3.shape[1]
        given = np.zeros((steps, rows, channels), np.float32) if grad_s is None else _rows(grad_s)
        from_v = EMPTY if grad_v is None else grad_v.contiguous().numpy().reshape(-1, channels)
        per_count = np.float32(0 if grad_count is None else grad_count.item())
        lives = settings[-2]
        need = ctx.needs_input_grad
        to_x, to_v = torch.empty(x.shape), torch.empty(shape[1:]) if need[1] else None
        to_alive = np.empty_like(lives) if need[4] else EMPTY
        to3 = to_x.numpy().reshape(x3.shape)
        to_v3 = EMPTY if to_v is None else to_v.numpy().reshape(-1, channels)
        threads = torch.get_num_threads()
        sums = kernels.share(
            kernels.backward, threads, x3, _voltages(v, channels), a, b, *settings, alpha, given, per_count, from_v, to3, to_v3, to_alive
        )
        plain, weighted = (np.sum(each, axis=0) for each in zip(*sums))
        if gain is not None:  # batch statistics
            weighted = (weighted - offset * plain) * gain
            all_plain, all_weighted = ranks.added(plain, weighted)
            slope = -(a * all_weighted / count) * gain
            rest = -a * all_plain / count - slope * offset
            kernels.share(kernels.affine, threads, to3, x3, a, slope.astype(np.float32), rest.astype(np.float32))
        elif scale is not None:
            kernels.share(kernels.affine, threads, to3, x3, a, *np.zeros((2, channels), np.float32))
        return (
            to_x,
            to_v,
            _summed(weighted, scale) if need[2] else None,
            torch.from_numpy(plain).float() if need[3] else None,
            torch.from_numpy(to_alive).reshape(shape[:-1]) if need[4] else None,
            *[None] * 6,
        )


EMPTY = np.empty((0, 0), np.float32)
NOWHERE = np.empty((0, 0), np.bool_)


def _moments(x3: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean and biased variance of each channel, and the number of rows, over all ranks."""
    rows = x3.size // x3.shape[-1]
    one, two = (np.sum(each, axis=0) / rows for each in zip(*kernels.share(kernels.moments, torch.get_num_threads(), x3)))
    mean, var = x3[0, 0] + one, np.maximum(0.0, two - one * one)
    if ranks.count() == 1:
        return mean, var, rows
    one, two, n = ranks.pooled(torch.from_numpy(mean), torch.from_numpy(var), rows)
    return one.numpy(), two.numpy(), float(n[0])


def _rows(x: torch.Tensor) -> np.ndarray:
    """[T, ..., channels] as a contiguous array [T, rows, channels]."""
    return x.detach().contiguous().numpy().reshape(len(x), -1, x.shape[-1])


def _voltages(v: torch.Tensor | None, channels: int) -> np.ndarray:
    """[rows, channels]; empty: zero."""
    return EMPTY if v is None else v.detach().contiguous().numpy().reshape(-1, channels)


def _per_channel(value: torch.Tensor | None, channels: int, default: float) -> np.ndarray:
    return np.full(channels, default, np.float32) if value is None else value.detach().expand(channels).contiguous().numpy()


def _summed(grad: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The gradient of one scale for each channel, or of one for all."""
    each = torch.from_numpy(grad).float()
    return each if like.shape == each.shape else each.sum().reshape(like.shape)


class Compiled(Plain):
    """Neurons compiled, the rest as defined."""

    name = "compiled"

    def neurons(
        self, x: torch.Tensor, v: torch.Tensor | None, lif: Lif, steps: int, *, scale: torch.Tensor | None, shift: torch.Tensor | None,
        norm: Any, alive: torch.Tensor | None, modes: torch.Tensor | None, waits: torch.Tensor | None, keep_v: bool, counts: bool,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """See `seam.Backend`; signals are float32."""
        return _Neurons.apply(x, v, scale, shift, alive, norm, lif, modes, waits, steps, keep_v)
