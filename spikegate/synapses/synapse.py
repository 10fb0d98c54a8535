"""Static synapses on integer weights: the vectorised kernels, true fan-outs and their event-by-event form.

A matrix product in float32 is exact for integers while every partial sum stays below 2^24; `exact_bound` is what the
design rules compare with that. Dead rows are never gathered, so a halted token costs no arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikegate.graph.alu import Alu
from spikegate.graph.signals import Problems

FLOAT_EXACT = 1 << 24
WEIGHT_MIN, WEIGHT_MAX = -256, 254  # 8-bit mixed-sign weights of Loihi: even mantissas
Padding = int | tuple[int, int]


def exact_bound(rows: np.ndarray, payload_high: int, bias: np.ndarray | int = 0) -> int:
    """Largest |sum| that any input within the payload can cause; `rows` is [outputs, fan-in]."""
    return int((np.abs(rows.astype(np.int64)).sum(1) * payload_high + np.abs(bias)).max())


def one_sided_bound(rows: np.ndarray, payload_high: int, bias: np.ndarray | int = 0) -> int:
    """The same for inputs that are never negative: what raises a sum and what lowers it do not add up; no partial sum passes it."""
    wide = rows.astype(np.int64)
    above, below = (np.maximum(sign * wide, 0).sum(1) * payload_high + np.maximum(sign * np.asarray(bias), 0) for sign in (1, -1))
    return int(max(above.max(), below.max()))


def weight_problems(weight: np.ndarray, bias: np.ndarray, outputs: int) -> Problems:
    """Design rules of Loihi's 8-bit synapses and 13-bit biases: (what, hint)."""
    if not np.issubdtype(weight.dtype, np.integer):
        yield f"weights are {weight.dtype}, not integers", "quantise them (neuron.quantize_8bit) before export"
        return
    if weight.size == 0:
        yield "has no weights", "check the layer's sizes"
        return
    if weight.min() < WEIGHT_MIN or weight.max() > WEIGHT_MAX:
        yield f"weights span [{weight.min()}, {weight.max()}], Loihi holds [{WEIGHT_MIN}, {WEIGHT_MAX}]", "clamp them in training"
    if (weight & 1).any():
        yield "has odd weights; a mixed-sign synapse drops the lowest bit", "quantise in steps of 2 (neuron.quantize_8bit)"
    if bias.shape != (outputs,):
        yield f"bias has shape {bias.shape}, needs ({outputs},)", "give one bias for each output channel"
    elif np.abs(bias).max(initial=0) > 4095:
        yield f"bias {int(np.abs(bias).max())} exceeds its 13-bit mantissa (4095)", "lower the bias or rescale the layer"


def pair(padding: Padding) -> tuple[int, int]:
    """Padding (rows, columns); one number stands for both."""
    return (padding, padding) if isinstance(padding, int | np.integer) else (int(padding[0]), int(padding[1]))


def windows(x: np.ndarray, grid: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding) -> np.ndarray:
    """Patches of a map [batch, positions, channels] as [batch, out positions, kh * kw * channels], zero padded."""
    b, _, c = x.shape
    h, w = grid
    above, left = pair(padding)
    framed = np.zeros((b, h + 2 * above, w + 2 * left, c), x.dtype)
    framed[:, above : above + h, left : left + w] = x.reshape(b, h, w, c)
    view = np.lib.stride_tricks.sliding_window_view(framed, kernel, axis=(1, 2))[:, ::stride, ::stride]  # type: ignore[call-overload]
    return np.ascontiguousarray(view.transpose(0, 1, 2, 4, 5, 3)).reshape(b, view.shape[1] * view.shape[2], -1)


def out_grid(grid: tuple[int, int], kernel: tuple[int, int], stride: int, padding: Padding) -> tuple[int, int]:
    """Height and width after a convolution."""
    return tuple((g + 2 * p - k) // stride + 1 for g, p, k in zip(grid, pair(padding), kernel))  # type: ignore[return-value]


def conv_current(x: np.ndarray, weight: np.ndarray, grid: tuple[int, int], stride: int, padding: Padding, groups: int) -> np.ndarray:
    """Weighted sums [batch, out positions, out channels], float32 holding integers; weight is [out, in / groups, kh, kw]."""
    out, per, kh, kw = weight.shape
    b, _, c = x.shape
    if (kh, kw, stride, padding, groups) == (1, 1, 1, 0, 1):
        return x.astype(np.float32) @ weight.reshape(out, per).T.astype(np.float32)
    patches = windows(x.astype(np.float32), grid, (kh, kw), stride, padding)
    patches = patches.reshape(b, -1, kh * kw, groups, c // groups)
    rows = weight.transpose(0, 2, 3, 1).reshape(groups, out // groups, kh * kw * per).astype(np.float32)
    parts = [patches[:, :, :, g].reshape(b, patches.shape[1], -1) @ rows[g].T for g in range(groups)]
    return parts[0] if groups == 1 else np.concatenate(parts, -1)


def conv_fanout(weight: np.ndarray, grid: tuple[int, int], stride: int, padding: Padding, groups: int) -> np.ndarray:
    """Non-zero synapses that leave each input neuron, int64 [positions, in channels]; border taps that miss do not count."""
    out, per, kh, kw = weight.shape
    taps = (weight != 0).reshape(groups, out // groups, per, kh, kw).sum(1).reshape(groups * per, kh, kw)
    h, w = grid
    oh, ow = out_grid(grid, (kh, kw), stride, padding)
    above, left = pair(padding)
    fan = np.zeros((h + 2 * above, w + 2 * left, groups * per), np.int64)
    for dy in range(kh):
        for dx in range(kw):
            fan[dy : dy + stride * oh : stride, dx : dx + stride * ow : stride] += taps[:, dy, dx]
    return fan[above : above + h, left : left + w].reshape(h * w, -1)


def conv_targets(
    weight: np.ndarray, grid: tuple[int, int], stride: int, padding: Padding, groups: int, p: int, c: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Synapses of one input neuron (position p, channel c): yields (out position, out channels [n], weights [n])."""
    out, per, kh, kw = weight.shape
    oh, ow = out_grid(grid, (kh, kw), stride, padding)
    y, x = divmod(p, grid[1])
    above, left = pair(padding)
    group, lane = divmod(c, per)
    first = group * (out // groups)
    channels = np.arange(first, first + out // groups)
    for dy in range(kh):
        for dx in range(kw):
            oy, rest_y = divmod(y + above - dy, stride)
            ox, rest_x = divmod(x + left - dx, stride)
            if rest_y == rest_x == 0 and 0 <= oy < oh and 0 <= ox < ow:
                w = weight[channels, lane, dy, dx]
                yield oy * ow + ox, channels[w != 0], w[w != 0]


def accumulate_conv(
    alu: Alu, x: np.ndarray, weight: np.ndarray, grid: tuple[int, int], stride: int, padding: Padding, groups: int
) -> np.ndarray:
    """The same sums for one sample [positions, channels], one event after the other: a value n is n unit events."""
    oh, ow = out_grid(grid, weight.shape[2:], stride, padding)
    acc = np.zeros((oh * ow, len(weight)), np.int64)
    for p, c in zip(*np.nonzero(x)):
        synapses = list(conv_targets(weight, grid, stride, padding, groups, p, c))
        for _ in range(int(x[p, c])):
            for target, channels, w in synapses:
                alu.add(acc, (target, channels), w)
    return acc


def accumulate_each(alu: Alu, sources: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Values of the first sample, fed one to one: each event is one accumulate of its value."""
    acc = np.zeros(shape, np.int64)
    for x in sources:
        where = np.nonzero(x[0])
        alu.add(acc, where, x[0][where])
    return acc


def memory(weight: np.ndarray, in_grid: tuple[int, int], stride: int, padding: Padding, groups: int) -> tuple[int, int]:
    """(unrolled non-zero synapses, weight bits stored once)."""
    return int(conv_fanout(weight, in_grid, stride, padding, groups).sum()), 8 * weight.size
