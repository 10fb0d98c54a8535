"""Products of token maps with kernels, in float32 or, while training, with bfloat16 operands."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from spikegate.synapses.synapse import Padding

HALF = torch.bfloat16


class _HalfProduct(torch.autograd.Function):
    """A convolution whose operands are kept and differentiated in bfloat16; the forward is float32 if `exact`.

    Spikes and 8-bit weight mantissas are exact in bfloat16, sums are float32 inside; only what leaves is rounded.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int, padding: Padding, exact: bool) -> torch.Tensor:
        operands = x.to(HALF), weight.to(HALF)
        ctx.save_for_backward(*operands)
        ctx.form = [stride, stride], [padding, padding] if isinstance(padding, int) else list(padding)
        return F.conv2d(x, weight, None, stride, padding) if exact else F.conv2d(*operands, None, stride, padding).float()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need = [*ctx.needs_input_grad[:2], False]
        to_x, to_weight, _ = torch.ops.aten.convolution_backward(
            grad.to(HALF), x, weight, None, *ctx.form, [1, 1], False, [0, 0], 1, need
        )
        return to_x.float() if need[0] else None, to_weight.float() if need[1] else None, None, None, None


def map_conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    grid: tuple[int, int],
    stride: int,
    padding: Padding,
    *,
    half: bool = False,
    exact: bool = True,
) -> torch.Tensor:
    """Convolve token maps [..., positions, channels]; a 1x1 kernel is a matrix product.

    With `half` the gradients, and unless `exact` the result too, come from bfloat16 operands.
    """
    if not half and weight.shape[2:] == (1, 1) and stride == 1:
        return F.linear(x, weight.flatten(1), bias)
    lead, c = x.shape[:-2], x.shape[-1]
    image = x.reshape(-1, *grid, c).permute(0, 3, 1, 2)
    if half:
        y = _HalfProduct.apply(image, weight, stride, padding, exact)
        y = y if bias is None else y + bias.reshape(-1, 1, 1)
    else:
        y = F.conv2d(image, weight, bias, stride, padding)
    return y.permute(0, 2, 3, 1).reshape(*lead, -1, y.shape[1])
