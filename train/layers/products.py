"""Products of token maps with kernels, in float32 or, while training, with operands of 16 bits."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from spikegate.synapses.synapse import Padding

PATCHES = 1 << 27  # elements of the patches that one exact product holds at a time


def _pair(padding: Padding) -> list[int]:
    return [padding, padding] if isinstance(padding, int) else list(padding)


class _HalfProduct(torch.autograd.Function):
    """A convolution whose operands are kept and differentiated in 16 bits; the forward is float32 if `exact`.

    Spikes and 8-bit weight mantissas are exact in them, sums are float32 inside; only what leaves is rounded.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: Padding, exact: bool, half: torch.dtype
    ) -> torch.Tensor:
        operands = x.to(half), weight.to(half)
        ctx.save_for_backward(*operands)
        ctx.form = [stride, stride], _pair(padding)
        ctx.kinds = x.dtype, weight.dtype
        return F.conv2d(x, weight, None, stride, padding) if exact else F.conv2d(*operands, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need = [*ctx.needs_input_grad[:2], False]
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            grad.to(x.dtype), x, weight, None, *ctx.form, [1, 1], False, [0, 0], 1, need
        )
        return to_x.to(ctx.kinds[0]) if need[0] else None, to_weight.to(ctx.kinds[1]) if need[1] else None, None, None, None, None


class ExactProduct(torch.autograd.Function):
    """A convolution of images [N, rows, columns, C] as one matrix product with float32 sums, whatever the device's libraries do.

    Convolutions of a GPU's libraries transform their operands for speed, which rounds; a product of patches does not: while all partial
    sums are integers below 2^24 of one grid, it is exact. Operands have the type of `x`.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: Padding) -> torch.Tensor:
        w = weight.to(x.dtype)
        ctx.save_for_backward(x, w)
        ctx.form, ctx.kind = (stride, _pair(padding)), weight.dtype
        out, _, kh, kw = w.shape
        rows, columns = _pair(padding)
        table = w.permute(2, 3, 1, 0).reshape(-1, out)
        flat = kh == kw == stride == 1 and not rows and not columns
        found = []
        each = len(x) if flat else max(1, PATCHES // max(1, x[0].numel() * kh * kw))
        for part in x.split(each):
            if not flat:
                windows = F.pad(part, (0, 0, columns, columns, rows, rows)).unfold(1, kh, stride).unfold(2, kw, stride)
                part = windows.permute(0, 1, 2, 4, 5, 3)
            lead = part.shape[:3]
            found.append(_summed(part.reshape(-1, len(table)), table).view(*lead, out))
        return found[0] if len(found) == 1 else torch.cat(found)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, w = ctx.saved_tensors
        stride, padding = ctx.form
        need = ctx.needs_input_grad
        if w.shape[2:] == (1, 1) and stride == 1:
            g = grad.reshape(-1, grad.shape[-1]).to(x.dtype)
            to_x = (g @ w.flatten(1)).view(x.shape) if need[0] else None
            to_w = _summed(g.t(), x.reshape(len(g), -1)).view(w.shape).to(ctx.kind) if need[1] else None
            return to_x, to_w, None, None
        image, g = x.permute(0, 3, 1, 2), grad.permute(0, 3, 1, 2).to(x.dtype)
        to_x, to_w, _ = torch.ops.aten.convolution_backward(
            g, image, w, None, [stride, stride], padding, [1, 1], False, [0, 0], 1, [need[0], need[1], False]
        )
        return to_x.permute(0, 2, 3, 1) if need[0] else None, to_w.to(ctx.kind) if need[1] else None, None, None


def _summed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b`` with float32 sums and result."""
    if a.dtype == torch.float32:
        return a @ b
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def map_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    grid: tuple[int, int],
    stride: int,
    padding: Padding,
    *,
    half: torch.dtype | None = None,
    exact: bool = True,
) -> torch.Tensor:
    """Convolve token maps [..., positions, channels]; a 1x1 kernel is a matrix product.

    With `half` the gradients, and unless `exact` the result too, come from operands of that type. The result is float32, on a GPU
    that of the operands unless `exact`.
    """
    lead, c = x.shape[:-2], x.shape[-1]
    if exact and x.device.type != "cpu":
        y = ExactProduct.apply(x.reshape(-1, *grid, c), weight, stride, padding).flatten(1, 2)
        return (y if bias is None else y + bias).reshape(*lead, -1, y.shape[-1])
    if half is None and weight.shape[2:] == (1, 1) and stride == 1:
        return F.linear(x, weight.flatten(1), bias)
    image = x.reshape(-1, *grid, c).permute(0, 3, 1, 2)
    if half is None:
        y = F.conv2d(image, weight, bias, stride, padding)
    else:
        y = _HalfProduct.apply(image, weight, stride, padding, exact, half)
        y = y.float() if y.device.type == "cpu" else y
        y = y if bias is None else y + bias.reshape(-1, 1, 1)
    return y.permute(0, 2, 3, 1).reshape(*lead, -1, y.shape[1])
