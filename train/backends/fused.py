"""The GPU's backend: autograd functions over the Triton passes. Under Triton's interpreter it runs on the processor, for tests."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # as ever; deployed sums are exact either way, and Triton would warn

import torch
import triton

from spikegate.synapses.synapse import out_grid
from spikegate.train.backends import ranks, triton_maps, triton_neurons, triton_sums
from spikegate.train.backends.definition import Plain
from spikegate.train.backends.seam import Lif

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
PROGRAMS = 64 if INTERPRETED else 1056  # along the rows, of passes that sum
BLOCK = 4096 if INTERPRETED else 1024  # elements of a program that works element by element
ATTENTION = 1 << 14  # elements of a head's map that one program holds


def _tile(channels: int, rows: int, elements: int) -> tuple[int, int, int]:
    """(rows of a tile, channels of a tile, programs along the rows)."""
    bc = min(channels & -channels, 64)  # a power of two that divides
    br = max(1, elements // bc)
    return br, bc, min(triton.cdiv(rows, br), max(1, PROGRAMS // (channels // bc)))


def _batch_form(x3: torch.Tensor, norm: Any, gamma: torch.Tensor, beta: torch.Tensor) -> tuple[Any, ...]:
    """Of [T, rows, C]: folded scale and shift, mean and gain, and how many rows they are of. The running statistics move."""
    channels = x3.shape[-1]
    rows = x3.numel() // channels
    br, bc, p = _tile(channels, rows, 4096)
    part = torch.empty(2, p, channels, device=x3.device)
    triton_sums.moments[(p, channels // bc)](x3, part, rows, p, channels, BR=br, BC=bc)
    if ranks.count() > 1:
        one, two = part.double().sum(1) / rows
        mean, var, count = ranks.pooled(x3[0, 0].double() + one, (two - one * one).clamp(min=0), rows)
        gain = 1 / torch.sqrt(var + norm.eps)
        norm.mean.lerp_(mean.float(), norm.momentum)
        norm.var.lerp_((var * (count / (count - 1).clamp(min=1))).float(), norm.momentum)
        a = gamma * gain
        return a.float(), (beta - a * mean).float(), mean.float(), gain.float(), count[0]
    a, b, mean, gain = torch.empty(4, channels, device=x3.device).unbind(0)
    triton_sums.moments_end[(channels // bc,)](
        x3, part, gamma, beta, norm.mean, norm.var, a, b, mean, gain, float(rows), p, norm.momentum, norm.eps, channels, BP=64, BC=bc
    )
    return a, b, mean, gain, float(rows)


class _Neurons(torch.autograd.Function):
    """Neurons, or with `ladder` (unit, low, high) a row of thresholds in their place."""

    @staticmethod
    def forward(ctx, x, v, scale, shift, alive, norm, lif, modes, waits, steps, keep_v, counts, ladder, dtype):
        ctx.set_materialize_grads(False)
        shape = (steps, *x.shape[1:])
        channels, device = shape[-1], x.device
        x3 = x.detach().contiguous().view(len(x), -1, channels)
        rows = x3.shape[1]
        mean = gain = None
        of: Any = float(len(x3) * rows)
        if norm is not None:
            a, b, mean, gain, of = _batch_form(x3, norm, scale.detach(), shift.detach())
            has_a, has_b = 1, True
        else:
            has_a, has_b = 0 if scale is None else (1 if scale.numel() == channels else 2), shift is not None
            a = None if scale is None else scale.detach().contiguous()
            b = None if shift is None else shift.detach().expand(channels).contiguous()
        spikes = torch.empty(shape, dtype=dtype, device=device)
        state = torch.empty(shape[1:], device=device) if keep_v else None
        alive_ = None if alive is None else alive.detach().contiguous()
        waits_ = None if waits is None else waits.contiguous().view(torch.uint8)
        v_ = None if v is None else v.detach().contiguous()
        br, bc, _ = _tile(channels, rows, 2048)
        grid = triton.cdiv(rows, br), channels // bc
        count = torch.empty(grid, device=device) if counts else None
        theta, low, high = (lif.threshold, 0.0, 0.0) if ladder is None else (1 / ladder[0], *map(float, ladder[1:]))
        triton_neurons.forward[grid](
            x3, v_, a, b, alive_, waits_, modes, spikes, state, count, rows, channels, lif.keep, theta, lif.step, low, high,
            STEPS=steps, SOFT=lif.step > 0, MOST=lif.levels,
            SEVERAL=len(x) > 1, HAS_V=v is not None, KEEP_V=keep_v, EXACT=lif.exact, HAS_A=has_a, HAS_B=has_b,
            HAS_ALIVE=alive is not None, HAS_WAITS=waits is not None, HAS_MODES=modes is not None, COUNTS=counts,
            LEVELS=ladder is not None, BR=br, BC=bc,
        )  # fmt: skip
        ctx.save_for_backward(x3, v_, a, b, alive_, waits_, modes, mean, gain)
        ctx.constants = lif, theta, low, high, ladder is not None, has_a, has_b, norm is not None, shape, x.shape, of
        ctx.like = None if scale is None else scale.shape, None if shift is None else shift.shape
        return spikes, state, count.sum() if count is not None else None

    @staticmethod
    def backward(ctx, grad_s, grad_v, grad_count):
        x3, v, a, b, alive, waits, modes, mean, gain = ctx.saved_tensors
        lif, theta, low, high, levels, has_a, has_b, norm, shape, x_shape, of = ctx.constants
        steps, channels = shape[0], shape[-1]
        rows, device, need = x3.shape[1], x3.device, ctx.needs_input_grad
        grad_s = torch.zeros(shape, dtype=x3.dtype, device=device) if grad_s is None else grad_s.contiguous()
        grad_v = None if grad_v is None else grad_v.contiguous()
        br, bc, p = _tile(channels, rows, 2048 if steps == 1 else 1024)
        blocks = channels // bc
        to_x = torch.empty(x3.shape, dtype=x3.dtype, device=device) if need[0] else None
        to_v = torch.empty(shape[1:], device=device) if need[1] else None
        to_alive = torch.empty(steps, rows, blocks, device=device) if need[4] else None
        sums = need[2] or need[3] or norm
        part = torch.empty(2, p, channels, device=device) if sums else None
        slope, rest, d_scale, d_shift = torch.empty(4, channels, device=device).unbind(0) if sums else (None,) * 4

        def sweep(add: bool, write: bool) -> None:
            triton_neurons.backward[(p, blocks)](
                x3, v, a, b, alive, waits, modes, grad_s, grad_count, grad_v, mean, slope, rest, to_x, to_v, to_alive, part,
                rows, p, channels, lif.keep, theta, lif.step, lif.alpha, low, high,
                STEPS=steps, SOFT=lif.step > 0, MOST=lif.levels,
                SEVERAL=len(x3) > 1, HAS_V=v is not None, EXACT=lif.exact, HAS_A=has_a, HAS_B=has_b,
                HAS_ALIVE=alive is not None, HAS_WAITS=waits is not None, HAS_MODES=modes is not None,
                HAS_GCOUNT=grad_count is not None, HAS_GV=grad_v is not None, NORM=norm, SUMS=add, WRITE=write and to_x is not None,
                TO_V=write and to_v is not None, TO_ALIVE=write and to_alive is not None, LEVELS=levels, BR=br, BC=bc,
            )  # fmt: skip

        if norm:
            sweep(True, False)
            _end(part, a, mean, gain, slope, rest, d_scale, d_shift, of, p, channels, bc)
            if need[0] or need[1] or need[4]:
                sweep(False, True)
        else:
            sweep(bool(sums), True)
            if sums:
                sums_ = part, a, mean, gain, slope, rest, d_scale, d_shift
                triton_sums.sums_end[(blocks,)](*sums_, of, p, channels, NORM=False, BP=64, BC=bc)
        return (
            to_x.view(x_shape) if need[0] else None,
            to_v,
            _like(d_scale, ctx.like[0]) if need[2] else None,
            _like(d_shift, ctx.like[1]) if need[3] else None,
            to_alive.sum(-1).view(shape[:-1]) if need[4] else None,
            *[None] * 9,
        )


def _end(part: Any, a: Any, mean: Any, gain: Any, slope: Any, rest: Any, d_scale: Any, d_shift: Any, of: Any, p: int, channels: int,
         bc: int) -> None:
    """Gradients of gamma and beta from this rank's sums; `slope` and `rest`, what the statistics add to that of x, from all ranks'."""
    if ranks.count() == 1:
        sums = part, a, mean, gain, slope, rest, d_scale, d_shift
        triton_sums.sums_end[(channels // bc,)](*sums, of, p, channels, NORM=True, BP=64, BC=bc)
        return
    plain, weighted = part.double().sum(1)
    d_shift.copy_(plain)
    d_scale.copy_(weighted * gain)
    plain, weighted = ranks.total(torch.stack([plain, weighted * gain]))
    slope.copy_(-(a * weighted / of) * gain)
    rest.copy_(-a * plain / of - slope * mean)


def _like(grad: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return grad if grad.shape == shape else grad.sum().reshape(shape)


class _Reached(torch.autograd.Function):
    @staticmethod
    def forward(ctx, n, bound, alpha):
        n = n.contiguous()
        out = torch.empty_like(n)
        triton_maps.reached_forward[(triton.cdiv(n.numel(), BLOCK),)](n, out, n.numel(), float(bound), BLOCK=BLOCK)
        ctx.save_for_backward(n)
        ctx.constants = float(bound), float(alpha)
        return out

    @staticmethod
    def backward(ctx, grad):
        (n,) = ctx.saved_tensors
        out = torch.empty_like(n)
        triton_maps.reached_backward[(triton.cdiv(n.numel(), BLOCK),)](n, grad.contiguous(), out, n.numel(), *ctx.constants, BLOCK=BLOCK)
        return out, None, None


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, grid, kernel, stride, padding):
        (h, w), (ho, wo), channels = grid, out_grid(grid, (kernel, kernel), stride, padding), x.shape[-1]
        x = x.contiguous()
        out = torch.empty(*x.shape[:-2], ho * wo, channels, dtype=x.dtype, device=x.device)
        count = torch.empty(out.shape, dtype=torch.int16, device=x.device)
        n = out.numel()
        form = {"C": channels, "K": kernel, "BLOCK": BLOCK}
        triton_maps.pool_forward[(triton.cdiv(n, BLOCK),)](x, out, count, n, h, w, ho, wo, stride, padding, **form)
        ctx.save_for_backward(count)
        ctx.constants = x.shape, grid, (ho, wo), kernel, stride, padding
        return out

    @staticmethod
    def backward(ctx, grad):
        (count,) = ctx.saved_tensors
        shape, (h, w), (ho, wo), kernel, stride, padding = ctx.constants
        out = torch.empty(shape, dtype=grad.dtype, device=grad.device)
        triton_maps.pool_backward[(triton.cdiv(out.numel(), BLOCK),)](
            grad.contiguous(), count, out, out.numel(), h, w, ho, wo, stride, padding, 1.0, C=shape[-1], K=kernel,
            REACH=-(-kernel // stride), BLOCK=BLOCK,
        )  # fmt: skip
        return out, None, None, None, None


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, heads):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        tokens, channels = q.shape[-2:]
        width = channels // heads
        form = {"N": tokens, "C": channels, "WIDTH": width, "BN": max(16, triton.next_power_of_2(tokens)),
                "BW": max(16, triton.next_power_of_2(width))}  # fmt: skip
        y = torch.empty(q.shape, device=q.device)
        grid = (q.numel() // (tokens * channels), heads)
        triton_maps.attention_forward[grid](q, k, v, y, **form, FORM="tf32" if tokens <= 2048 else "ieee")
        ctx.save_for_backward(q, k, v)
        ctx.form = grid, form
        return y

    @staticmethod
    def backward(ctx, grad):
        q, k, v = ctx.saved_tensors
        grid, form = ctx.form
        out = [torch.empty_like(q) for _ in range(3)]
        triton_maps.attention_backward[grid](
            q, k, v, grad.float().contiguous(), *out, **form, FORM="ieee" if q.dtype == torch.float32 else "tf32"
        )
        return *out, None


class Fused(Plain):
    """Each twin's passes over memory as one; what a pass would not save is as defined."""

    name = "triton"

    def neurons(
        self, x: torch.Tensor, v: torch.Tensor | None, lif: Lif, steps: int, *, scale: torch.Tensor | None, shift: torch.Tensor | None,
        norm: Any, alive: torch.Tensor | None, modes: torch.Tensor | None, waits: torch.Tensor | None, keep_v: bool, counts: bool,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """See `seam.Backend`."""
        return _Neurons.apply(x, v, scale, shift, alive, norm, lif, modes, waits, steps, keep_v, counts, None, dtype)

    def levels(self, x: torch.Tensor, unit: float, low: float, high: float, norm: Any) -> torch.Tensor:
        """See `seam.Backend`. `unit` is a power of two, so that its reciprocal is exact."""
        if norm is not None and not norm.training:
            x, norm = norm.normalise(x), None
        form = (None, None) if norm is None else (norm.gamma, norm.beta)
        lif = Lif(0.0, 1.0, False)
        return _Neurons.apply(x[None], None, *form, None, norm, lif, None, None, 1, False, False, (unit, low, high), torch.float32)[0][0]

    def reached(self, n: torch.Tensor, bound: int, alpha: float) -> torch.Tensor:
        """See `seam.Backend`."""
        return _Reached.apply(n, bound, alpha)

    def pool(self, x: torch.Tensor, grid: tuple[int, int], kernel: int, stride: int, padding: int) -> torch.Tensor:
        """See `seam.Backend`."""
        return _Pool.apply(x, grid, kernel, stride, padding)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
        """See `seam.Backend`."""
        if q.shape[-2] * q.shape[-1] // heads > ATTENTION:
            return super().attend(q, k, v, heads)
        return _Attend.apply(q, k, v, heads)

    def lookup(self, table: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        """See `seam.Backend`; a product, since the gradient of an index would sort."""
        return (n.unsqueeze(-1) == torch.arange(len(table), dtype=n.dtype, device=n.device)).to(table.dtype) @ table
